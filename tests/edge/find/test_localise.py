"""The way from frames to working images and back, with a finder that sees colours."""

import cv2
import numpy as np
import pytest

from edgecell.edge.find.finder import Points
from edgecell.edge.find.localise import Localiser, Seen, red_cell_px
from edgecell.image.preprocess import Bgr

SIDE = 256
BLUE, RED, GREEN = (200, 40, 40), (60, 60, 200), (40, 170, 40)
COLOURS = (BLUE, RED, GREEN)


def by_colour(image: Bgr) -> Points:
    """Discs by their colour; what is too small or too large it does not see."""
    kinds, boxes = [], []
    for kind, colour in enumerate(COLOURS):
        away = np.abs(image.astype(int) - colour).sum(2)
        _, _, stats, _ = cv2.connectedComponentsWithStats((away < 60).astype(np.uint8))
        for x, y, width, height, _ in stats[1:]:
            if 8 <= width <= 200:
                kinds.append(kind)
                boxes.append((x + width / 2, y + height / 2, width, height))
    return Points(
        np.array(kinds, int),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.full(len(kinds), 0.9, np.float32),
    )


def look(frame: Bgr) -> Seen:
    return Localiser(by_colour, SIDE).look(frame)


def field(height: int, width: int, red: int) -> Bgr:
    """Red discs of a size, two of them apart, and glass."""
    frame = np.full((height, width, 3), 230, np.uint8)
    for y in range(2 * red, height - red, 3 * red):
        for x in range(2 * red, width - red, 3 * red):
            cv2.circle(frame, (x, y), red // 2, RED, -1)
    return Bgr(frame)


def paint(frame: Bgr, x: int, y: int, size: int, colour: tuple[int, int, int]) -> None:
    cv2.circle(frame, (x, y), size // 2, colour, -1)


@pytest.mark.parametrize(
    ("height", "width", "red"),
    [
        (900, 1200, 100),
        (480, 640, 60),  # smaller than the network is sure of at first sight
        (200, 220, 16),  # enlarged
        (2000, 3000, 60),  # many tiles
    ],
)
def test_cells_and_scale_of_any_frame(height: int, width: int, red: int) -> None:
    frame = field(height, width, red)
    white = [(width // 4, height // 2), (3 * width // 4, height // 2)]
    for x, y in white:
        paint(frame, x, y, 2 * red, BLUE)
    paint(frame, width // 2, height // 3, max(8, red // 2), GREEN)
    seen = look(frame)
    assert seen.red_cell_px == pytest.approx(red, rel=0.12)
    found = [d for d in seen.detections if d.kind == "white"]
    centres = np.array(sorted(d.box.centre for d in found))
    assert centres == pytest.approx(np.array(sorted(white)), abs=red / 8)
    assert all(d.box.width == pytest.approx(2 * red, rel=0.15) for d in found)
    assert [d.kind for d in seen.detections].count("platelet") == 1


def test_a_cell_at_the_edge_is_cut() -> None:
    frame = field(480, 640, 100)
    paint(frame, 30, 240, 200, BLUE)
    paint(frame, 400, 240, 200, BLUE)
    cut = {d.box.x0 == 0: d.cut_by_border for d in look(frame).detections}
    assert cut == {True: True, False: False}


def test_no_red_cells_give_nothing() -> None:
    glass = Bgr(np.full((480, 640, 3), 230, np.uint8))
    assert look(glass) == Seen([], None)
    paint(glass, 300, 200, 150, BLUE)
    assert look(glass) == Seen([], None)
    assert look(Bgr(np.zeros((8, 300, 3), np.uint8))) == Seen([], None)


def test_red_cells_count_by_their_diameter_and_others_shapes_do_not() -> None:
    sizes = [10, 10, 10, 10, 40, 40, 50]
    boxes = [
        (100 + 60 * (i % 3), 60 + 60 * (i // 3), s, s) for i, s in enumerate(sizes)
    ]
    boxes += [(20, 60, 40, 40), (20, 160, 44, 44)]  # the edge cuts both
    boxes += [(200, 250, 30, 60), (120, 250, 60, 30)]  # others hide parts of them
    points = Points(
        np.ones(len(boxes), int),
        np.array(boxes, np.float32),
        np.full(len(boxes), 0.9, np.float32),
    )
    # 10 x 4 + 40 x 2 + 50 = 170 pixels: half are in cells of at most 40
    assert red_cell_px(points, 256, 300) == 40
    few = Points(points.kinds[:1], points.boxes[:1], points.scores[:1])
    assert red_cell_px(few, 256, 300) is None
    # The edge leaves 34 of 44 pixels of one: its longer side is its diameter.
    cut = np.array([(100, 60, 40, 40), (17, 160, 34, 44), (5, 90, 10, 40)], np.float32)
    left = Points(np.ones(3, int), cut, np.full(3, 0.9, np.float32))
    assert red_cell_px(left, 256, 300) == 44


def test_a_known_scale_is_not_searched() -> None:
    seen: list[tuple[int, ...]] = []

    def finder(image: Bgr) -> Points:
        seen.append(image.shape[:2])
        return by_colour(image)

    frame = field(480, 640, 60)  # 24 pixels in a working image: it may do
    found = Localiser(finder, SIDE).look(frame, 100.0)
    assert seen == [(192, 256)]
    assert found.red_cell_px == pytest.approx(60, rel=0.12)  # as it was seen
    paint(frame, 320, 240, 120, BLUE)
    glass = Bgr(np.full((480, 640, 3), 230, np.uint8))
    paint(glass, 320, 240, 150, BLUE)
    (cell,) = Localiser(finder, SIDE).look(glass, 90.0).detections
    assert cell.box.width == pytest.approx(150, abs=8)


def test_dots_of_a_wide_field_are_not_taken_for_red_cells() -> None:
    """A finder that takes anything for red cells of 40 pixels gives no scale."""

    def anything(image: Bgr) -> Points:
        boxes = [(x, 60, 40, 40) for x in (50, 100, 150)]
        return Points(
            np.ones(3, int), np.array(boxes, np.float32), np.full(3, 0.9, np.float32)
        )

    glass = Bgr(np.full((1500, 2000, 3), 230, np.uint8))
    assert Localiser(anything, SIDE).look(glass) == Seen([], None)


def test_a_scale_that_was_searched_for_is_told() -> None:
    """Red cells too small for the first look are measured by the second one."""
    frame = field(480, 640, 18)
    paint(frame, 320, 240, 40, BLUE)
    seen = look(frame)
    assert seen.red_cell_px == pytest.approx(18, rel=0.15)
    assert [d.kind for d in seen.detections] == ["white"]


def test_a_cell_on_a_seam_is_found_once_and_whole() -> None:
    red = 40
    frame = field(1200, 3000, red)
    seams = [round(n * 20 * red) for n in (1, 2, 3)]
    for x in seams:
        paint(frame, x, 600, 2 * red, BLUE)
    found = Localiser(by_colour, SIDE).look(frame, float(red)).detections
    white = sorted(d.box.centre[0] for d in found if d.kind == "white")
    assert white == pytest.approx(seams, abs=4)
    assert all(d.box.width == pytest.approx(2 * red, rel=0.1) for d in found)


def test_what_is_said_of_a_cell_is_pythons_own() -> None:
    frame = field(480, 640, 100)
    paint(frame, 4, 240, 180, BLUE)
    (cell,) = look(frame).detections
    assert cell.cut_by_border is True
    assert type(cell.score) is float


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((300, 300), np.uint8),
        np.zeros((300, 300, 4), np.uint8),
        np.zeros((300, 300, 3), np.float32),
    ],
)
def test_wrong_frames_are_refused(frame: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8 of shape"):
        look(Bgr(frame))


@pytest.mark.parametrize("diameter", [0.0, -3.0, float("nan")])
def test_wrong_scale_is_refused(diameter: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Localiser(by_colour, SIDE).look(field(480, 640, 100), diameter)
