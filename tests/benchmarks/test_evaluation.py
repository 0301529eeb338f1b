import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from edgecell.benchmarks.evaluation import expected_calibration_error, figures
from edgecell.classes import CODES
from edgecell.cli import cli
from edgecell.data.dataset import scan
from tests.factories import SAMPLES

KEYS = (
    "n accuracy macro_recall macro_f1 macro_auc accuracy_ci95 grouped_accuracy ece "
    "accepted accepted_right review_reasons per_class per_set per_source "
    "confusion classes"
)


def one_hot(y: np.ndarray, classes: int) -> np.ndarray:
    return np.asarray(np.eye(classes, dtype=bool)[y])


def test_sets_are_right_by_any_of_their_classes() -> None:
    codes = ["BNE", "EO", "SNE"]
    sets = np.array([[1, 0, 1], [1, 0, 1], [0, 1, 0], [1, 0, 0]], bool)
    p = np.eye(3)[[2, 1, 1, 2]]
    e = figures(sets, p, ["far", "far", "near", "near"], codes)
    assert (e.n, e.accuracy, e.grouped_accuracy) == (4, 0.5, 0.75)
    assert {k: (s.n, s.right) for k, s in e.per_set.items()} == {"BNE|SNE": (2, 0.5)}
    assert {k: f.n for k, f in e.per_class.items()} == {"BNE": 1, "EO": 1, "SNE": 0}
    assert e.macro_recall == 0.5
    assert e.confusion == [[0, 0, 1], [0, 1, 0], [0, 0, 0]]
    assert e.per_source["far"] == {
        "n": 2,
        "accuracy": 0.5,
        "grouped_accuracy": 0.5,
        "macro_recall": 0.5,
    }
    assert e.per_source["near"]["grouped_accuracy"] == 1.0
    alone = figures(sets[:2], p[:2], ["far", "far"], codes)
    assert (alone.macro_recall, alone.macro_auc) == (None, None)
    assert alone.confusion == [[0] * 3] * 3


def test_figures_by_hand() -> None:
    # True A A A B B C; A is called B once, C is called A, B is right.
    y = np.array([0, 0, 0, 1, 1, 2], np.int32)
    p = np.array(
        [
            [0.8, 0.1, 0.1, 0.0],
            [0.7, 0.2, 0.1, 0.0],
            [0.3, 0.6, 0.1, 0.0],
            [0.1, 0.9, 0.0, 0.0],
            [0.2, 0.5, 0.3, 0.0],
            [0.5, 0.1, 0.4, 0.0],
        ]
    )
    e = figures(one_hot(y, 4), p, ["x", "x", "x", "x", "y", "y"], ["A", "B", "C", "D"])
    assert e.n == 6
    assert e.accuracy == pytest.approx(4 / 6)
    assert e.confusion == [[2, 1, 0, 0], [0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    a, b, c, d = (e.per_class[k] for k in "ABCD")
    assert a.n == 3
    assert a.precision == a.recall == pytest.approx(2 / 3)
    assert b.precision == pytest.approx(2 / 3)
    assert (b.recall, b.f1) == (1.0, 0.8)
    assert (c.precision, c.recall) == (None, 0.0)
    assert (d.n, d.recall, d.auc) == (0, None, None)
    # Pairs in which a true C outranks another: 0.4 beats .1 .1 .1 .0 .3, all five.
    assert c.auc == 1.0
    # A scores .8 .7 .3 against .1 .2 .5: 8 of 9 pairs.
    assert a.auc == pytest.approx(8 / 9)
    # B scores .9 .5 against .1 .2 .6 .1: 7 of 8 pairs.
    assert e.macro_auc == pytest.approx((8 / 9 + 7 / 8 + 1) / 3)
    assert e.macro_recall == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert e.macro_f1 == pytest.approx((2 / 3 + 0.8 + 0) / 3)
    assert e.per_source["x"] == {
        "n": 4,
        "accuracy": 0.75,
        "grouped_accuracy": 0.75,
        "macro_recall": pytest.approx((2 / 3 + 1) / 2),
    }
    assert e.per_source["y"]["accuracy"] == 0.5


def test_calibration_error_by_hand() -> None:
    # Bins of 1/15: .95 and .97 share the last one, .5 stands alone.
    confidence = np.array([0.95, 0.97, 0.5, 1.0])
    right = np.array([True, False, True, True])
    gap = abs((1 - 0.95) + (0 - 0.97) + (1 - 1)) + abs(1 - 0.5)
    assert expected_calibration_error(confidence, right) == pytest.approx(gap / 4)


def test_the_interval_covers_and_narrows() -> None:
    p = np.eye(2)[[0] * 90 + [1] * 10]
    y = np.zeros(100, np.int32)
    small = figures(one_hot(y, 2), p, ["s"] * 100, ["BNE", "SNE"])
    large = figures(
        one_hot(np.tile(y, 100), 2),
        np.tile(p, (100, 1)),
        ["s"] * 10_000,
        ["BNE", "SNE"],
    )
    # 1.96 standard errors of 0.9 at n = 100 are 0.059, at n = 10,000 0.0059.
    assert small.accuracy_ci95 == pytest.approx((0.841, 0.959), abs=0.015)
    assert large.accuracy_ci95 == pytest.approx((0.894, 0.906), abs=0.002)
    assert small.grouped_accuracy == 1.0  # both are neutrophils


def invoke(*args: object):  # type: ignore[no-untyped-def]
    result = CliRunner().invoke(cli, ["evaluate", *map(str, args)])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def test_keras_and_bundled_models_through_the_command(
    tiny_run: Path, drawn_cells: Path, tmp_path: Path
) -> None:
    model = tiny_run / "model.keras"
    out = tmp_path / "e.json"
    text = invoke(model, drawn_cells, "--split", "test", "--json", out)
    assert text.exit_code == 0, text.output
    assert "confusion matrix" in text.output
    written = json.loads(out.read_text())
    assert list(written) == KEYS.split()
    assert written["classes"] == list(CODES)
    assert list(written["per_source"]) == ["drawn"]
    piped = invoke("bundled", drawn_cells, "--json", "-")
    assert json.loads(piped.stdout)["n"] == 240


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["bundled"], 2, "give a MODEL and DATA"),
        (["bundled", "DATA", "--frames", "DATA"], 2, "--frames takes no MODEL"),
        (["--frames", "DATA", "--robustness"], 2, "--robustness is not for --frames"),
        (["bundled", "none"], 1, "does not exist"),
        (["none.tflite", "DATA"], 1, "does not exist"),
        (["bundled", "ONE", "--split", "val"], 1, "no images to evaluate on"),
        (["BROKEN", "DATA"], 1, "not a TFLite model"),
    ],
)
def test_bad_input(
    drawn_cells: Path, tmp_path: Path, args: list[str], code: int, message: str
) -> None:
    one = tmp_path / "EO"
    one.mkdir()
    content = next(
        p.read_bytes()
        for p in sorted((drawn_cells / "EO").iterdir())
        if _split(p) != "val"
    )
    (one / "a.png").write_bytes(content)
    (tmp_path / "broken.tflite").write_bytes(b"hello TFL")
    names = {
        "DATA": drawn_cells,
        "ONE": one,
        "BROKEN": tmp_path / "broken.tflite",
    }
    result = invoke(*(names.get(a, a) for a in args))
    assert result.exit_code == code
    assert message in result.output


def _split(path: Path) -> str:
    import hashlib

    from edgecell.data.dataset import split_of

    return split_of(hashlib.sha256(path.read_bytes()).hexdigest())


def test_accepted_cells_by_hand() -> None:
    y = np.array([0, 0, 1, 1], np.int32)
    p = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.1, 0.9]])
    reasons = [(), (), ("several classes possible: A, B", "out of distribution"), ()]
    e = figures(one_hot(y, 2), p, ["x"] * 4, ["A", "B"], reasons)
    assert e.accepted == 0.75
    assert e.accepted_right == pytest.approx(2 / 3)
    assert e.review_reasons == {
        "several classes possible": 1,
        "out of distribution": 1,
    }
    without = figures(one_hot(y, 2), p, ["x"] * 4, ["A", "B"])
    assert (without.accepted, without.accepted_right) == (None, None)


def test_pictures_robustness_and_backgrounds(tmp_path: Path) -> None:
    for path in (SAMPLES / "cells").iterdir():
        code = path.name.split("_")[0]
        source = tmp_path / ("munich" if code == "MYE" else "pbc")
        (source / code).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, source / code)
    folder, out = tmp_path / "pictures", tmp_path / "e.json"
    result = invoke(
        "bundled",
        tmp_path / "pbc",
        tmp_path / "munich",
        *("--pictures", folder, "--robustness", "--json", out),
    )
    assert result.exit_code == 0, result.output
    written = json.loads(out.read_text())
    assert {r["change"] for r in written["robustness"]} > {"none", "blur"}
    assert {r["backgrounds"] for r in written["backgrounds"]} == {"pbc", "munich"}
    wrong = written["n"] - sum(row[i] for i, row in enumerate(written["confusion"]))
    names = {"confusion.png", "roc.png"} | ({"misclassified.png"} if wrong else set())
    assert {p.name for p in folder.iterdir()} == names
    for path in folder.iterdir():
        image = cv2.imread(str(path))
        assert image is not None
        assert image.std() > 10  # something is drawn
    assert "lured" in result.output


def test_a_manifest_decides_what_is_evaluated(tmp_path: Path) -> None:
    files = scan([SAMPLES / "cells"])
    manifest = tmp_path / "split.csv"

    def answer(splits: dict[str, str]) -> Any:
        rows = [f"{f.sha256},{splits.get(f.code, '')}" for f in files]
        manifest.write_text("\n".join(["sha256,split", *rows]))
        return invoke(
            "bundled", SAMPLES / "cells", "--split", "test", "--manifest", manifest
        )

    result = answer({"BA": "test"})
    assert result.exit_code == 0, result.output
    assert "2 images" in result.output
    result = answer({"BA": "test", "EO": "train"})
    assert result.exit_code == 1
    assert "trained with the split by content" in result.output
