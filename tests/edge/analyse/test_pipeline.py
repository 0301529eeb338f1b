from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from edgecell.classes import CODES
from edgecell.edge.analyse import pipeline
from edgecell.edge.analyse.pipeline import (
    FrameAnalyser,
)
from edgecell.edge.find.localise import Localiser, Seen
from edgecell.edge.find.quality import NO_SCALE
from edgecell.edge.find.tiles import Detection
from edgecell.edge.sources import SAMPLES
from edgecell.edge.sources.address import Frame
from edgecell.edge.sources.still import read_image
from edgecell.errors import InputError
from edgecell.image.preprocess import (
    Bgr,
    Preprocessing,
    cell_image,
    crop_square,
    network_view,
    square,
    to_rgb,
    white_gains,
)
from edgecell.image.records import Box
from edgecell.model.classifier import Classifier, Prediction, map_residual
from edgecell.model.modelfile import bundled_model

PREP = Preprocessing(
    input_size=64,
    crop_fraction=0.5,
    crop_red_cells=2.0,
    white_percentile=95.0,
    white_level=240.0,
    mean=(128, 128, 128),
    std=(64, 64, 64),
)
BLANK = Bgr(np.full((200, 300, 3), 230, np.uint8))


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier(bundled_model())


def frame(index: int = 0, time_s: float | None = None, name: str = "f.jpg") -> Frame:
    return Frame(index, time_s, BLANK, name)


def detection(*box: int, kind: str = "white", cut: bool = False) -> Detection:
    return Detection(Box(*box), kind, cut, 0.9)


@pytest.mark.parametrize(
    "path", sorted((SAMPLES / "frames").iterdir()), ids=lambda p: p.stem
)
def test_records_of_real_frames_hold_together(
    path: Any, classifier: Classifier
) -> None:
    image = read_image(path)
    result = FrameAnalyser(classifier, None).analyse(Frame(4, None, image, path.name))
    assert result.cells, "every sample frame shows a white cell"
    assert (result.frame.index, result.frame.name) == (4, path.name)
    assert result.locate_ms > 0
    for cell in result.cells:
        record, box = cell.record, cell.record.box
        assert 0 <= box.x0 < box.x1 <= image.shape[1]
        assert 0 <= box.y0 < box.y1 <= image.shape[0]
        scores = [score.probability for score in record.top]
        assert scores == sorted(scores, reverse=True)
        assert 0 < sum(scores) <= 1 + 1e-6
        assert {score.code for score in record.top} <= set(CODES)
        assert len(scores) == 3
        # Quantised maps and logits can each be off by a step or so.
        assert record.integrity <= 2 * classifier.logit_step + 1e-3
        assert record.classify_ms > 0
        assert cell.heat is not None
        assert cell.heat.min() >= 0
        assert cell.heat.max() <= 1
        sides = classifier.record.preprocessing.crop_red_cells * record.red_cell_px
        assert cell.crop.width == cell.crop.height == pytest.approx(sides, abs=2)


@pytest.mark.parametrize(("px", "warned"), [(30.0, True), (100.0, False)])
def test_a_scale_is_doubted_that_the_frame_contradicts(
    classifier: Classifier, px: float, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    analyser = FrameAnalyser(classifier, px)
    for index in range(2):
        image = read_image(SAMPLES / "frames" / "bccd_1.jpg")
        analyser.find(Frame(index, None, image, "bccd_1.jpg"))
    said = [r.getMessage() for r in caplog.records if "as given" in r.getMessage()]
    assert len(said) == warned
    if warned:
        assert "30 px across, as given" in said[0]


def test_a_known_scale_sets_the_crop(classifier: Classifier) -> None:
    image = read_image(SAMPLES / "frames" / "bccd_1.jpg")
    result = FrameAnalyser(classifier, 100.0).analyse(Frame(0, None, image, "f"))
    side = round(100 * classifier.record.preprocessing.crop_red_cells)
    assert {cell.crop.width for cell in result.cells} == {side}


@pytest.mark.parametrize("shape", [(1, 1), (8, 500), (200, 300)])
def test_a_frame_without_cells_has_no_records(
    classifier: Classifier, shape: tuple[int, int]
) -> None:
    blank = Bgr(np.full((*shape, 3), 220, np.uint8))
    result = FrameAnalyser(classifier, None).analyse(Frame(0, None, blank, "f"))
    assert result.cells == ()


@pytest.mark.parametrize("px", [0.0, -3.0, 1e9, float("nan"), float("inf")])
def test_impossible_scales_are_refused(classifier: Classifier, px: float) -> None:
    with pytest.raises(InputError, match="red cell"):
        FrameAnalyser(classifier, px)


def test_the_network_sees_rgb(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[np.ndarray] = []

    def classify(images: list[np.ndarray], features: bool) -> list[Prediction]:
        seen.extend(images)
        maps, logits = np.zeros((2, 2, 12), np.float32), np.zeros(12, np.float32)
        return [Prediction(CODES, logits, np.full(12, 1 / 12), maps) for _ in images]

    record = SimpleNamespace(
        preprocessing=PREP, head_bias=(0.0,) * 12, microscopes=(), attributes=None
    )
    fake = cast(Classifier, SimpleNamespace(record=record, classify_all=classify))
    image = Bgr(np.full((200, 200, 3), 240, np.uint8))
    image[60:140, 60:140] = (200, 100, 50)  # B, G, R
    seeing = Seen([detection(60, 60, 140, 140)], None)
    localiser = cast(Localiser, SimpleNamespace(look=lambda *_: seeing))
    for gate in ("frame_gate", "cell_gate"):
        monkeypatch.setattr(pipeline, gate, lambda _: None)
    FrameAnalyser(fake, 30.0, localiser).analyse(Frame(0, None, image, "f"))
    assert seen[0].shape == (64, 64, 3)
    assert tuple(seen[0][32, 32]) == (50, 100, 200)


def test_frame_and_training_image_look_alike_to_the_network() -> None:
    image = read_image(SAMPLES / "cells" / "EO_1.jpg")
    height, width = image.shape[:2]
    assert height == width
    side = PREP.crop_fraction * height
    crop = square((width / 2, height / 2), side)
    gains = white_gains(image, PREP.white_percentile, PREP.white_level)
    pixels = crop_square(image, crop.centre, crop.width)
    assert np.array_equal(
        to_rgb(network_view(pixels, gains, PREP.input_size)),
        cell_image(to_rgb(image), PREP),
    )


def test_a_crop_beyond_the_border_is_mirrored() -> None:
    image = np.full((50, 50, 3), 200, np.uint8)
    crop = square((0.0, 49.0), 40.0)
    assert crop == Box(-20, 29, 20, 69)
    pixels = crop_square(image, crop.centre, crop.width)
    view = network_view(pixels, np.ones(3), PREP.input_size)
    assert (view == 200).all()


def test_maps_that_add_up_to_the_logits_leave_no_residual() -> None:
    maps = np.zeros((2, 2, 2), np.float32)
    maps[..., 0] = [[1, 2], [3, 6]]  # mean 3
    maps[0, 0, 1] = -4  # mean -1
    logits = np.array([3.5, -1.25], np.float32)
    prediction = Prediction(("A", "B"), logits, np.array([1.0, 0.0]), maps)
    assert map_residual(prediction, (0.5, -0.25)) == pytest.approx(0)
    assert map_residual(prediction, (0.5, 0.5)) == pytest.approx(0.75)
    odd = replace(prediction, logits=np.array([np.nan, 0], np.float32))
    assert map_residual(odd, (0.5, 0.5)) == np.inf


def test_a_frame_without_red_cells_is_not_judged(classifier: Classifier) -> None:
    image = Bgr(np.full((300, 400, 3), 225, np.uint8))
    for x in range(0, 400, 20):  # stripes: in focus, stained, and no cells
        image[:, x : x + 6] = (190, 120, 150)
    result = FrameAnalyser(classifier, None).analyse(Frame(0, None, image, "f"))
    assert (result.gate, result.cells, result.red_cell_px) == (NO_SCALE, (), None)
    told = FrameAnalyser(classifier, 60.0).analyse(Frame(0, None, image, "f"))
    assert (told.gate, told.red_cell_px) == (None, 60.0)


def test_frames_of_a_video_are_looked_at_with_the_scale_of_those_before(
    classifier: Classifier,
) -> None:
    expected = []

    def look(_: Bgr, red_cell_px: float | None, small: Bgr) -> Seen:
        assert small.shape == (192, 256, 3)
        expected.append(red_cell_px)
        return Seen([detection(200, 150, 330, 280)], 100.0 + 2 * len(expected))

    localiser = cast(Localiser, SimpleNamespace(look=look))
    analyser = FrameAnalyser(classifier, None, localiser)
    image = read_image(SAMPLES / "frames" / "bccd_1.jpg")
    found = [analyser.find(Frame(i, i / 30, image, "film")) for i in range(3)]
    assert expected == [None, 102.0, 103.0]
    assert [one.red_cell_px for one in found] == [102.0, 103.0, 104.0]
    for one, px in zip(found, (102, 103, 104), strict=True):
        side = classifier.record.preprocessing.crop_red_cells * px
        assert one.cells[0].crop.width == pytest.approx(side, abs=1)


def test_fields_without_red_cells_keep_the_scale_of_the_film(
    classifier: Classifier,
) -> None:
    """Where a film shows none, its white cells are looked for at the scale so far."""

    def look(_: Bgr, red_cell_px: float | None, small: Bgr) -> Seen:
        looks.append(red_cell_px)
        shown = len(looks) == 1
        if red_cell_px is None and not shown:
            return Seen([], None)
        return Seen([detection(200, 150, 330, 280)], 100.0 if shown else None)

    looks: list[float | None] = []
    analyser = FrameAnalyser(
        classifier, None, cast(Localiser, SimpleNamespace(look=look))
    )
    image = read_image(SAMPLES / "frames" / "bccd_1.jpg")
    found = [analyser.find(Frame(i, i / 30, image, "film")) for i in range(4)]
    assert [one.red_cell_px for one in found] == [100.0] * 4
    assert [len(one.cells) for one in found] == [1] * 4


def test_a_given_scale_is_compared_once(classifier: Classifier) -> None:
    def look(_: Bgr, red_cell_px: float | None, small: Bgr) -> Seen:
        looks.append(red_cell_px)
        return Seen([], None)

    looks: list[float | None] = []
    analyser = FrameAnalyser(
        classifier, 100.0, cast(Localiser, SimpleNamespace(look=look))
    )
    image = read_image(SAMPLES / "frames" / "bccd_1.jpg")
    for index in range(3):
        analyser.find(Frame(index, None, image, "bccd_1.jpg"))
    assert looks == [None, 100.0, 100.0, 100.0]
