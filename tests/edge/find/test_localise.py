from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgecell.edge.find.localise import Detection, locate, red_cell_diameter

Image = NDArray[np.uint8]
Point = tuple[int, int]
Colour = tuple[int, int, int]

GLASS, RED_CELL = (215, 225, 230), (165, 150, 195)
NUCLEUS, CYTOPLASM = (150, 50, 100), (205, 165, 190)
RED_PX = 50
"""Diameter of the drawn red cells."""

RED_CENTRES = [
    (40, 45), (130, 40), (225, 50), (320, 38), (410, 45),
    (45, 330), (140, 345), (230, 335), (325, 345), (415, 330),
]  # fmt: skip


def disc(frame: Image, centre: Point, diameter: int, colour: Colour) -> None:
    cv2.circle(frame, centre, diameter // 2, colour, -1, cv2.LINE_AA)


def field(
    width: int = 460, height: int = 380, red_centres: Sequence[Point] = RED_CENTRES
) -> Image:
    """Glass with red cells above and below and room for other cells between."""
    frame = np.full((height, width, 3), GLASS, np.uint8)
    for centre in red_centres:
        disc(frame, centre, RED_PX, RED_CELL)
    return frame


def white_cell(
    frame: Image, centre: Point, nucleus_px: int = 60, cell_px: int = 84
) -> None:
    disc(frame, centre, cell_px, CYTOPLASM)
    disc(frame, centre, nucleus_px, NUCLEUS)


def of_kind(detections: Sequence[Detection], kind: str) -> list[Detection]:
    return [detection for detection in detections if detection.kind == kind]


def only_white(frame: Image) -> Detection:
    (cell,) = of_kind(locate(frame), "white")
    return cell


def test_white_cell_is_found_whole_and_at_its_centre() -> None:
    frame = field()
    white_cell(frame, (230, 190))
    cell = only_white(frame)
    x, y = cell.box.centre
    assert np.hypot(x - 230, y - 190) < 4
    assert 78 <= cell.box.width <= 100
    assert 78 <= cell.box.height <= 100
    assert not cell.cut_by_border
    assert 0.5 < cell.score <= 1


def test_lobes_that_touch_are_one_cell() -> None:
    frame = field()
    disc(frame, (230, 190), 90, CYTOPLASM)
    for centre in [(215, 172), (240, 185), (222, 208)]:
        disc(frame, centre, 32, NUCLEUS)
    x, y = only_white(frame).box.centre
    assert np.hypot(x - 230, y - 190) < 8


def test_lobes_apart_are_one_cell() -> None:
    frame = field()
    disc(frame, (230, 190), 96, CYTOPLASM)
    disc(frame, (205, 190), 34, NUCLEUS)
    disc(frame, (255, 190), 34, NUCLEUS)
    x, y = only_white(frame).box.centre
    assert np.hypot(x - 230, y - 190) < 6


@pytest.mark.parametrize("second", [(286, 190), (230, 246), (270, 230)])
def test_touching_cells_are_two(second: Point) -> None:
    frame = field()
    white_cell(frame, (230, 190), nucleus_px=58, cell_px=62)
    white_cell(frame, second, nucleus_px=58, cell_px=62)
    cells = of_kind(locate(frame), "white")
    assert len(cells) == 2
    for centre in [(230, 190), second]:
        assert min(np.hypot(*np.subtract(c.box.centre, centre)) for c in cells) < 10


def test_platelet_is_not_a_white_cell() -> None:
    frame = field()
    white_cell(frame, (150, 190))
    disc(frame, (320, 190), 20, NUCLEUS)
    detections = locate(frame)
    (platelet,) = of_kind(detections, "platelet")
    assert len(of_kind(detections, "white")) == 1
    assert np.hypot(*np.subtract(platelet.box.centre, (320, 190))) < 3
    assert 18 <= platelet.box.width <= 34


@pytest.mark.parametrize(
    "centre", [(0, 190), (459, 190), (5, 190), (230, 379)], ids=str
)
def test_cell_cut_by_the_border_is_marked(centre: Point) -> None:
    frame = field(red_centres=RED_CENTRES[:5])
    white_cell(frame, centre)
    assert only_white(frame).cut_by_border


def test_box_stays_within_the_frame() -> None:
    frame = field()
    white_cell(frame, (0, 190))
    box = only_white(frame).box
    assert box.x0 == 0
    assert 0 <= box.y0 < box.y1 <= 380


def test_field_of_red_cells_gives_nothing() -> None:
    assert locate(field()) == []


@pytest.mark.parametrize("level", [0, 128, 255])
def test_blank_frame_gives_nothing(level: int) -> None:
    frame = np.full((240, 320, 3), level, np.uint8)
    assert locate(frame) == []
    assert red_cell_diameter(frame) is None


def test_grey_frame_gives_nothing() -> None:
    frame = field()
    white_cell(frame, (230, 190))
    grey = cv2.cvtColor(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    assert locate(np.asarray(grey, np.uint8)) == []


@pytest.mark.parametrize("shape", [(1, 1, 3), (8, 200, 3), (15, 15, 3)])
def test_tiny_frame_gives_nothing(shape: tuple[int, ...]) -> None:
    frame = np.zeros(shape, np.uint8)
    assert locate(frame) == []
    assert red_cell_diameter(frame) is None


@pytest.mark.parametrize("shape", [(16, 16, 3), (17, 900, 3), (33, 31, 3)])
def test_odd_frames_do_not_fail(shape: tuple[int, ...]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    locate(noise)
    red_cell_diameter(noise)


@pytest.mark.parametrize("factor", [0.3, 0.6, 1.0, 2.5, 8.0])
def test_red_cells_are_measured_at_any_magnification(factor: float) -> None:
    frame = field()
    white_cell(frame, (230, 190))
    size = (round(460 * factor), round(380 * factor))
    frame = np.asarray(cv2.resize(frame, size), np.uint8)
    # labels are drawn wider than the stain, so that the estimate may be above
    assert red_cell_diameter(frame) == pytest.approx(RED_PX * factor, rel=0.2)


@pytest.mark.parametrize(("columns", "rows"), [(4, 4), (13, 2), (17, 9)])
def test_small_cells_in_a_large_frame_are_found_once(columns: int, rows: int) -> None:
    tile = field()
    white_cell(tile, (230, 190))
    disc(tile, (330, 190), 20, NUCLEUS)
    frame = np.tile(tile, (rows, columns, 1))
    assert red_cell_diameter(frame) == pytest.approx(RED_PX, rel=0.2)
    found = locate(frame, RED_PX)
    for kind, x, y in (("white", 230, 190), ("platelet", 330, 190)):
        centres = np.array([one.box.centre for one in of_kind(found, kind)])
        assert len(centres) == columns * rows
        for i in range(columns):
            for j in range(rows):
                away = centres - (460 * i + x, 380 * j + y)
                assert np.hypot(*away.T).min() < 4


def test_a_cell_on_a_seam_is_found_once_and_whole() -> None:
    frame = np.tile(field(), (1, 4, 1))  # 1840 px wide: a seam at 920
    for x in (905, 920, 930):
        cell = frame.copy()
        white_cell(cell, (x, 190))
        box = only_white(cell).box
        assert abs(box.centre[0] - x) < 4
        assert box.width >= 78


def test_what_shows_no_red_cells_has_no_scale() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (700, 900, 3), np.uint8)
    stripes = np.full((700, 900, 3), GLASS, np.uint8)
    stripes[:, ::40] = RED_CELL
    for frame in (noise, stripes, np.full((700, 900, 3), GLASS, np.uint8)):
        assert red_cell_diameter(frame) is None
        assert locate(frame) == []


def test_known_scale_replaces_the_estimate() -> None:
    frame = field(red_centres=[])
    disc(frame, (230, 190), 40, NUCLEUS)
    (detection,) = locate(frame, red_cell_px=30.0)
    assert detection.kind == "white"
    (detection,) = locate(frame, red_cell_px=120.0)
    assert detection.kind == "platelet"


def test_detections_come_by_descending_score() -> None:
    frame = field()
    white_cell(frame, (150, 190))
    disc(frame, (250, 190), 16, NUCLEUS)
    disc(frame, (330, 190), 22, NUCLEUS)
    scores = [detection.score for detection in locate(frame)]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)


def test_frame_is_left_as_it_was() -> None:
    frame = field()
    white_cell(frame, (230, 190))
    before = frame.copy()
    locate(frame)
    assert np.array_equal(frame, before)


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((64, 64), np.uint8),
        np.zeros((64, 64, 4), np.uint8),
        np.zeros((64, 64, 3), np.float32),
    ],
    ids=["grey", "alpha", "float"],
)
def test_wrong_frames_are_refused(frame: Image) -> None:
    with pytest.raises(ValueError, match="uint8 of shape"):
        locate(frame)


@pytest.mark.parametrize("diameter", [0.0, -1.0, float("nan")])
def test_wrong_scale_is_refused(diameter: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        locate(field(), red_cell_px=diameter)
