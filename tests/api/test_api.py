"""`import edgecell`: light to import, each function used for real, wrong calls told."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import edgecell
from edgecell.classes import CODES
from edgecell.edge.sources.still import read_image
from edgecell.image.preprocess import cell_image, to_rgb
from tests.factories import SAMPLES, tracked

ROOT = Path(__file__).parents[2]
CELL = SAMPLES / "cells" / "MY_1.jpg"
FIELD = SAMPLES / "frames" / "bccd_1.jpg"


@pytest.fixture(scope="module")
def model() -> edgecell.Model:
    return edgecell.open_model()


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_import_pulls_in_nothing() -> None:
    code = (
        "import sys; before = set(sys.modules)\nimport edgecell\n"
        "print(sorted(set(sys.modules) - before))"
    )
    assert python(code) == "['edgecell']\n"


def test_every_name_is_there_and_documented() -> None:
    assert set(edgecell.__all__) <= set(dir(edgecell))
    for name in edgecell.__all__:
        assert getattr(edgecell, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'open_modle'"):
        edgecell.open_modle  # type: ignore[attr-defined]  # noqa: B018


def test_without_the_device_install_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['cv2'] = None\nimport edgecell\n"
        "try: edgecell.open_model()\n"
        "except edgecell.EdgecellError as e: print(e)"
    )
    assert 'pip install ".[edge]"' in python(code)


def test_a_path_and_both_orders_of_an_array_are_the_same_cell(
    model: edgecell.Model,
) -> None:
    bgr = read_image(CELL)
    found = [
        model.classify(CELL),
        model.classify(str(CELL)),
        model.classify(bgr, channels="BGR"),
        model.classify(to_rgb(bgr), channels="RGB"),
    ]
    seen = cell_image(to_rgb(bgr), model.record.preprocessing)
    expected = model.classifier.classify(seen)
    for one in found:
        assert np.array_equal(one.seen, seen)
        assert np.array_equal(one.prediction.logits, expected.logits)
        assert one.code == CODES[expected.index]
        assert one.probability == pytest.approx(expected.probabilities.max())
    wrong = model.classify(bgr, channels="RGB")
    assert not np.array_equal(wrong.prediction.logits, expected.logits)


def test_a_cell_at_another_scale_is_the_same_cell_once_its_scale_is_said(
    model: edgecell.Model,
) -> None:
    """The same field with a wide margin: the crop is the same part of it."""
    image, prep = read_image(CELL), model.record.preprocessing
    h, w = image.shape[:2]
    red_cell_px = prep.crop_fraction * h / prep.crop_red_cells
    wide = cv2.copyMakeBorder(image, h, h, w, w, cv2.BORDER_REFLECT)
    one = model.classify(image, channels="BGR")
    same = model.classify(wide, channels="BGR", red_cell_px=red_cell_px)
    assert same.red_cell_px == pytest.approx(red_cell_px)
    difference = np.abs(one.seen.astype(int) - same.seen.astype(int))
    assert np.median(difference) <= 1
    measured = model.classify(image, channels="BGR", red_cell_px="measure")
    assert measured.red_cell_px == pytest.approx(red_cell_px, rel=0.2)
    other = model.classify(wide, channels="BGR")
    assert np.median(np.abs(one.seen.astype(int) - other.seen.astype(int))) > 5


@pytest.mark.parametrize(
    ("image", "settings", "message"),
    [
        (np.zeros((9, 9, 3), np.uint8), {}, "channels='BGR' for one from OpenCV"),
        (np.zeros((9, 9, 3), np.float32), {"channels": "RGB"}, "255 \\* image"),
        (np.zeros((9, 9, 3), np.uint16), {"channels": "RGB"}, "image >> 8"),
        (np.zeros((9, 9, 3), bool), {"channels": "RGB"}, "0 to 255"),
        (np.zeros((9, 9), np.uint8), {"channels": "RGB"}, "grey"),
        (np.zeros((9, 9, 4), np.uint8), {"channels": "RGB"}, "fourth channel"),
        (np.zeros((2, 9, 9, 3), np.uint8), {"channels": "RGB"}, "one image at a time"),
        (np.zeros((0, 9, 3), np.uint8), {"channels": "RGB"}, "three channels"),
        ([[1, 2]], {"channels": "RGB"}, "a list is not an image"),
        (CELL, {"channels": "RGB"}, "leave out channels"),
        (CELL, {"red_cell_px": "big"}, "pixels or 'measure'"),
        (CELL, {"red_cell_px": 2}, "no red cell is 2 pixels wide"),
        ("nothing.jpg", {}, "nothing.jpg cannot be read"),
        (Path(__file__), {}, "not an image"),
    ],
)
def test_a_wrong_image_says_what_to_do(
    model: edgecell.Model, image: Any, settings: dict[str, Any], message: str
) -> None:
    for call in (model.classify, model.explain):
        with pytest.raises(edgecell.EdgecellError, match=message):
            call(image, **settings)


def test_a_112_pixel_image_is_cut_and_balanced_as_any_other(
    model: edgecell.Model,
) -> None:
    small = cv2.resize(read_image(CELL), (112, 112), interpolation=cv2.INTER_AREA)
    whole, shrunk = model.classify(CELL), model.classify(small, channels="BGR")
    assert shrunk.code == whole.code
    assert shrunk.probability == pytest.approx(whole.probability, abs=0.2)


def test_cells_of_a_frame_by_path_array_and_source(model: edgecell.Model) -> None:
    found = model.find_cells(FIELD)
    assert found.gate is None
    assert found.cells
    again = model.find_cells(read_image(FIELD), channels="BGR")
    assert [c.record.box for c in again.cells] == [c.record.box for c in found.cells]
    with edgecell.open_source(FIELD) as frames:
        (frame,) = [frame for frame in frames if frame is not None]
    assert [c.crop for c in model.find_cells(frame).cells] == [
        c.crop for c in found.cells
    ]
    plain = model.find_cells(SAMPLES / "frames" / "raabin_1.jpg")
    assert () in map(model.reasons, plain.cells), "the rule accepts some"
    assert model.reasons(tracked(0, gate="blurred").result.cells[0]) == ("blurred",)
    larger = model.find_cells(FIELD, red_cell_px=100.0)
    side = round(100 * model.record.preprocessing.crop_red_cells)
    assert {cell.crop.width for cell in larger.cells} == {side}
    with pytest.raises(edgecell.EdgecellError, match="None is not a frame"):
        model.find_cells(None)


def test_an_explanation_of_the_class_or_of_another_one(model: edgecell.Model) -> None:
    named = model.classify(CELL).prediction.index
    assert model.explain(CELL).index == named
    other = model.explain(CELL, "finer-cam", code="SNE")
    assert (other.method, other.index) == ("finer-cam", CODES.index("SNE"))
    assert other.heat.shape == (112, 112)
    with pytest.raises(edgecell.EdgecellError, match="no class 'XYZ'"):
        model.explain(CELL, code="XYZ")
    with pytest.raises(edgecell.EdgecellError, match="is not a method"):
        model.explain(CELL, "saliency")


def test_a_run_and_its_session(tmp_path: Path) -> None:
    class Frames(edgecell.Observer):
        seen = 0

        def turn(self, tracked: Any) -> None:
            self.seen += tracked is not None

    out: Any = str(tmp_path / "o")
    observer = Frames()
    run = edgecell.open_run(edgecell.LoopConfig("demo", out=out, max_frames=3))
    (result,) = run.go([observer])
    assert (observer.seen, result.recorded) == (3, 3)
    with edgecell.open_session(out) as session:
        assert session.differential() == result.differential
        assert session.summary().frames == 3
    with pytest.raises(edgecell.EdgecellError, match="has no session"):
        with edgecell.open_session(tmp_path / "none"):
            pass


def test_models_that_cannot_be_opened_say_why(tmp_path: Path) -> None:
    with pytest.raises(edgecell.EdgecellError, match="'bundled' names the built-in"):
        edgecell.open_model("nothing.tflite")
    (tmp_path / "m.keras").touch()
    with pytest.raises(edgecell.EdgecellError, match="is not yet converted"):
        edgecell.open_model(tmp_path / "m.keras")
    with pytest.raises(edgecell.EdgecellError, match=r"is not a \.keras file"):
        edgecell.convert_model("m.tflite", SAMPLES, tmp_path / "m.tflite")


def test_a_trained_network_is_converted(
    tiny_run: Path, drawn_cells: Path, tmp_path: Path
) -> None:
    out = tmp_path / "tiny.tflite"
    made = edgecell.convert_model(
        tiny_run / "model.keras", drawn_cells, out, scheme="float32", max_drop=100
    )
    assert made.written
    cell = edgecell.open_model(out).classify(next(drawn_cells.glob("LY/*.png")))
    assert cell.code in CODES
