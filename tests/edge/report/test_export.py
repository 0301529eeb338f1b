import csv
import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from edgecell.cli import cli
from edgecell.edge.analyse.pipeline import FrameAnalyser
from edgecell.edge.count.tracking import Tracker
from edgecell.edge.count.votes import Rule
from edgecell.edge.record.sessions import open_session
from edgecell.edge.record.store import Session, Store
from edgecell.edge.record.trail import open_trail
from edgecell.edge.report.export import folder_name, label_of_folder
from edgecell.edge.sources.base import Frame
from edgecell.edge.sources.still import read_image
from edgecell.image.preprocess import Bgr, cell_image, to_rgb
from edgecell.model.classifier import Classifier
from edgecell.model.modelfile import bundled_model
from edgecell.train.config import TrainConfig
from tests.factories import SAMPLES


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["session", *map(str, arguments)])


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier(bundled_model())


@pytest.fixture
def session(tmp_path: Path, classifier: Classifier) -> Path:
    """Three real fields, each of another microscope."""
    analyser, tracker = (
        FrameAnalyser(classifier, None),
        Tracker(Rule.of_model(classifier.record)),
    )
    folder = tmp_path / "sessions" / "smear"
    with Store(folder, Session("smear", classifier.record, {})) as store:
        for n, name in enumerate(("bccd_1", "pbc_1", "raabin_2")):
            image = read_image(SAMPLES / "frames" / f"{name}.jpg")
            frame = Frame(n, None, image, f"{name}.jpg")
            store.write([tracker.update(analyser.analyse(frame))])
        store.end("end of source")
    return folder


def manifest(folder: Path) -> list[dict[str, str]]:
    with (folder / "cells.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_an_exported_image_is_to_the_network_what_the_cell_was(
    session: Path, tmp_path: Path, classifier: Classifier
) -> None:
    out = tmp_path / "out"
    result = invoke("export", session, "--cells", out, "--all")
    assert result.exit_code == 0, result.output
    rows = manifest(out)
    assert len(rows) > 5
    prep = classifier.record.preprocessing
    alike = []
    with open_session(session) as opened:
        for row in rows:
            image = np.asarray(cv2.imread(str(out / row["file"])))
            view = cell_image(to_rgb(Bgr(image)), prep)
            (sighting,) = [s for s in opened.sightings(int(row["cell"]))
                           if s.frame == int(row["frame"])]  # fmt: skip
            assert sighting.seen is not None
            seen = np.asarray(cv2.imdecode(np.frombuffer(sighting.seen, np.uint8), 1))
            difference = np.abs(view[..., ::-1].astype(int) - seen)
            assert difference.mean() < 5, "but for the JPEG's loss"
            if sighting.logits is not None:
                second, best = np.sort(sighting.logits)[-2:]
                if best - second > 1:  # the JPEG's loss may tip a near tie
                    called = classifier.classify(view).logits.argmax()
                    alike.append(int(called) == int(sighting.logits.argmax()))
    assert len(alike) > 3
    assert all(alike)


def test_what_training_turns_and_shifts_in_is_no_white_border(
    session: Path, tmp_path: Path, classifier: Classifier
) -> None:
    """A margin is filled with a picture, since a border would teach that it is one."""
    invoke("export", session, "--cells", tmp_path / "out", "--all")
    prep = classifier.record.preprocessing
    for row in manifest(tmp_path / "out"):
        image = np.asarray(cv2.imread(str(tmp_path / "out" / row["file"])))
        view = cell_image(to_rgb(Bgr(image)), prep, TrainConfig().margin)
        edge = np.concatenate([view[0], view[-1], view[:, 0], view[:, -1]])
        assert (edge.std(axis=0) > 0).any()


def test_reviewed_cells_are_class_folders_with_a_manifest(
    session: Path, tmp_path: Path
) -> None:
    with open_trail(session) as trail:
        trail.name("Anna", [1], "EO", "granules")
        trail.name("Ben", [2], "NEU")
        trail.name("Ben", [3], "not a cell")
        trail.name("Ben", [4], "other: LYA")
        trail.name("Ben", [5], "MO")
        trail.name("Ben", [5], None)
    result = invoke("export", session.parent, "--cells", tmp_path / "out")
    assert result.exit_code == 0, result.output
    rows = {int(row["cell"]): row for row in manifest(tmp_path / "out")}
    assert {cell: (Path(row["file"]).parts[0], row["label"]) for cell, row in
            rows.items()} == {
        1: ("EO", "EO"),
        2: ("NEU", "BNE|SNE"),
        3: ("not a cell", "not a cell"),
        4: ("other-LYA", "other: LYA"),
    }  # fmt: skip
    assert rows[1]["person"] == "Anna"
    assert rows[1]["named"] > "2026"
    with open_session(session) as opened:
        assert rows[1]["machine"] == opened.decision(1).code
    for row in rows.values():
        data = (tmp_path / "out" / row["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == row["sha256"]
    written = [p for p in (tmp_path / "out").rglob("*.png")]
    assert len(written) == 4
    listed = json.loads(invoke("export", session, "--cells", tmp_path / "again",
                               "--json", "-").output)  # fmt: skip
    assert listed["labels"] == {"EO": 1, "NEU": 1, "not a cell": 1, "other-LYA": 1}


def test_cells_that_a_person_sorts_come_back_as_names(
    session: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    exported = invoke("export", session, "--cells", out, "--sample", 5)
    assert exported.exit_code == 0
    pictures = sorted((out / "unsorted").iterdir())
    assert len(pictures) == 3, "platelets are not drawn"
    assert f"{session} has only 3 white cells" in exported.output
    cells = [int(row["cell"]) for row in manifest(out)]
    with open_trail(session, "ro") as trail:
        assert sorted(trail.drawn()) == cells
    for picture, label in zip(pictures, ("neutrophils", "other-LYA"), strict=False):
        (out / label).mkdir()
        picture.rename(out / label / picture.name)
    (out / "neutrophils" / "holiday.jpg").touch()
    result = invoke("import", session, "--cells", out, "--person", "Anna")
    assert result.exit_code == 0, result.output
    assert "Named 2 cells" in result.output
    assert "unsorted: 1" in result.output
    assert "holiday.jpg" in result.output
    labels = ["BNE|SNE", "other: LYA"]
    with open_trail(session, "ro") as trail:
        assert trail.reviewed() == dict(sorted(zip(cells, labels, strict=False)))
        assert {n.act for n in trail.namings()} == {1}
    again = invoke("import", session, "--cells", out, "--person", "Anna")
    assert "Named 0 cells; already had this name: 2" in again.output
    rest = invoke("export", session, "--cells", tmp_path / "rest", "--sample", 5)
    assert f"2 cells of the sample of {session} already named" in rest.output
    assert "Wrote 1 cell of 1 session into" in rest.output
    assert [int(row["cell"]) for row in manifest(tmp_path / "rest")] == cells[2:]


def test_pictures_of_another_session_name_nothing(
    session: Path, tmp_path: Path, classifier: Classifier
) -> None:
    out = tmp_path / "out"
    invoke("export", session, "--cells", out, "--all")
    (out / "unsorted").rename(out / "SNE")
    other = tmp_path / "other"
    with Store(other, Session("another", classifier.record, {})):
        pass
    result = invoke("import", other, "--cells", out, "--person", "Anna")
    assert result.exit_code == 0
    assert "Named 0 cells" in result.output
    assert "Ignored 7 files that this session did not export: SNE/" in result.output


@pytest.mark.parametrize("label", ["SNE", "BNE|SNE", "MMY|MY|PMY", "MY|PMY",
                                   "not a cell", "other", "other: LYA"])  # fmt: skip
def test_a_folder_stands_for_its_label(label: str) -> None:
    assert label_of_folder(folder_name(label)) == label


def test_bad_input_is_one_line_and_changes_nothing(
    session: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    invoke("export", session, "--cells", out, "--all")
    (out / "EO").mkdir()
    (out / "BA").mkdir()
    picture = next((out / "unsorted").iterdir())
    for folder in ("EO", "BA"):
        (out / folder / picture.name).write_bytes(picture.read_bytes())
    (tmp_path / "odd" / "rubbish").mkdir(parents=True)
    (tmp_path / "odd" / "rubbish" / picture.name).touch()
    before = sorted(tmp_path.iterdir())
    cases: list[tuple[tuple[object, ...], int, str]] = [
        (("export", session, "--cells", out), 1, "not empty"),
        (("export", session, "--cells", tmp_path / "n"), 1, "nobody has named"),
        (("export", tmp_path / "none", "--cells", tmp_path / "n"), 1, "no session"),
        (("export", session, "--cells", tmp_path / "n", "--all", "--sample", 3), 2,
         "not both"),
        (("import", session, "--cells", out, "--person", "A"), 1, "in two folders"),
        (("import", session, "--cells", tmp_path / "odd", "--person", "A"), 1,
         "'rubbish' is not a label"),
        (("import", session, "--cells", out), 2, "--person"),
    ]  # fmt: skip
    for arguments, status, message in cases:
        result = invoke(*arguments)
        assert result.exit_code == status, result.output
        assert message in result.output
    assert sorted(tmp_path.iterdir()) == before
    with open_trail(session, "ro") as trail:
        assert trail.namings() == []


def test_a_damaged_picture_is_named_and_leaves_no_folder(
    session: Path, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(session / "session.sqlite")) as database:
        database.execute("UPDATE crops SET seen = x'00' WHERE sighting = 1")
        database.commit()
    result = invoke("export", session, "--cells", tmp_path / "out", "--all")
    assert result.exit_code == 1
    assert "cell 1" in result.output
    assert not (tmp_path / "out").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["sessions"]
