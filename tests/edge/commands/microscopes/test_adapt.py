import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from edgecell.classes import NOT_A_CELL
from edgecell.cli import cli
from edgecell.data.dataset import load_images, scan
from edgecell.edge.adapt.adapt import own_head
from edgecell.edge.adapt.cells import named_cells
from edgecell.edge.analyse.pipeline import FrameResult
from edgecell.edge.count.tracking import TrackedFrame
from edgecell.edge.record.store import Session, Store
from edgecell.edge.record.trail import open_trail
from edgecell.edge.sources.base import Frame
from edgecell.image.preprocess import standardise, to_bgr
from edgecell.image.records import Box
from edgecell.model.classifier import Classifier, map_residual
from edgecell.model.decision import Decision
from edgecell.model.modelfile import bundled_model, read_tflite
from tests.edge.adapt.foreign import NUMBER, write_foreign_cells
from tests.edge.commands.microscopes.test_trust import record
from tests.factories import NOISE, cell_result


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
    assert low < found["after"] / NUMBER <= high
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
    assert "which may be chance" in result.output
    assert not out.exists()


def test_reviewed_cells_of_a_session_are_cells_too(
    foreign: Path, tmp_path: Path
) -> None:
    session = record_session(tmp_path / "s", foreign)
    out, report = tmp_path / "mine.tflite", tmp_path / "report.json"
    result = invoke("adapt", "bundled", session, "--out", out, "--json", report)
    assert result.exit_code == 0, result.output
    found = json.loads(report.read_text())
    assert (found["cells"], found["left_out"]) == (NUMBER - 2, {"'not a cell'": 1})
    assert found["improves"]
    _, record = read_tflite(out)
    assert record.training["adapted"]["source"] == "s"
    # It is the model of another session now: that one is not its parent's.
    again = invoke("adapt", out, session, "--out", tmp_path / "again.tflite")
    assert again.exit_code == 1
    assert "was recorded with another model" in again.output
    assert len(again.output.strip().splitlines()) == 1
    assert not (tmp_path / "again.tflite").exists()


def test_a_cell_given_twice_is_left_out_of_the_fit_that_judges_it(
    foreign: Path, tmp_path: Path
) -> None:
    session = record_session(tmp_path / "s", foreign)
    copy, export = shutil.copytree(session, tmp_path / "copy"), tmp_path / "export"
    exported = invoke("session", "export", session, "--cells", export)
    assert exported.exit_code == 0, exported.output
    shutil.rmtree(export / NOT_A_CELL)
    classifier = Classifier(bundled_model())
    alone = named_cells(classifier, [session])
    for other in (session, copy, export):
        both = named_cells(classifier, [session, other])
        assert both.labels == alone.labels
        assert both.left_out["given twice"] == len(alone.labels)
        assert np.array_equal(both.features, alone.features)
    with open_trail(copy) as trail:
        trail.name("Ben", [5], "PLT")
    out = tmp_path / "mine.tflite"
    result = invoke("adapt", "bundled", session, copy, "--out", out)
    assert result.exit_code == 1
    assert f"cell 5 of {copy}, the same cell, is PLT" in result.output
    assert not out.exists()


def record_session(folder: Path, cells: Path) -> Path:
    """A session of these cells; all but the last are named, the first as no cell."""
    classifier = Classifier(bundled_model())
    files = scan([cells])
    views = load_images(files, classifier.record.preprocessing)
    with Store(folder, Session("lab", classifier.record, {})) as store:
        for n, view in enumerate(views):
            logits = classifier.classify(view).logits
            sighting = cell_result(
                Box(0, 0, 40, 40), pixels=to_bgr(view), seen=view, logits=logits
            )
            result = FrameResult(Frame(n, None, NOISE, f"{n}.jpg"), (sighting,))
            decision = Decision(n + 1, "EO", 0.5, ("unknown microscope",), 1, logits)
            store.write([TrackedFrame(result, (n + 1,), (True,), (decision,))])
        store.end("end of source")
    labels = {n + 1: file.code for n, file in enumerate(files[:-1])} | {1: NOT_A_CELL}
    with open_trail(folder) as trail:
        trail.name_each("Anna", labels)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", ["grad-cam", "finer-cam", "lime", "kernel-shap", "partition-shap"]
)
def test_an_adapted_model_is_explained(
    adapted: Path, foreign: Path, tmp_path: Path, method: str
) -> None:
    cell, out = sorted(foreign.rglob("*.png"))[0], tmp_path / "explained.png"
    result = invoke("explain", "show", adapted, cell, "--method", method, "--out", out)
    assert result.exit_code == 0, result.output
    assert cv2.imread(str(out)) is not None


@pytest.mark.slow
def test_training_goes_on_from_an_adapted_model(adapted: Path, foreign: Path) -> None:
    from edgecell.train.networks.network import PRESETS, build
    from edgecell.train.networks.readback import load_tflite

    classifier = Classifier(adapted)
    prep = classifier.record.preprocessing
    images = load_images(scan([foreign])[::5], prep)
    x = standardise(images, prep)
    network = build(PRESETS["grsnet-lite"], len(classifier.record.codes))
    load_tflite(network, adapted, [x])
    said = np.stack([classifier.classify(image).logits for image in images])
    again = network(x, training=False).numpy()
    assert np.abs(again - said).mean() < 0.05 * np.ptp(said)
    assert (again.argmax(1) == said.argmax(1)).mean() > 0.9


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
        (three, "3 named cells: too few"),
        (one_class, "one class is not enough"),
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


def test_sessions_of_two_cameras_are_refused(tmp_path: Path) -> None:
    one = record(tmp_path / "one")
    two = record(tmp_path / "two", size=(640, 480))
    result = invoke("adapt", "bundled", one, two, "--out", tmp_path / "mine.tflite")
    assert result.exit_code == 1
    assert "more than one camera or microscope" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "mine.tflite").exists()
