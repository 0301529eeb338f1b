import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
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
from edgecell.edge.record.retention import disk_use, parse_size
from edgecell.edge.record.schema import SCHEMA_VERSION
from edgecell.edge.record.store import Store, default_folder
from edgecell.edge.record.waiting import LeftOut, without_image
from edgecell.edge.sources.base import Frame
from edgecell.errors import InputError, OutputError, SourceError
from edgecell.model.decision import Decision
from edgecell.model.modelfile import ModelRecord
from tests.factories import MODEL, NOISE, SESSION, SQUARE, rows, tracked

ROOT = Path(__file__).parents[3]
KILLS = int(os.environ.get("EDGECELL_KILLS", "8"))
"""Runs that `test_what_was_reported_outlives_kill_9` ends; 50 were once done."""


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
    assert "above its bound for now" in caplog.text


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


WRITE = """
import resource, sys
from pathlib import Path
from edgecell.edge.record.store import Store
from edgecell.errors import OutputError
from tests.factories import SESSION, tracked
if int(sys.argv[2]):
    limit = int(sys.argv[2]), resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
try:
    with Store(Path(sys.argv[1]), SESSION) as store:
        print("open", flush=True)
        for n in range(0, 10**6, 2):
            store.write([tracked(n), tracked(n + 1)])
            print(n, flush=True)
except OutputError as e:
    print(e)
"""


def check_store(folder: Path, reported: list[int]) -> int:
    """Whether it is sound and holds what was reported; number of frames beyond."""
    assert rows(folder, "PRAGMA integrity_check") == [("ok",)]
    assert rows(folder, "PRAGMA foreign_key_check") == []
    frames = [row[0] for row in rows(folder, "SELECT frame FROM frames")]
    assert frames == list(range(len(frames))), "none missing, none twice"
    for table, column in (
        ("cells", "cell - 1"),
        ("decisions", "cell - 1"),
        ("sightings", "frame"),
        ("sightings JOIN crops USING (sighting)", "frame"),
    ):
        kept = rows(folder, f"SELECT {column} FROM {table} ORDER BY 1")
        assert [row[0] for row in kept] == frames, f"{table} are whole"
    return len(frames) - 2 * len(reported)


# From no room for the schema to room for some frames.
@pytest.mark.parametrize("limit", [2_000, 30_000, 250_000, 500_000])
def test_a_full_disk_leaves_whole_frames(tmp_path: Path, limit: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WRITE, str(tmp_path / "out"), str(limit)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    *reported, message = done.stdout.splitlines()
    assert "cannot write to" in message
    assert "make room" in message
    if reported[1:]:
        assert check_store(tmp_path / "out", [int(n) for n in reported[1:]]) == 0
    else:
        assert limit < 100_000
        assert not (tmp_path / "out").exists()


def test_what_was_reported_outlives_kill_9(tmp_path: Path) -> None:
    rng = random.Random(1)
    written = 0
    for run in range(KILLS):
        folder = tmp_path / str(run)
        with subprocess.Popen(
            [sys.executable, "-c", WRITE, str(folder), "0"],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
            time.sleep(rng.uniform(0, 0.4))
            process.send_signal(signal.SIGKILL)
            text = process.stdout.read()
        # a line that the kill cut in half reports nothing
        reported = [int(n) for n in text[: text.rfind("\n") + 1].split()]
        # One transaction may have been done and not yet reported.
        assert check_store(folder, reported) in (0, 2)
        written += len(reported)
    assert written > KILLS


def test_keep_drops_the_oldest_pixels_and_no_figure(tmp_path: Path) -> None:
    with Store(tmp_path / "first", SESSION) as first:
        for n in range(60):
            first.write([tracked(n)])
            first.write_picture(n, NOISE)
    size = disk_use(tmp_path / "first")
    bound = round(1.7 * size)
    with Store(tmp_path / "second", SESSION, bound) as second:
        for n in range(60):
            second.write([tracked(n)])
            second.write_picture(n, NOISE)
            total = disk_use(tmp_path / "first") + disk_use(tmp_path / "second")
            assert total < bound + 400_000, "the log comes on top"
        pictures = len(list((tmp_path / "second" / "frames").iterdir()))
    assert pictures == 60, "the older session gives first"
    (left,) = rows(tmp_path / "first", "SELECT count(*), min(sighting) FROM crops")
    assert 0 < left[0] < 60
    assert left[1] == 61 - left[0], "its oldest crops went"
    for name in ("first", "second"):
        assert rows(tmp_path / name, "SELECT count(*) FROM decisions") == [(60,)]
        assert rows(tmp_path / name, "SELECT count(*) FROM sightings") == [(60,)]


def test_what_a_kill_left_of_a_picture_goes_first(tmp_path: Path) -> None:
    with Store(tmp_path / "old", SESSION) as old:
        old.write([tracked(0)])
        old.write_picture(0, NOISE)
    partial = tmp_path / "old" / "frames" / ".000001.jpg.k3x_9"
    partial.write_bytes(bytes(10**6))
    with Store(tmp_path / "s", SESSION, 10**6) as store:
        for n in range(40):
            store.write([tracked(n)])
    assert not partial.exists()


def test_a_small_bound_takes_from_the_running_session(tmp_path: Path) -> None:
    with Store(tmp_path / "s", SESSION, 10**6) as store:
        for n in range(120):
            store.write([tracked(n)])
            store.write_picture(n, NOISE)
        assert disk_use(tmp_path / "s") < 1.2 * 10**6
    (crops,) = rows(tmp_path / "s", "SELECT count(*), max(sighting) FROM crops")
    assert 0 < crops[0] < 120
    assert crops[1] == 120, "the newest stay"
    assert rows(tmp_path / "s", "SELECT count(*) FROM decisions") == [(120,)]
    assert rows(tmp_path / "s", "PRAGMA integrity_check") == [("ok",)]


def test_pixels_wait_only_where_a_decision_rests_on_them() -> None:
    votes, poor = tracked(0), tracked(1, gate="blurred")
    later = replace(poor, changed=())
    ninth = replace(votes, votes=(False,))
    sizes = [
        without_image(t).result.cells[0].pixels.size
        for t in (votes, poor, later, ninth)
    ]
    assert sizes == [SQUARE.size, SQUARE.size, 0, 0]
    assert without_image(ninth).result.cells[0].seen.size == 0
    assert [len(t.evidence()) for t in (votes, poor, later, ninth)] == [1, 1, 0, 0]


def test_a_picture_that_cannot_go_does_not_end_another_session(tmp_path: Path) -> None:
    with Store(tmp_path / "old", SESSION) as old:
        old.write([tracked(0)])
    (tmp_path / "old" / "frames" / "000000.jpg").mkdir(parents=True)
    with Store(tmp_path / "s", SESSION, 10**6) as store:
        for n in range(120):
            store.write([tracked(n)])
            store.write_picture(n, NOISE)
    assert rows(tmp_path / "s", "SELECT count(*) FROM decisions") == [(120,)]
    (crops,) = rows(tmp_path / "s", "SELECT count(*) FROM crops")
    assert crops[0] < 120, "the running one gave instead"


def test_a_session_that_cannot_be_trimmed_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "session.sqlite").write_bytes(b"no database" * 10**5)
    with Store(tmp_path / "s", SESSION, 10**6) as store:
        for n in range(40):
            store.write([tracked(n)])
    assert (tmp_path / "broken" / "session.sqlite").stat().st_size == 11 * 10**5


@pytest.mark.parametrize(
    ("text", "size"), [("500 MB", 5 * 10**8), ("1.5gb", 15 * 10**8), ("1TB", 10**12)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "5", "5 kB", "-1GB", "49MB", "GB", "1e3GB", "9" * 400 + "GB"]
)
def test_no_sizes(text: str) -> None:
    with pytest.raises(InputError, match="500MB"):
        parse_size(text)
