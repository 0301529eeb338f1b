import csv
import json
import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edgecell.cli import cli
from edgecell.edge.analyse.pipeline import FrameAnalyser
from edgecell.edge.count.differential import CellCount
from edgecell.edge.count.tracking import Tracker
from edgecell.edge.count.votes import Rule
from edgecell.edge.record.connection import open_database
from edgecell.edge.record.sessions import open_session
from edgecell.edge.record.store import Session, Store
from edgecell.edge.record.trail import open_trail
from edgecell.edge.record.waiting import LeftOut
from edgecell.edge.sources import SAMPLES
from edgecell.edge.sources.base import Frame
from edgecell.edge.sources.still import read_image
from edgecell.image.preprocess import Bgr, to_rgb
from edgecell.model.classifier import Classifier
from edgecell.model.modelfile import bundled_model
from tests.factories import SESSION, tracked


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["session", *map(str, arguments)])


def as_json(*arguments: object) -> Any:
    result = invoke(*arguments, "--json", "-")
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier(bundled_model())


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, classifier: Classifier) -> Path:
    """A session of real frames: a field, seen three times, and another one."""
    record = classifier.record
    analyser = FrameAnalyser(classifier, None)
    rule = Rule(
        record.codes,
        record.temperature,
        lambda logits: ("low confidence",) if logits.max() < 6 else (),
    )
    tracker = Tracker(rule)
    one, other = (read_image(SAMPLES / "frames" / f"bccd_{n}.jpg") for n in (1, 2))
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("sessions") / "film"
    with Store(folder, Session("film.avi", record, {"target": 100})) as store:
        for n, image in enumerate((one, one, one, other)):
            noisy = np.clip(image + rng.normal(0, 4, image.shape), 0, 255)
            frame = Frame(n, n / 10, Bgr(noisy.astype(np.uint8)), "film.avi")
            store.write([tracker.update(analyser.analyse(frame))])
        store.end("end of source")
    return folder


def test_the_record_tells_what_was_counted(recorded: Path) -> None:
    data = as_json("show", recorded)
    session = data["session"]
    assert session["source"] == "film.avi"
    assert session["settings"] == {"target": 100}
    assert session["end_reason"] == "end of source"
    assert (session["frames"], session["gated"]) == (4, {})
    assert session["cells"] == len(data["cells"]) >= 2
    count = CellCount()
    with open_session(recorded) as opened:
        count.put(opened.decisions())
    assert data["readings"]["accepted"] == count.differential().to_dict()


def test_a_decision_follows_from_the_pixels_that_were_kept(
    recorded: Path, tmp_path: Path, classifier: Classifier
) -> None:
    cells = as_json("show", recorded)["cells"]
    assert max(cell["votes"] for cell in cells) == 3
    for cell in cells:
        out = tmp_path / str(cell["cell"])
        trace = as_json("trace", recorded, cell["cell"], "--out", out)
        votes = [s["logits"] for s in trace["sightings"] if s["logits"]]
        assert len(votes) == cell["votes"]
        assert len(cell["logits"]) == 12
        for mean, logit in zip(np.mean(votes, axis=0), cell["logits"], strict=True):
            # A class that the cell's size excludes has none.
            assert logit is None or abs(mean - logit) < 1e-5
        again = []
        for path in sorted(out.glob("*.png")):
            again.append(classifier.classify(to_rgb(read_image(path))).logits)
        assert np.array_equal(again, np.asarray(votes, np.float32)), "bit for bit"
        excluded = [logit is None for logit in cell["logits"]]
        mean = np.where(excluded, -np.inf, np.mean(again, axis=0))
        assert classifier.record.codes[int(mean.argmax())] == cell["class"]
        assert bool(cell["review"]) == (mean.max() < 6)
        assert len(list(out.glob("*.jpg"))) == len(votes)


def test_tables_for_people(recorded: Path, tmp_path: Path) -> None:
    cells_file, table_file = tmp_path / "cells.csv", tmp_path / "differential.csv"
    shown = invoke("show", recorded, "--csv", table_file, "--cells", cells_file).output
    assert "film.avi" in shown
    assert "white cells" in shown
    assert f"Written: {table_file}, {cells_file}" in shown
    assert "machine, accepted" in shown
    assert "research use" in shown
    data = as_json("show", recorded)
    with cells_file.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(int(r["cell"]), r["class"]) for r in rows] == [
        (c["cell"], c["class"]) for c in data["cells"]
    ]
    with table_file.open(newline="") as file:
        counts = [(r["reading"], int(r["count"])) for r in csv.DictReader(file)]
    assert counts == [
        (reading, row["count"])
        for reading in ("accepted", "all", "reviewed")
        for row in data["readings"][reading]["classes"]
    ]
    listed = invoke("list", recorded.parent).output
    assert str(recorded) in listed
    assert "end of source" in listed
    traced = invoke("trace", recorded, 1).output
    assert traced.startswith("Cell 1: ")
    assert traced.count("film.avi") == 3


def test_a_cell_that_became_another_is_traced_to_it(tmp_path: Path) -> None:
    with Store(tmp_path / "s", SESSION) as store:
        store.write([tracked(0), tracked(4), tracked(8)])
        gone = replace(tracked(8).changed[0], cell=9, same_as=5)
        also = replace(tracked(4).changed[0], cell=5, same_as=1)
        whole = replace(tracked(0).changed[0], votes=3)
        store.write([replace(tracked(9, cell=1), changed=(gone, also, whole),
                             votes=(False,))])  # fmt: skip
    trace = as_json("trace", tmp_path / "s", 9)
    assert (trace["cell"], trace["votes"]) == (1, 3)
    assert [s["cell"] for s in trace["sightings"]] == [1, 5, 9]
    assert "Cell 1 (the same cell as 9)" in invoke("trace", tmp_path / "s", 9).output
    assert as_json("show", tmp_path / "s")["readings"]["accepted"]["white_cells"] == 1


def test_a_running_or_broken_session_can_be_shown(tmp_path: Path) -> None:
    with Store(tmp_path / "s", SESSION) as store:
        store.write([tracked(0)])
        shown = invoke("show", tmp_path / "s").output
        # as kill -9 leaves it: with its log
        shutil.copytree(tmp_path / "s", tmp_path / "killed")
    assert "running, or broken off" in shown
    assert (tmp_path / "killed" / "session.sqlite-wal").exists()
    assert as_json("show", tmp_path / "killed")["session"]["frames"] == 1


def test_dropped_pixels_are_said_to_be(tmp_path: Path) -> None:
    with Store(tmp_path / "s", SESSION) as store:
        store.write([tracked(0, gate="out of focus")])
    with closing(sqlite3.connect(tmp_path / "s" / "session.sqlite")) as database:
        database.execute("DELETE FROM crops")
        database.commit()
    shown = invoke("trace", tmp_path / "s", 1, "--out", tmp_path / "out").output
    assert "not classified, to review: out of focus" in shown
    assert "pixels deleted by --keep" in shown
    assert "Crops of 0 sightings" in shown


def test_a_session_in_a_folder_of_another_user_is_read(
    recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # SQLite itself needs to write beside a database that nobody has open.
    before = sorted(recorded.iterdir())
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with open_database(recorded, "ro") as database:
        (count,) = database.execute("SELECT count(*) FROM decisions").fetchone()
        assert sorted(recorded.iterdir()) == before
    assert count > 0


def test_bad_input_is_one_line(tmp_path: Path, recorded: Path) -> None:
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / "session.sqlite").write_bytes(b"no database" * 100)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "session.sqlite").touch()
    shutil.copytree(recorded, tmp_path / "newer")
    with closing(sqlite3.connect(tmp_path / "newer" / "session.sqlite")) as database:
        database.execute("PRAGMA user_version = 99")
    for arguments, message in (
        (("show", tmp_path), "name a folder that 'edgecell run' wrote"),
        (("show", tmp_path / "junk"), "cannot be read"),
        (("show", tmp_path / "empty"), "broken off before it began"),
        (("show", tmp_path / "newer"), "version 99"),
        (("trace", recorded, 999), "has no cell 999: numbers go up to"),
    ):
        result = invoke(*arguments)
        assert result.exit_code == 1
        assert result.output.startswith("Error: ")
        assert result.output.count("\n") == 1
        assert message in result.output
    listed = invoke("list", tmp_path)
    assert listed.exit_code == 0
    assert "junk" in listed.output
    assert "version 99" in listed.output
    (tmp_path / "odd\nname").mkdir()
    none = invoke("list", tmp_path / "odd\nname")
    assert (none.exit_code, none.output.splitlines()[0]) == (
        0,
        f"No sessions in {tmp_path}/odd\\nname.",
    )
    nowhere = invoke("list", tmp_path / "nowhere")
    assert nowhere.exit_code == 1
    assert "nowhere does not exist" in nowhere.output


def test_what_waits_is_listed_with_its_place(recorded: Path, tmp_path: Path) -> None:
    shutil.copytree(recorded, tmp_path / "s")
    cells = as_json("show", tmp_path / "s")["cells"]
    wait = [cell for cell in cells if cell["waits"]]
    assert wait
    assert all(cell["review"] for cell in wait)
    for cell in cells:
        trace = as_json("trace", tmp_path / "s", cell["cell"])["sightings"][0]
        x0, y0, x1, y1 = trace["box"]
        assert cell["frame"] == trace["frame"]
        assert (cell["x"], cell["y"]) == ((x0 + x1) / 2, (y0 + y1) / 2)
        assert cell["name"] == "film.avi"
        assert cell["captured_utc"].endswith(" UTC")
        assert cell["probability"] >= cell["runner_up_probability"]
        assert cell["runner_up"] != cell["class"]
    shown = invoke("show", tmp_path / "s", "--review").output
    assert f"To review ({len(wait)}, the most doubtful first)" in shown
    assert "White cells" not in shown
    assert " UTC (end of source)" in shown
    table = [line.split() for line in shown.splitlines() if line[:7].strip().isdigit()]
    assert {int(row[0]) for row in table} == {cell["cell"] for cell in wait}
    doubt = [float(row[2].rstrip("%")) for row in table]
    assert doubt == sorted(doubt)
    with open_trail(tmp_path / "s") as trail:
        trail.name("Anna", [cell["cell"] for cell in wait], "EO")
    again = as_json("show", tmp_path / "s")["cells"]
    assert not any(cell["waits"] for cell in again)
    named = {cell["cell"]: (cell["label"], cell["person"]) for cell in again}
    assert named[wait[0]["cell"]] == ("EO", "Anna")
    assert "No cell is waiting" in invoke("show", tmp_path / "s", "--review").output


def test_frames_that_are_not_in_the_record_are_told(tmp_path: Path) -> None:
    with Store(tmp_path / "s", SESSION) as store:
        store.write([tracked(9)], [LeftOut(1, 8, 8, "the disk is too slow")])
    assert as_json("show", tmp_path / "s")["session"]["left_out"] == 8
    assert "8 more frames" in invoke("show", tmp_path / "s").output
