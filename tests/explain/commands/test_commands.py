import json
import os
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from edgecell.cli import cli
from edgecell.explain import rows
from edgecell.explain.evaluation import centred_disc, random_map
from edgecell.explain.panels import rows_figure
from edgecell.explain.queue import open_queue
from edgecell.explain.randomised import randomised
from edgecell.explain.rows import beyond_frame, session_rows
from edgecell.image.preprocess import Rgb, cell_image
from edgecell.model.classifier import Classifier
from edgecell.model.modelfile import bundled_model, write_tflite
from tests.explain.sessions import CAM, explanation, record, seen
from tests.factories import SAMPLES

CELLS = SAMPLES / "cells"


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cells of two classes."""
    root = tmp_path_factory.mktemp("few") / "few"
    for code in ("EO", "LY"):
        (root / code).mkdir(parents=True)
        for n in (1, 2):
            shutil.copy(CELLS / f"{code}_{n}.jpg", root / code)
    return root


def evaluate(*args: object) -> Result:
    named = ["explain", "evaluate", "bundled", *map(str, args)]
    return CliRunner().invoke(cli, named)


def show(*args: object) -> Result:
    return CliRunner().invoke(cli, ["explain", "show", "bundled", *map(str, args)])


def picture(path: Path) -> np.ndarray:
    read = cv2.imread(str(path))
    assert read is not None
    return read


def test_evaluate_compares_with_the_controls(few: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks.zip"
    folder = tmp_path / "with_masks" / "set"
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    image = picture(CELLS / "EO_1.jpg")
    mask = np.zeros(image.shape[:2], np.uint8)
    side = len(mask)
    cv2.circle(mask, (side // 2, side // 2), side // 5, 128, -1)
    cv2.circle(mask, (side // 2, side // 2), side // 8, 255, -1)
    cv2.imwrite(str(folder / "images" / "1.png"), image)
    cv2.imwrite(str(folder / "masks" / "1.png"), mask)
    shutil.make_archive(str(masks.with_suffix("")), "zip", folder.parent)
    args = ["--split", "all", "--cells", 1, "--method", "grad-cam", "--masks", masks]
    args += ["--plot", tmp_path / "curves.png", "--json", tmp_path / "out.json"]
    result = evaluate(few, *args)
    assert result.exit_code == 0, result.output
    assert "better than both controls in deletion:" in result.output
    assert "For research use only" in result.output
    found = json.loads((tmp_path / "out.json").read_text())
    methods = {row["method"]: row for row in found["methods"]}
    assert list(methods) == ["grad-cam", "random", "disc"]
    assert (found["cells"], found["masked"]) == (2, 1)
    assert 0 < found["nucleus_area"] < found["cell_area"] < 1
    grad_cam, disc = methods["grad-cam"], methods["disc"]
    assert grad_cam["deletion"] < methods["random"]["deletion"]
    assert grad_cam["in_cell"] > found["cell_area"]
    assert disc["random_weights"] == pytest.approx(1)  # does not look at the model
    assert abs(grad_cam["random_weights"]) < 0.9
    assert abs(methods["random"]["stability"]) < 0.5 < grad_cam["stability"]
    assert len(grad_cam["curves"]["deletion"]) == 29
    assert {c["measure"] for c in found["comparisons"]} == {
        *("deletion", "insertion", "road", "in_nucleus", "in_cell")
    }
    assert picture(tmp_path / "curves.png").shape == (400, 1200, 3)


def test_controls() -> None:
    disc = centred_disc(9)
    assert disc[4, 4] == disc.max() == 1
    assert disc[0, 0] == disc.min() == pytest.approx(0, abs=1e-6)
    one, other = (random_map(112, np.random.default_rng(s)) for s in (0, 1))
    assert one.shape == (112, 112)
    assert (one != other).any()


def test_show_draws_a_row_a_cell(few: Path, tmp_path: Path) -> None:
    out = tmp_path / "panels.png"
    maps = ("--method", "grad-cam", "--method", "finer-cam", "--out", out)
    result = show(CELLS / "SNE_1.jpg", few, "--class", "EO", "--cells", 2, *maps)
    assert result.exit_code == 0, result.output
    assert "panels.png: 3 cells" in result.output
    assert "For research use only" in result.output
    three = picture(out)
    result = show(CELLS / "SNE_1.jpg", *maps)
    assert result.exit_code == 0, result.output
    one = picture(out)
    assert one.shape[1] == three.shape[1]
    # Rows are higher where a sentence stands below a cell.
    assert one.shape[0] - 80 in (230, 320)
    assert (three.shape[0] - 80) / 3 in (230, 320)
    assert len(np.unique(one.reshape(-1, 3), axis=0)) > 1000  # colours were drawn


def test_show_draws_what_a_session_explained(tmp_path: Path) -> None:
    session = record(tmp_path / "s", CAM, [seen(n) for n in range(3)])
    nothing = show(session, "--out", tmp_path / "x.png")
    assert nothing.exit_code == 1
    assert "none of them has been explained" in nothing.output
    with open_queue(session) as queue:
        for job in queue.claim(2):
            queue.acknowledge(job, explanation())
    result = show(session, "--cells", 5, "--out", tmp_path / "x.png")
    assert "x.png: 2 cells" in result.output
    assert picture(tmp_path / "x.png").shape[1] == 370  # the cell and one map
    rows = session_rows(Classifier(bundled_model()), session, None, (), 5)
    titles = [axes.get_title() for axes in rows_figure(rows).axes]
    assert titles.count("Grad-CAM for SNE") == 2, "SNE is number 11"
    several = show(tmp_path, "--cells", 5, "--out", tmp_path / "y.png")
    assert "y.png: 2 cells" in several.output, "a folder of sessions"
    other = randomised(Classifier(bundled_model()), True, seed=0)
    write_tflite(tmp_path / "other.tflite", other.flatbuffer, other.record)
    args = ["explain", "show", str(tmp_path / "other.tflite"), str(session)]
    refused = CliRunner().invoke(cli, args)
    assert refused.exit_code == 1
    assert "was recorded with another model; give that" in refused.output


def test_the_command_that_work_prints_can_be_run(tmp_path: Path) -> None:
    sessions = tmp_path / "my slides"
    record(sessions / "s", CAM, [seen(0)])
    worked = CliRunner().invoke(cli, ["explain", "work", str(sessions)])
    assert worked.exit_code == 0, worked.output
    (line,) = [x for x in worked.output.splitlines() if x.startswith("see them with:")]
    printed = shlex.split(line.partition(": ")[2])
    assert printed[0] == "edgecell"
    shown = CliRunner().invoke(cli, [*printed[1:], "--out", str(tmp_path / "x.png")])
    assert shown.exit_code == 0, shown.output
    assert "x.png: 1 cell\n" in shown.output


def test_what_lies_beyond_the_frame_is_known(tmp_path: Path) -> None:
    session = record(tmp_path / "s", CAM, [seen(0)])
    with open_queue(session) as queue:
        (job,) = queue.claim(1)
        queue.acknowledge(job, explanation())
        (result,) = queue.results()
    at = replace(result, crop=(-25, 10, 75, 110))
    assert beyond_frame(session, at) == (0.25, 0, 0, 0), "no picture: no size"
    (session / "frames").mkdir(exist_ok=True)
    cv2.imwrite(str(session / "frames" / "000000.jpg"), np.zeros((90, 70, 3), np.uint8))
    assert beyond_frame(session, at) == (0.25, 0, 0.05, 0.2)
    (session / "frames" / "000000.jpg").unlink()
    os.mkfifo(session / "frames" / "000000.jpg")  # whoever waited for it would hang
    assert beyond_frame(session, at) == (0.25, 0, 0, 0)


def test_the_default_methods_are_those_that_are_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "shap", None)  # cannot be imported
    result = show(CELLS / "SNE_1.jpg", "--out", tmp_path / "x.png")
    assert result.exit_code == 0, result.output
    assert picture(tmp_path / "x.png").shape[1] == 545  # the cell and two maps
    assert "left out: kernel-shap" in caplog.text
    assert 'pip install ".[shap]"' in caplog.text


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("nowhere",), "nowhere does not exist"),
        ((SAMPLES / "frames",), "no image in a folder named after a class"),
    ],
)
def test_bad_data_is_named(args: tuple[object, ...], message: str) -> None:
    for result in (evaluate(*args), show(*args)):
        assert result.exit_code == 1
        assert message in result.output


def test_bad_options_are_named(few: Path, tmp_path: Path) -> None:
    assert "there is no class XYZ; choose from BA" in show(few, "--class", "XYZ").output
    none = show(few, "--class", "BA", "--out", tmp_path / "x.png")
    assert "no such cells" in none.output
    assert "is not one of" in evaluate(few, "--method", "saliency").output
    empty = tmp_path / "empty"
    empty.mkdir()
    cam = ("--split", "all", "--method", "grad-cam")
    result = evaluate(few, *cam, "--masks", empty)
    assert result.exit_code == 1
    assert "has no images in a folder 'images'" in result.output
    (empty / "images").mkdir()
    shutil.copy(CELLS / "EO_1.jpg", empty / "images")
    result = evaluate(few, *cam, "--masks", empty)
    assert "EO_1.jpg in" in result.output
    assert "has no mask" in result.output
    result = evaluate(few, *cam, "--plot", empty)
    assert "is a directory" in result.output


def test_attributes_are_mapped_where_there_is_ground_for_words(
    tmp_path: Path,
) -> None:
    classifier = Classifier("bundled")
    prep = classifier.record.preprocessing

    def row(name: str) -> rows.Row:
        image = Rgb(picture(CELLS / f"{name}.jpg")[:, :, ::-1].copy())
        shown = rows.Shown(name, None, image, cell_image(image, prep))
        return rows.explain_row(classifier, shown, (), 0, ("granule_type",))

    (granules,) = row("EO_1").maps
    assert granules.value is not None
    assert granules.value.value == "round"
    assert granules.heat.max() == pytest.approx(1, abs=0.05)
    (silent,) = row("PLT_1").maps
    assert silent.value is None
    assert not silent.heat.any()
    out = tmp_path / "shown.png"
    drawn = [CELLS / "EO_1.jpg", CELLS / "PLT_1.jpg", "--method", "grad-cam"]
    assert show(*drawn, "--out", out).exit_code == 0
    narrow = picture(out).shape[1]
    assert show(*drawn, "--out", out, "--attribute", "granule_type").exit_code == 0
    assert picture(out).shape[1] > narrow
    wrong = show(*drawn, "--out", out, "--attribute", "nose")
    assert wrong.exit_code == 1
    assert (
        "the model does not predict the attribute 'nose'; it predicts cell_size"
        in wrong.stderr
    )
