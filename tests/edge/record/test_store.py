import json
import shutil
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgecell.edge.analyse.pipeline import (
    FrameResult,
)
from edgecell.edge.count.tracking import TrackedFrame
from edgecell.edge.record import store as store_module
from edgecell.edge.record.schema import SCHEMA_VERSION
from edgecell.edge.record.store import Store, default_folder
from edgecell.edge.record.waiting import LeftOut
from edgecell.edge.sources.base import Frame
from edgecell.errors import OutputError, SourceError
from edgecell.model.decision import Decision
from edgecell.model.modelfile import ModelRecord
from tests.factories import MODEL, NOISE, SESSION, SQUARE, rows, tracked


def test_a_figure_can_be_traced_to_pixels(tmp_path: Path) -> None:
    with Store(tmp_path / "a" / "b", SESSION) as store:
        store.write([tracked(4), tracked(7, gate="out of focus")])
        store.end("end of source")
    folder = store.folder
    assert [p.name for p in folder.iterdir()] == ["session.sqlite"], "no log is left"
    (session,) = rows(folder, "SELECT source, model_sha256, settings, end_reason, "
        "model FROM session")  # fmt: skip
    assert session[:2] == ("clip.avi", "ab" * 32)
    assert session[2:4] == ('{"red_cell_px": null}', "end of source")
    assert ModelRecord.from_json(session[4], "x") == MODEL
    good, poor = rows(
        folder,
        "SELECT d.code, d.votes, d.reasons, d.logits, s.logits, s.gate, s.age_ms, "
        "c.seen, c.pixels, f.time_s, f.captured, s.crop_x0, s.crop_y1 FROM decisions d "
        "JOIN sightings s USING (cell) JOIN crops c USING (sighting) "
        "JOIN frames f ON f.frame = s.frame ORDER BY d.cell",
    )
    assert good[:3] == ("SNE", 1, "[]")
    assert np.array_equal(np.frombuffer(good[3], "<f4"), np.arange(12) + 4)
    assert good[3] == good[4]
    assert good[9] == 0.4
    assert abs(good[10] - time.time()) < 60
    assert good[11:] == (-10, 80)
    seen, pixels = (
        np.asarray(cv2.imdecode(np.frombuffer(blob, np.uint8), cv2.IMREAD_COLOR))
        for blob in good[7:9]
    )
    assert np.array_equal(seen[..., ::-1], tracked(4).result.cells[0].seen), (
        "to the last bit"
    )
    assert pixels.shape == SQUARE.shape
    assert np.corrcoef(pixels.ravel(), SQUARE.ravel())[0, 1] > 0.9
    assert poor[:6] == (None, 0, '["out of focus"]', None, None, "out of focus")


def test_later_sightings_change_the_decision_and_need_no_crop(tmp_path: Path) -> None:
    second = tracked(2, cell=1)
    revised = replace(second.changed[0], code="BNE", votes=2)
    with Store(tmp_path / "s", SESSION) as store:
        store.write([tracked(0)])
        store.write([replace(second, changed=(revised,))])
        store.write([replace(tracked(3, cell=1), votes=(False,), changed=())])
        gated = FrameResult(Frame(5, 0.5, NOISE, "clip.avi"), (), "too dark")
        store.write([TrackedFrame(gated, (), (), ())])
        same = Decision(9, "SNE", 0.9, (), 1, None)
        store.write([replace(tracked(8), changed=(same,))])
        store.write([replace(tracked(9, cell=1), changed=(replace(same, same_as=1),),
                             votes=(False,))])  # fmt: skip
    assert rows(store.folder, "SELECT cell, code, votes FROM decisions") == [
        (1, "BNE", 2),
        (9, "SNE", 1),
    ]
    assert rows(store.folder, "SELECT * FROM cells") == [(1, 0, None), (9, 8, 1)]
    assert rows(store.folder, "SELECT frame, cell FROM sightings") == [
        (0, 1),
        (2, 1),
        (8, 9),
    ]
    assert rows(store.folder, "SELECT gate FROM frames WHERE frame = 5") == [
        ("too dark",)
    ]


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    with Store(tmp_path / "s", SESSION) as store:
        path = store.folder / "session.sqlite"
        with closing(sqlite3.connect(path)) as other:
            assert other.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
            assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert other.execute("PRAGMA foreign_key_check").fetchall() == []


def test_a_frame_is_whole_or_absent(tmp_path: Path) -> None:
    with Store(tmp_path / "s", SESSION) as store:
        store.write([tracked(0)])
        with pytest.raises(sqlite3.IntegrityError):
            store.write([tracked(1), tracked(0)])
        store.write([tracked(2)])
    for table in ("frames", "cells", "decisions", "sightings", "crops"):
        assert rows(store.folder, f"SELECT count(*) FROM {table}") == [(2,)]


def test_no_result_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "theirs.txt").write_text("x")
    with pytest.raises(OutputError, match="not empty"), Store(tmp_path, SESSION):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["theirs.txt"]


def test_a_long_name_makes_a_folder_that_can_be_made(tmp_path: Path) -> None:
    now = datetime(2025, 3, 4, 5, 6, 7)
    folder = default_folder("\N{GREEK SMALL LETTER MU}" * 125, now)
    assert folder.name == "\N{GREEK SMALL LETTER MU}" * 50 + "-20250304-050607"
    with Store(tmp_path / folder, SESSION, numbered=True):
        pass


def test_runs_that_begin_at_once_get_folders_of_their_own(tmp_path: Path) -> None:
    now = datetime(2025, 3, 4, 5, 6, 7)
    wanted = tmp_path / default_folder("clip", now)
    with ThreadPoolExecutor(8) as pool:
        start = threading.Barrier(8)

        def begin(number: int) -> Path:
            start.wait()
            session = replace(SESSION, settings={"number": number})
            with Store(wanted, session, numbered=True) as store:
                store.write([tracked(0)])
            return store.folder

        folders = list(pool.map(begin, range(8)))
    assert len(set(folders)) == 8
    assert folders[0].parent.parts[-1:] == ("edgecell-out",)
    assert min(folders, key=lambda path: len(path.name)).name == "clip-20250304-050607"
    for number, folder in enumerate(folders):
        (kept,) = rows(folder, "SELECT settings FROM session")
        assert json.loads(kept[0]) == {"number": number}


def test_of_two_runs_in_one_given_folder_one_has_it(tmp_path: Path) -> None:
    (tmp_path / "o").mkdir()
    done: list[str] = []
    start = threading.Barrier(4)

    def begin(number: int) -> None:
        start.wait()
        try:
            with Store(tmp_path / "o", SESSION) as store:
                store.write([tracked(number)])
                done.append("recorded")
        except OutputError as e:
            done.append(str(e)[-30:])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(begin, range(4)))
    assert done.count("recorded") == 1
    assert len(set(done)) == 2
    assert rows(tmp_path / "o", "SELECT count(*) FROM frames") == [(1,)]


def test_only_what_a_run_made_itself_is_taken_back(tmp_path: Path) -> None:
    folder = tmp_path / "o"
    store = Store(folder, SESSION).__enter__()
    (folder / "session.sqlite").rename(tmp_path / "ours")
    (folder / "session.sqlite").write_text("another run's")
    (folder / "theirs.txt").touch()
    store.__exit__(SourceError, SourceError("all broken"), None)
    assert (folder / "session.sqlite").read_text() == "another run's"
    assert (folder / "theirs.txt").exists()


@pytest.mark.parametrize("by", ["removed", "replaced", "folder"])
def test_a_file_that_is_gone_is_said_to_be(tmp_path: Path, by: str) -> None:
    with Store(tmp_path / "o", SESSION) as store:
        store.write([tracked(0)])
        store.check()
        path = tmp_path / "o" / "session.sqlite"
        if by == "folder":
            shutil.rmtree(tmp_path / "o")
        else:
            path.rename(tmp_path / "elsewhere")
        if by == "replaced":
            shutil.copy(tmp_path / "elsewhere", path)
        with pytest.raises(OutputError, match="removed or replaced"):
            store.check()
        with pytest.raises(OutputError, match="removed or replaced"):
            store.end("end of source")


def test_what_was_left_out_is_in_the_record(tmp_path: Path) -> None:
    with Store(tmp_path / "o", SESSION) as store:
        store.write([tracked(0)])
        store.write([tracked(9)], [LeftOut(1, 8, 8, "the disk is too slow")])
    assert rows(store.folder, "SELECT * FROM left_out") == [
        (1, 8, 8, "the disk is too slow")
    ]


def test_a_bound_that_cannot_be_kept_now_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def held(*_: object) -> None:
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(store_module, "trim", held)
    with Store(tmp_path / "o", SESSION, 1) as store:
        store.write([tracked(0)])
        store.write([tracked(1)])
    assert rows(store.folder, "SELECT count(*) FROM frames") == [(2,)]
    assert "exceeds its limit for now" in caplog.text


def test_a_failure_before_the_first_record_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(SourceError), Store(tmp_path / "out", SESSION):
        raise SourceError("all broken")
    assert not (tmp_path / "out").exists()
    (tmp_path / "given").mkdir()
    with pytest.raises(SourceError), Store(tmp_path / "given", SESSION):
        raise SourceError("all broken")
    assert list((tmp_path / "given").iterdir()) == []


def test_a_later_failure_keeps_what_was_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ExitStack() as stack:
        store = stack.enter_context(Store(tmp_path / "out", SESSION))
        store.write([tracked(0)])
        stack.pop_all().__exit__(SourceError, SourceError("cable"), None)
    assert rows(store.folder, "SELECT count(*) FROM frames") == [(1,)]
    assert str(tmp_path / "out") in caplog.text


@pytest.mark.parametrize("place", ["/dev/full", "/proc/nowhere", "{}/file/out"])
def test_a_place_that_takes_no_folder_is_an_error(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(OutputError, match=r"cannot write to .*; make room or name"),
        Store(Path(place.format(tmp_path)), SESSION),
    ):
        pass


def test_a_picture_that_no_jpeg_can_be_is_an_error(tmp_path: Path) -> None:
    with (
        Store(tmp_path / "out", SESSION) as store,
        pytest.raises(OutputError, match="70000x1"),
    ):
        store.write_picture(0, np.zeros((1, 70_000, 3), np.uint8))
