from typing import Any

import cv2
import numpy as np
import pytest

from edgecell.edge.analyse.pipeline import (
    CellResult,
    ClassScore,
    FrameAnalyser,
    FrameResult,
)
from edgecell.edge.show.overlay import (
    annotate,
    caption,
    cell_in_crop,
    colour_of,
    label_of,
)
from edgecell.edge.sources import SAMPLES
from edgecell.edge.sources.base import Frame
from edgecell.edge.sources.still import read_image
from edgecell.image.preprocess import Bgr
from edgecell.image.records import Box
from edgecell.model.classifier import Classifier
from edgecell.model.modelfile import bundled_model
from tests.factories import cell_result

GREY = Bgr(np.full((240, 320, 3), 180, np.uint8))


def cell(box: Box, heat: float | None = 1.0, **changes: Any) -> CellResult:
    return cell_result(box, heat=heat, **changes)


def shown(
    *cells: CellResult,
    frame: Bgr = GREY,
    name: str = "f.jpg",
    time_s: float | None = None,
    red_cell_px: float | None = 40.0,
) -> Bgr:
    moment = Frame(0, time_s, frame, name)
    return annotate(FrameResult(moment, cells, red_cell_px=red_cell_px))


def test_the_frame_keeps_its_pixels_outside_of_what_is_drawn() -> None:
    picture = shown(cell(Box(100, 100, 160, 150)))
    assert picture.dtype == np.uint8
    assert picture.shape[1] == 320
    assert picture.shape[0] > 240, "legend and caption have a strip of their own"
    assert (picture[:70, :] == 180).all()
    assert (picture[160:240, :] == 180).all()
    assert (picture[70:160, 90:180] != 180).any()
    assert (GREY == 180).all(), "the frame itself is left alone"


def test_a_frame_without_cells_is_left_as_it_was() -> None:
    picture = shown()
    assert np.array_equal(picture[:240], GREY)
    assert picture[240:].min() < 100, "dark letters"


@pytest.mark.parametrize(
    ("shape", "boxes"),
    [
        ((17, 17), [Box(2, 2, 9, 9)]),
        ((20, 900), [Box(0, 0, 20, 20), Box(880, 0, 900, 20)]),
        ((900, 20), [Box(0, 0, 20, 20)]),
        ((2000, 3000), [Box(0, 0, 3000, 2000)]),
    ],
)
def test_frames_of_any_shape_can_be_annotated(
    shape: tuple[int, int], boxes: list[Box]
) -> None:
    frame = Bgr(np.full((*shape, 3), 200, np.uint8))
    for red_cell_px in (None, 5.0, 700.0):
        cells = [cell(box) for box in boxes]
        picture = shown(*cells, frame=frame, name="n" * 80, red_cell_px=red_cell_px)
        assert picture.shape[1] == shape[1]
        assert picture.shape[0] > shape[0]


@pytest.fixture(scope="module")
def judged() -> FrameResult:
    image = read_image(SAMPLES / "frames" / "bccd_1.jpg")
    analyser = FrameAnalyser(Classifier(bundled_model()), None)
    return analyser.analyse(Frame(0, None, image, "bccd_1.jpg"))


def test_maps_are_lines_within_the_cell_and_can_be_left_out(
    judged: FrameResult,
) -> None:
    height, width = judged.frame.image.shape[:2]
    with_maps, without = (annotate(judged, maps=yes)[:height] for yes in (True, False))
    changed = (with_maps != without).any(axis=2)
    allowed = np.zeros((height, width), np.uint8)
    for one in judged.cells:
        crop, where = one.crop, cell_in_crop(one)
        x0, y0 = max(0, crop.x0), max(0, crop.y0)
        x1, y1 = min(width, crop.x1), min(height, crop.y1)
        inside = where[y0 - crop.y0 : y1 - crop.y0, x0 - crop.x0 : x1 - crop.x0]
        allowed[y0:y1, x0:x1] |= inside
    wide = cv2.dilate(allowed, np.ones((5, 5), np.uint8)) > 0
    assert changed.any()
    assert not (changed & ~wide).any(), "no line beside a cell"
    assert changed.sum() / allowed.sum() < 0.35, "the chromatin can be seen"


def test_a_map_stays_near_its_box(judged: FrameResult) -> None:
    for one in judged.cells:
        box, crop = one.record.box, one.crop
        y, x = np.nonzero(cell_in_crop(one))
        assert len(y)
        reach = 0.25 * max(box.width, box.height) + 1
        assert x.min() + crop.x0 >= box.x0 - reach
        assert x.max() + crop.x0 <= box.x1 + reach
        assert y.min() + crop.y0 >= box.y0 - reach
        assert y.max() + crop.y0 <= box.y1 + reach


def test_what_no_colour_tells_is_an_oval_in_its_box() -> None:
    box, crop = Box(40, 40, 80, 60), Box(0, 0, 112, 112)
    seen = np.full((112, 112, 3), 230, np.uint8)
    where = cell_in_crop(cell_result(box, crop, seen=seen))
    assert where.sum() == pytest.approx(np.pi / 4 * 40 * 20, rel=0.1)
    assert where[50, 60]
    assert not where[41, 41]


def test_labels_say_number_class_confidence_and_cut() -> None:
    box = Box(0, 0, 20, 20)
    whole, cut = cell(box), cell(box, cut_by_border=True)
    platelet = cell(box, kind="platelet", top=(ClassScore("PLT", 0.874),))
    assert label_of(whole) == "SNE 97%"
    assert label_of(whole, 12) == "12 SNE 97%"
    assert label_of(cut) == "SNE 97% cut"
    assert label_of(platelet) == "PLT 87%"
    assert label_of(cut, 3, to_review=True) == "3 SNE 97% cut ?"
    assert label_of(cell(box, gate="out of focus"), 4) == "4 out of focus"
    assert len({colour_of(c) for c in (whole, cut, platelet)}) == 3


def test_labels_can_be_read() -> None:
    """Dark letters on each label's colour: a contrast of 4.5 or more (WCAG)."""

    def luminance(bgr: tuple[int, int, int]) -> float:
        linear = [float(((v / 255 + 0.055) / 1.055) ** 2.4) for v in bgr]
        return 0.0722 * linear[0] + 0.7152 * linear[1] + 0.2126 * linear[2]

    box = Box(0, 0, 20, 20)
    for one in (cell(box), cell(box, kind="platelet"), cell(box, cut_by_border=True)):
        lightness = luminance(colour_of(one)) + 0.05
        assert lightness / (luminance((20, 20, 20)) + 0.05) > 4.5


def crowd() -> list[CellResult]:
    """So many cells that no label has room."""
    corners = [(x, y) for x in range(0, 320, 20) for y in (0, 20, 40)]
    return [cell(Box(x, y, x + 18, y + 18)) for x, y in corners]


def test_cells_without_room_for_a_label_are_listed_below_a_still() -> None:
    low, cells = Bgr(GREY[:60]), crowd()
    assert len(shown(*cells, frame=low)) > len(shown(cells[0], frame=low))


@pytest.mark.parametrize("width", [320, 2000])
def test_pictures_of_a_film_have_one_size(width: int) -> None:
    frame = Bgr(np.full((240, width, 3), 180, np.uint8))
    cells = crowd()
    sizes = {
        shown(*some, frame=frame, time_s=1.0, red_cell_px=px).shape
        for some in ([], cells[:1], cells)
        for px in (38.0, 40.0, 41.0)
    }
    assert len(sizes) == 1


def test_letters_grow_with_the_picture() -> None:
    def strip(width: int) -> int:
        frame = Bgr(np.full((width // 2, width, 3), 180, np.uint8))
        return len(shown(frame=frame, red_cell_px=80.0)) - width // 2

    assert strip(7680) > 1.5 * strip(3840)


def test_a_picture_survives_the_jpeg() -> None:
    ok, data = cv2.imencode(".jpg", shown(cell(Box(100, 100, 160, 150))))
    assert ok
    assert cv2.imdecode(data, cv2.IMREAD_COLOR) is not None


def test_captions_are_ascii() -> None:
    frame = Frame(3, 1.25, GREY, "Präparat.avi")
    assert caption(FrameResult(frame, ())) == "Pr?parat.avi, frame 3, 1.2 s"
