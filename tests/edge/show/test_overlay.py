from typing import Any

import cv2
import numpy as np
import pytest

from edgecell.edge.analyse.pipeline import CellResult, ClassScore
from edgecell.edge.show.overlay import (
    annotate,
    blend_heat,
    colour_of,
    heat_layer,
    label_of,
    place_labels,
)
from edgecell.image.records import Box
from tests.factories import cell_result

GREY = np.full((240, 320, 3), 180, np.uint8)


def cell(
    box: Box, crop: Box | None = None, heat: float = 1.0, **changes: Any
) -> CellResult:
    return cell_result(box, crop, heat=heat, **changes)


def test_the_frame_keeps_its_pixels_outside_of_what_is_drawn() -> None:
    picture = annotate(GREY, [cell(Box(100, 100, 160, 150))], "f.jpg, frame 0")
    assert picture.dtype == np.uint8
    assert picture.shape[1] == 320
    assert picture.shape[0] > 240, "the caption has a strip of its own"
    assert (picture[:70, :] == 180).all()
    assert (picture[160:240, :] == 180).all()
    assert (picture[70:160, 90:180] != 180).any()
    assert (GREY == 180).all(), "the frame itself is left alone"


def test_a_frame_without_cells_has_the_caption_alone() -> None:
    picture = annotate(GREY, [], "f.jpg")
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
    frame = np.full((*shape, 3), 200, np.uint8)
    picture = annotate(frame, [cell(box) for box in boxes], "n" * 80)
    assert picture.shape[1] == shape[1]
    assert picture.shape[0] > shape[0]


def test_heat_stays_in_its_crop_and_within_the_frame() -> None:
    crop = Box(-20, 200, 40, 260)
    layer = heat_layer((240, 320), [cell(Box(0, 210, 30, 240), crop, 0.5)])
    assert layer.shape == (240, 320)
    assert np.allclose(layer[200:, :40], 0.5)
    assert layer[:200].max() == 0
    assert layer[:, 40:].max() == 0


def test_where_crops_overlap_the_hotter_counts() -> None:
    cells = [
        cell(Box(0, 0, 60, 60), heat=0.8),
        cell(Box(30, 0, 90, 60), heat=0.2),
    ]
    layer = heat_layer((240, 320), cells)
    assert layer[30, 45] == pytest.approx(0.8)
    assert layer[30, 80] == pytest.approx(0.2)


def test_the_hotter_the_more_of_the_colour() -> None:
    def change(heat: float) -> float:
        blended = blend_heat(GREY, [cell(Box(0, 0, 50, 50), heat=heat)])
        return float(np.abs(blended[:50, :50].astype(int) - 180).max())

    assert change(0.0) == 0
    assert 0 < change(0.3) < change(1.0)
    # Viridis ends in yellow: little blue, much green and red.
    b, g, r = blend_heat(GREY, [cell(Box(0, 0, 50, 50))])[25, 25].astype(int)
    assert b < 150
    assert g > 180
    assert r > 180


def overlap(a: Box, b: Box) -> int:
    return max(0, min(a.x1, b.x1) - max(a.x0, b.x0)) * max(
        0, min(a.y1, b.y1) - max(a.y0, b.y0)
    )


@pytest.mark.parametrize(
    "boxes",
    [
        [Box(0, 0, 30, 30)],
        [Box(290, 0, 320, 30), Box(290, 210, 320, 240)],
        [Box(100, 100, 120, 120), Box(105, 100, 125, 120), Box(110, 104, 130, 124)],
        [Box(0, 0, 320, 240)],
    ],
    ids=["corner", "far corners", "crowd", "whole frame"],
)
def test_labels_lie_in_the_frame_and_off_each_other(boxes: list[Box]) -> None:
    places = place_labels(boxes, [(60, 16)] * len(boxes), (240, 320))
    for i, place in enumerate(places):
        assert (place.width, place.height) == (60, 16)
        assert place.x0 >= 0
        assert place.y0 >= 0
        assert place.x1 <= 320
        assert place.y1 <= 240
        assert all(overlap(place, other) == 0 for other in places[:i])


def test_labels_say_class_confidence_and_cut() -> None:
    box = Box(0, 0, 20, 20)
    whole, cut = cell(box), cell(box, cut_by_border=True)
    platelet = cell(box, kind="platelet", top=(ClassScore("PLT", 0.874),))
    assert label_of(whole) == "SNE 97%"
    assert label_of(cut) == "SNE 97% cut"
    assert label_of(platelet) == "PLT 87%"
    assert label_of(cut, to_review=True) == "SNE 97% cut ?"
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


def test_a_picture_survives_the_jpeg() -> None:
    picture = annotate(GREY, [cell(Box(100, 100, 160, 150))], "f.jpg")
    ok, data = cv2.imencode(".jpg", picture)
    assert ok
    assert cv2.imdecode(data, cv2.IMREAD_COLOR) is not None
