import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edgecell.cli import cli
from edgecell.data.dataset import load_images, scan
from edgecell.edge.adapt.adapt import own_head
from edgecell.model.classifier import Classifier, map_residual
from edgecell.model.modelfile import bundled_model, read_tflite
from tests.edge.adapt.foreign import NUMBER, write_foreign_cells


def invoke(*args: object) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in args])


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_foreign_cells(tmp_path_factory.mktemp("cells") / "lab")


@pytest.fixture(scope="module")
def adapted(foreign: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "mine.tflite"
    report = out.with_suffix(".json")
    result = invoke("adapt", "bundled", foreign, "--out", out, "--json", report)
    assert result.exit_code == 0, result.output
    assert f"Written: {out}" in result.output
    return out


def test_the_report_tells_before_and_after(adapted: Path) -> None:
    found = json.loads(adapted.with_suffix(".json").read_text())
    assert found["cells"] == NUMBER
    assert found["improves"]
    assert found["after"] - found["before"] == found["better"] - found["worse"] > 20
    low, high = found["after_interval"]
    assert low < found["after"] / NUMBER < high
    assert sum(row["n"] for row in found["rows"]) == NUMBER
    assert sum(row["after"] for row in found["rows"]) == found["after"]


def test_the_file_says_where_it_comes_from(adapted: Path, foreign: Path) -> None:
    _, parent = read_tflite(bundled_model())
    _, record = read_tflite(adapted)
    told = record.training["adapted"]
    assert told["parent_model_sha256"] == parent.model_sha256
    assert told["parent_record_sha256"] == parent.record_sha256
    assert told["cells_sha256"] == sorted(f.sha256 for f in scan([foreign]))
    assert record.codes == parent.codes
    assert record.temperature != parent.temperature
    assert record.review != parent.review
    assert record.metrics["left_out"]["cells"] == NUMBER


def test_maps_and_logits_agree_in_the_file(adapted: Path, foreign: Path) -> None:
    classifier = Classifier(adapted)
    head = own_head(classifier)
    for view in load_images(scan([foreign])[::20], classifier.record.preprocessing):
        seen = classifier.classify(view, features=True)
        assert (
            map_residual(seen, classifier.record.head_bias) < 6 * classifier.logit_step
        )
        assert np.abs(head.logits(seen.pooled) - seen.logits).max() < 0.6


def test_other_commands_take_the_file(
    adapted: Path, foreign: Path, tmp_path: Path
) -> None:
    info = invoke("info", adapted)
    assert info.exit_code == 0, info.output
    figures = tmp_path / "figures.json"
    result = invoke("evaluate", adapted, foreign, "--json", figures)
    assert result.exit_code == 0, result.output
    found = json.loads(adapted.with_suffix(".json").read_text())
    assert json.loads(figures.read_text())["accuracy"] > found["before"] / NUMBER + 0.3


def test_nothing_is_written_if_it_is_not_better(tmp_path: Path) -> None:
    known = write_foreign_cells(tmp_path / "known", views=1, known=True)
    out = tmp_path / "mine.tflite"
    result = invoke("adapt", "bundled", known, "--out", out)
    assert result.exit_code == 1
    assert "may be chance" in result.output
    assert not out.exists()


def three(root: Path, cells: Path) -> None:
    for code in ("BA", "EO", "LY"):
        (root / code).mkdir(parents=True)
        shutil.copy(next((cells / code).iterdir()), root / code)


def one_class(root: Path, cells: Path) -> None:
    (root / "EO").mkdir(parents=True)
    for path in cells.rglob("*.png"):
        shutil.copy(path, root / "EO")


def contradicting(root: Path, cells: Path) -> None:
    shutil.copytree(cells, root)
    shutil.copy(root / "EO" / "EO_1-0.png", root / "BA" / "same.png")


def two_microscopes(root: Path, cells: Path) -> None:
    shutil.copytree(cells, root)
    write_foreign_cells(root, known=True)
    for path in sorted(cells.rglob("*.png")):
        shutil.copy(path, root / path.parent.name / f"other-{path.name}")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (three, "3 named cells are too few"),
        (one_class, "one class teaches nothing"),
        (contradicting, "the same image, is"),
        (two_microscopes, "two microscopes"),
    ],
)
def test_cells_that_teach_nothing_are_told_in_one_line(
    make: Callable[[Path, Path], None], message: str, foreign: Path, tmp_path: Path
) -> None:
    root, out = tmp_path / "cells", tmp_path / "mine.tflite"
    make(root, foreign)
    result = invoke("adapt", "bundled", root, "--out", out)
    assert result.exit_code == 1
    assert message in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert not out.exists()
