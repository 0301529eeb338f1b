"""`edgecell classify`: single-cell images in, a table and JSON out."""

import csv
import json
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from edgecell import RESEARCH_USE
from edgecell.cli import cli
from edgecell.data.dataset import decode
from edgecell.edge.sources.still import read_image
from edgecell.image.preprocess import cell_image
from edgecell.model.classifier import Classifier
from edgecell.model.modelfile import bundled_model
from tests.factories import SAMPLES

CELLS = SAMPLES / "cells"


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["classify", *map(str, arguments)])


def test_every_cell_gets_the_class_that_evaluation_gives_it() -> None:
    result = invoke(CELLS, "--json", "-")
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    classifier = Classifier(bundled_model())
    assert data["model_sha256"] == classifier.record.model_sha256
    paths = sorted(CELLS.glob("*.jpg"))
    assert [Path(row["image"]).name for row in data["images"]] == [
        path.name for path in paths
    ]
    for path, row in zip(paths, data["images"], strict=True):
        image = decode(path.read_bytes(), path.name)
        seen = cell_image(image, classifier.record.preprocessing)
        prediction = classifier.classify(seen)
        assert row["class"] == prediction.codes[prediction.index]
        assert row["probability"] == pytest.approx(
            prediction.probabilities.max(), abs=1e-6
        )
        assert [t["class"] for t in row["top"]] == [c for c, _ in prediction.top(3)]


def test_zips_globs_and_files_name_their_images(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "cells.zip", "w") as archive:
        archive.write(CELLS / "EO_1.jpg", "in/EO_1.jpg")
        archive.writestr("notes.txt", "no image")
    result = invoke(
        *(tmp_path / "cells.zip", CELLS / "LY_*.jpg", CELLS / "PLT_1.jpg"),
        *("--csv", tmp_path / "t.csv"),
    )
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    # Four images don't tell the microscope, so no sentence stands between them.
    assert [line[:3].strip() for line in lines[1:-2]] == ["EO", "LY", "LY", "PLT"]
    assert lines[-1] == RESEARCH_USE
    table = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    assert [row["class"] for row in table] == ["EO", "LY", "LY", "PLT"]
    assert table[0]["image"].endswith("cells.zip:in/EO_1.jpg")


def test_ten_images_of_a_size_tell_the_microscope(tmp_path: Path) -> None:
    result = invoke(CELLS, "--json", tmp_path / "known.json")
    known = json.loads((tmp_path / "known.json").read_text())["images"]
    assert "Microscope: known (pbc)\n" in result.stdout
    assert {row["microscope"] for row in known} == {"known (pbc)"}
    assert "\n    Eosinophil, not " in result.stdout
    said = {Path(row["image"]).stem: row["attributes"] for row in known}
    granules = said["EO_1"]["attributes"]["granule_type"]
    assert granules["value"] == "round"
    assert granules["probability"] > 0.9
    assert said["PLT_1"] is None
    for path in CELLS.glob("*.jpg"):  # of colours that no stain has
        image = np.roll(read_image(path), 1, axis=2) // 2 + 90
        cv2.imwrite(str(tmp_path / f"{path.stem}.png"), image)
    alone = cv2.resize(read_image(CELLS / "EO_1.jpg"), (230, 230))
    cv2.imwrite(str(tmp_path / "x.png"), alone)
    result = invoke(tmp_path, "--json", tmp_path / "unknown.json")
    assert "Microscope: unknown; all cells of an unknown" in result.stdout
    *unknown, other = json.loads((tmp_path / "unknown.json").read_text())["images"]
    assert len(unknown) == 24
    for row in unknown:
        assert row["microscope"] == "unknown"
        assert row["review"][-1] == "unknown microscope"
    assert other["microscope"] == "not identified"
    assert other["review"] == []


def test_a_single_image_does_not_tell_the_microscope() -> None:
    assert (
        "Microscope: cannot be identified from fewer than 10 images"
        in invoke(CELLS / "EO_1.jpg").stdout
    )


def test_what_cannot_be_read_is_a_row_and_an_exit_status(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    (tmp_path / "empty.png").touch()
    (tmp_path / "good.jpg").write_bytes((CELLS / "EO_1.jpg").read_bytes())
    result = invoke(tmp_path, "--json", tmp_path / "out.json")
    assert result.exit_code == 1
    assert result.stderr == "Error: 2 of 3 images could not be classified\n"
    broken, empty, good = json.loads((tmp_path / "out.json").read_text())["images"]
    assert "not an image" in broken["error"]
    assert "is empty" in empty["error"]
    assert good["class"] == "EO"
    assert result.stdout.count("not classified") == 2


def test_the_scale_sets_the_crop() -> None:
    path = CELLS / "ERB_1.jpg"
    prep = Classifier(bundled_model()).record.preprocessing
    as_trained = prep.crop_fraction * 224 / prep.crop_red_cells
    plain, known, wrong, measured = (
        json.loads(invoke(path, "--json", "-", *option).stdout)["images"][0]
        for option in (
            (),
            ("--red-cell-px", f"{as_trained}"),
            ("--red-cell-px", "15"),
            ("--red-cell-px", "measure"),
        )
    )
    assert plain["red_cell_px"] is None
    assert known["probability"] == plain["probability"]
    assert wrong["probability"] != plain["probability"]
    assert measured["red_cell_px"] > 0


def test_a_poor_picture_is_for_review(tmp_path: Path) -> None:
    image = read_image(CELLS / "LY_1.jpg")
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    cv2.imwrite(str(tmp_path / "1.png"), cv2.GaussianBlur(image, (0, 0), 9))
    cv2.imwrite(str(tmp_path / "2.png"), grey)
    cv2.imwrite(str(tmp_path / "3.png"), image[..., ::-1])
    cv2.imwrite(str(tmp_path / "4.png"), image // 4)
    cv2.imwrite(str(tmp_path / "5.png"), image)
    result = json.loads(invoke(tmp_path, "--json", "-").stdout)["images"]
    assert [row["review"][:1] for row in result] == [
        ["out of focus"],
        ["no colour"],
        ["red and blue swapped"],
        ["too dark"],
        [],
    ]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["nothing.jpg"], 1, "is not an image and contains none"),
        (["*.jpg"], 1, "is not an image and contains none"),
        (["."], 1, "is not an image and contains none"),
        ([str(CELLS), "--red-cell-px", "1"], 1, "no red cell is 1 pixels wide"),
        ([str(CELLS), "--red-cell-px", "nan"], 1, "no red cell is nan pixels wide"),
        ([str(CELLS), "--red-cell-px", "big"], 2, "neither a number of pixels"),
        ([str(CELLS), "--model", "none.tflite"], 1, "does not exist"),
        ([str(CELLS), "--csv", "/"], 2, "is a directory"),
        ([], 2, "Missing argument"),
    ],
)
def test_wrong_calls_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    status: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke(*arguments)
    assert result.exit_code == status
    assert message in result.output
    assert not list(tmp_path.iterdir())
