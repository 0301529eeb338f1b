import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from edgecell.cli import cli
from edgecell.edge.health import Board
from edgecell.edge.store import Session, Store
from edgecell.edge.tracking import TrackedFrame
from edgecell.errors import InputError
from edgecell.explain import DEFERRED, work
from edgecell.explain.methods import METHODS, Explanation
from edgecell.explain.policy import Policy, parse_policy
from edgecell.explain.queue import MOST_CLAIMS, MOST_FAILURES, open_queue
from edgecell.explain.work import Conditions, parse_window
from edgecell.modelfile import bundled_model, read_tflite
from edgecell.preprocess import cell_image
from tests.edge.test_store import rows, tracked

ROOT = Path(__file__).parents[2]
MODEL = read_tflite(bundled_model())[1]
SEEN = cell_image(
    np.asarray(
        cv2.cvtColor(
            cv2.imread(str(ROOT / "edge" / "samples" / "cells" / "SNE_1.jpg")),  # type: ignore[arg-type]
            cv2.COLOR_BGR2RGB,
        ),
        np.uint8,
    ),
    MODEL.preprocessing,
)
CAM = Policy("all", 0, ("grad-cam",))


def seen(
    frame: int, code: str | None = "SNE", reasons: tuple[str, ...] = (), cell: int = 0
) -> TrackedFrame:
    """A frame in which a cell is seen and decided on; by default a new one."""
    one = tracked(frame, cell or None)
    (found,), (decision,) = one.result.cells, one.changed
    view = np.ascontiguousarray(np.roll(SEEN, frame % 8, axis=1))
    return replace(
        one,
        result=replace(one.result, cells=(replace(found, seen=view),)),
        changed=(replace(decision, code=code, reasons=reasons),),
    )


def record(folder: Path, policy: Policy, frames: list[TrackedFrame]) -> Path:
    with Store(folder, Session("clip.avi", MODEL, {}), None, policy) as store:
        for frame in frames:
            store.write([frame])
        store.end("end of source")
    return folder


@pytest.fixture
def session(tmp_path: Path) -> Path:
    """A session with three jobs: cells 1, 2, 3 by Grad-CAM."""
    return record(tmp_path / "s", CAM, [seen(n) for n in range(3)])


def jobs(folder: Path) -> list[tuple[Any, ...]]:
    return rows(folder, "SELECT cell, method, code, sighting FROM jobs ORDER BY job")


def explanation() -> Explanation:
    heat = np.linspace(-1, 1, 112 * 112, dtype=np.float32).reshape(112, 112)
    return Explanation("grad-cam", 11, heat, {"evaluations": 1.0})


FLAGGED = ("low confidence",)


@pytest.mark.parametrize(
    ("policy", "cells"),
    [
        ("none", []),
        ("all", [1, 2, 3, 4, 5]),
        ("flagged", [2, 5]),
        ("sample:1", [1, 3]),
        ("sample:2", [1, 2, 3, 5]),
    ],
)
def test_the_policy_says_which_cells(
    tmp_path: Path, policy: str, cells: list[int]
) -> None:
    frames = [
        seen(0, "SNE"), seen(1, "SNE", FLAGGED), seen(2, "EO"), seen(3, "SNE"),
        seen(4, "EO", FLAGGED), seen(5, None, ("out of focus",)),
    ]  # fmt: skip
    folder = record(tmp_path / "s", parse_policy(policy, ("lime",)), frames)
    assert [row[0] for row in jobs(folder)] == cells
    assert {row[1] for row in jobs(folder)} <= {"lime"}


@pytest.mark.parametrize("text", ["", "some", "sample", "sample:0", "sample:x"])
def test_no_policy(text: str) -> None:
    with pytest.raises(InputError, match="sample:N"):
        parse_policy(text, ("lime",))


def test_deferred_methods_are_methods() -> None:
    assert set(DEFERRED) <= set(METHODS)


def test_a_job_follows_its_cell_until_it_is_begun(tmp_path: Path) -> None:
    policy = parse_policy("flagged", ("lime", "kernel-shap"))
    with Store(tmp_path / "s", Session("x", MODEL, {}), None, policy) as store:
        store.write([seen(0, "SNE", FLAGGED)])
        assert jobs(store.folder) == [
            (1, "lime", "SNE", 1),
            (1, "kernel-shap", "SNE", 1),
        ]
        store.write([seen(1, "BNE", FLAGGED, cell=1)])
        assert [row[2:] for row in jobs(store.folder)] == [("BNE", 2)] * 2
        with open_queue(store.folder) as queue:
            assert queue.claim()[0].method == "lime"
        # Accepted now: what nobody has begun goes.
        store.write([seen(2, "SNE", (), cell=1)])
        assert jobs(store.folder) == [(1, "lime", "BNE", 2)]
        store.write([seen(3, "EO", FLAGGED)])
        assert len(jobs(store.folder)) == 3
        same = seen(4, "EO", FLAGGED, cell=4)
        merged = (replace(same.changed[0], same_as=1),)
        store.write([replace(same, changed=merged)])
        assert [row[0] for row in jobs(store.folder)] == [1]


def test_a_job_is_recorded_with_its_cell_or_not_at_all(tmp_path: Path) -> None:
    with Store(tmp_path / "s", Session("x", MODEL, {}), None, CAM) as store:
        with pytest.raises(sqlite3.IntegrityError):
            store.write([seen(0), seen(0)])
        assert jobs(store.folder) == []


def test_two_workers_share_a_queue(session: Path) -> None:
    with open_queue(session) as one, open_queue(session) as other:
        (first,), (second, third) = one.claim(), other.claim(5)
        assert [first.cell, second.cell, third.cell] == [1, 2, 3]
        assert one.claim() == []
        assert one.status().held == 3
        other.give_back()
        assert [job.cell for job in one.claim(5)] == [2, 3]


def test_a_lease_that_ran_out_is_claimed_anew_and_one_result_counts(
    session: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    with open_queue(session) as slow, open_queue(session) as other:
        (job,) = slow.claim()
        monkeypatch.setattr(time, "time", lambda: now + 50)
        slow.renew(slow.holder)
        monkeypatch.setattr(time, "time", lambda: now + 100)
        assert [j.cell for j in other.claim(3)] == [2, 3], "it was renewed"
        monkeypatch.setattr(time, "time", lambda: now + 111)
        (again,) = other.claim()
        assert again.job == job.job
        assert other.acknowledge(again, explanation())
        assert not slow.acknowledge(job, explanation()), "too late"
        slow.fail(job, "late, too", for_good=True)
        assert other.status().done == 1
    assert rows(session, "SELECT failures, error FROM jobs WHERE job = 1") == [
        (0, None)
    ]


def test_a_clock_that_is_set_back_holds_up_nothing(
    session: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    with open_queue(session) as queue:
        queue.claim(3)
        monkeypatch.setattr(time, "time", lambda: now - 3600)
        assert len(queue.claim(3)) == 3


def test_what_keeps_failing_is_set_aside_with_its_error(session: Path) -> None:
    with open_queue(session) as queue:
        for n in range(MOST_FAILURES):
            (job,) = queue.claim()
            assert job.cell == 1
            queue.fail(job, f"error {n}", for_good=False)
        assert [j.cell for j in queue.claim(3)] == [2, 3]
        (aside,) = queue.status().set_aside
        assert (aside.cell, aside.error) == (1, "error 2")
        assert queue.retry() == 1
        assert queue.status().set_aside == ()
        (job,) = queue.claim()
        assert job.cell == 1
        queue.fail(job, "hopeless", for_good=True)
        assert queue.status().set_aside[0].error == "hopeless"


def test_many_workers_never_hold_the_same_job(tmp_path: Path) -> None:
    folder = record(tmp_path / "s", CAM, [seen(n) for n in range(60)])

    def claimed(_: int) -> list[int]:
        numbers = []
        with open_queue(folder) as queue:
            while jobs := queue.claim():
                numbers += [job.job for job in jobs]
        return numbers

    with ThreadPoolExecutor(4) as pool:
        every = [n for numbers in pool.map(claimed, range(4)) for n in numbers]
    assert sorted(every) == list(range(1, 61))


def test_what_kills_its_workers_is_set_aside(
    session: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    with open_queue(session) as queue:
        for n in range(MOST_CLAIMS):
            monkeypatch.setattr(time, "time", lambda n=n: now + 100 * n)
            assert queue.claim()[0].cell == 1
        monkeypatch.setattr(time, "time", lambda: now + 10**6)
        assert queue.claim()[0].cell == 2
        assert queue.status().set_aside[0].error == "its workers were killed"


def test_results_come_back_as_they_were(session: Path) -> None:
    with open_queue(session) as queue:
        (job,) = queue.claim()
        queue.acknowledge(job, explanation())
        (result,) = queue.results()
    assert (result.cell, result.code) == (1, "SNE")
    assert result.explanation.index == MODEL.codes.index("SNE")
    np.testing.assert_allclose(result.explanation.heat, explanation().heat, atol=1e-3)
    assert result.explanation.scores == {"evaluations": 1.0}
    assert result.seen is not None
    np.testing.assert_array_equal(result.seen, SEEN)
    np.testing.assert_array_equal(result.logits, np.arange(12))


def run(*args: object) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["explain", *map(str, args)])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


@pytest.fixture(autouse=True)
def _not_nice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "nice", lambda _: 19)


def test_the_commands(session: Path, tmp_path: Path) -> None:
    record(tmp_path / "t", CAM, [seen(0)])
    code, output = run("work", tmp_path, "--json", "-")
    assert code == 0, output
    assert json.loads(output)["made"] == 4
    code, output = run("status", session, "--json", "-")
    (status,) = json.loads(output)["sessions"]
    assert (status["done"], status["waiting"], status["held"]) == (3, 0, 0)
    assert "3 done" in run("status", session)[1]
    assert "no job" not in run("work", session)[1]
    heats = rows(session, "SELECT length(heat), scores FROM explanations")
    assert all(length > 50 and "seconds" in scores for length, scores in heats)


def test_a_cell_without_its_crop_is_set_aside_and_can_be_retried(
    session: Path,
) -> None:
    with closing(sqlite3.connect(session / "session.sqlite")) as database:
        (kept,) = database.execute(
            "SELECT seen FROM crops WHERE sighting = 2"
        ).fetchone()
        database.execute("UPDATE crops SET seen = X'00' WHERE sighting = 1")
        database.execute("DELETE FROM crops WHERE sighting = 2")
        database.commit()
    code, output = run("work", session)
    assert code == 0
    assert "1 explanations made, 2 attempts failed; 0 jobs left, 2 set" in output
    with open_queue(session) as queue:
        errors = {a.cell: a.error for a in queue.status().set_aside}
    assert errors == {
        1: "its crop is damaged",
        2: "its crop is gone: --keep took it",
    }
    with closing(sqlite3.connect(session / "session.sqlite")) as database:
        database.execute("INSERT INTO crops VALUES (2, ?, X'00')", (kept,))
        database.commit()
    assert "2 jobs are back" in run("retry", session)[1]
    assert "1 explanations made, 1 attempts failed" in run("work", session)[1]


def test_bad_input_is_one_line_and_no_job_is_lost(
    session: Path, tmp_path: Path
) -> None:
    other = record(tmp_path / "o", CAM, [])
    with closing(sqlite3.connect(other / "session.sqlite")) as database:
        model = json.loads(MODEL.to_json()) | {"model_sha256": "ab" * 32}
        database.execute(
            "UPDATE session SET model = ?, model_sha256 = ?",
            (json.dumps(model), "ab" * 32),
        )
        database.commit()
    old = record(tmp_path / "old", CAM, [seen(0)])
    with closing(sqlite3.connect(old / "session.sqlite")) as database:
        database.execute("PRAGMA user_version = 1")
        database.commit()
    (tmp_path / "empty").mkdir()
    cases: list[tuple[tuple[object, ...], str]] = [
        (("work", other), "name it with --model. No job is lost"),
        (("work", old), "record of version 1"),
        (("status", old), "record of version 1"),
        (("work", tmp_path / "empty"), "has no session"),
        (("work", session, "--model", tmp_path / "no.tflite"), "no.tflite"),
        (("work", session, "--between", "late"), "no time window"),
        (
            ("work", session, "--scheduler", "tcp://127.0.0.1:1"),
            "no Dask scheduler answers at tcp://127.0.0.1:1",
        ),
    ]
    for args, message in cases:
        code, output = run(*args)
        assert code == 1, output
        assert message in output
        assert output.count("\n") == 1
    code, output = run("work", session, "--scheduler", "tcp://x:1", "--max-load", 1)
    assert code == 2
    with open_queue(session) as queue:
        assert queue.status().waiting == 3


# A worker as its user would start it, with a lease short enough for a test.
WORK = """
import sys
from edgecell.explain import queue, work
queue.LEASE_S = work.LEASE_S = 1.0
from edgecell.cli import cli
cli(["explain", "work", *sys.argv[1:]])
"""


def start(*args: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WORK, *map(str, args)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip


def done(folder: Path) -> int:
    (count,) = rows(folder, "SELECT count(*) FROM explanations")[0]
    return int(count)


def wait_until(true: Any, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_kill_9_of_workers_loses_no_job_and_doubles_none(tmp_path: Path) -> None:
    cells = 150
    folder = record(tmp_path / "s", CAM, [seen(n) for n in range(cells)])
    for n in range(3):
        with start(folder) as killed:
            wait_until(lambda n=n: done(folder) >= 10 * (n + 1))
            killed.send_signal(signal.SIGKILL)
    left = cells - done(folder)
    assert left > 0, "they were killed at work"
    with start(folder, "--json", "-") as last:
        text, errors = last.communicate()
    assert last.returncode == 0, errors
    assert json.loads(text)["made"] == left
    assert rows(folder, "SELECT count(*), count(DISTINCT job) FROM explanations") == [
        (cells, cells)
    ]
    assert rows(folder, "PRAGMA integrity_check") == [("ok",)]
    assert rows(folder, "SELECT sum(failures) FROM jobs") == [(0,)]


def test_sigterm_hands_the_job_back(tmp_path: Path) -> None:
    lime = Policy("all", 0, ("lime",))
    folder = record(tmp_path / "s", lime, [seen(n) for n in range(30)])
    with start(folder) as process:
        wait_until(lambda: done(folder) >= 1)
        process.send_signal(signal.SIGTERM)
        text, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "jobs left, 0 set aside" in text
    with open_queue(folder) as queue:
        status = queue.status()
        assert status.held == 0
        assert status.done + status.waiting == 30
    assert rows(folder, "SELECT sum(claims) FROM jobs") == [(status.done,)]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A Dask scheduler and two workers, processes of their own."""
    with ExitStack() as stack:

        def dask(name: str, *args: str) -> subprocess.Popen[bytes]:
            process = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.dask_{name}", *args],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT,
            )  # fmt: skip
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        file = tmp_path / "scheduler.json"
        dask(
            "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
            "--scheduler-file", str(file),
        )  # fmt: skip
        wait_until(lambda: file.exists() and file.stat().st_size)
        address = json.loads(file.read_text())["address"]
        workers = [
            dask(
                "worker", address, "--no-nanny", "--nthreads", "1", "--no-dashboard",
                "--local-directory", str(tmp_path / f"w{n}"),
            )
            for n in range(2)
        ]  # fmt: skip
        yield address, workers


def test_a_cluster_that_loses_a_worker_finishes_every_job_once(
    tmp_path: Path, cluster: tuple[str, list[subprocess.Popen[bytes]]]
) -> None:
    address, workers = cluster
    lime = Policy("all", 0, ("lime",))
    folder = record(tmp_path / "s", lime, [seen(n) for n in range(8)])
    with start(folder, "--scheduler", address, "--json", "-") as process:
        wait_until(lambda: done(folder) >= 2 or process.poll() is not None)
        workers[0].kill()
        text, errors = process.communicate()
    assert process.returncode == 0, errors
    assert json.loads(text)["made"] == 8
    assert done(folder) == 8
    assert rows(folder, "SELECT sum(failures), sum(claims) FROM jobs") == [(0, 8)]
    # The same as without a cluster, to the last bit.
    alone = record(tmp_path / "alone", lime, [seen(n) for n in range(1)])
    assert run("work", alone)[0] == 0
    heat = "SELECT heat FROM explanations WHERE job = 1"
    assert rows(folder, heat) == rows(alone, heat)


def test_conditions(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock(datetime):
        at = (0, 0)

        @classmethod
        def now(cls, tz: Any = None) -> "Clock":
            return cls(2026, 1, 1, *cls.at)

    monkeypatch.setattr(work, "datetime", Clock)
    night = Conditions(between=parse_window("22:00-06:00"))
    day = Conditions(between=parse_window("08:00-17:30"))
    for at, in_night, in_day in (
        ((23, 0), True, False),
        ((5, 59), True, False),
        ((6, 0), False, False),
        ((8, 0), False, True),
        ((17, 29), False, True),
        ((21, 59), False, False),
    ):
        Clock.at = at
        assert (night.why_not() == "", day.why_not() == "") == (in_night, in_day)
    assert night.why_not() == "until 22:00"
    ticks = iter([(100, 1000), (160, 1100), (161, 1101), (200, 1201)])
    monkeypatch.setattr(work, "_ticks", lambda: next(ticks))
    monkeypatch.setattr(time, "sleep", lambda _: None)
    busy = Conditions(max_load=0.5)
    assert "others use 60%" in busy.why_not()
    assert "others use 60%" in busy.why_not(), "one tick says nothing"
    assert busy.why_not() == "", "40 of 101"
    monkeypatch.setattr(work, "read_board", lambda: Board(71.0, None))
    assert "71 degrees" in Conditions(max_celsius=70).why_not()
    assert Conditions(max_celsius=72).why_not() == ""
    monkeypatch.setattr(work, "read_board", lambda: Board(None, None))
    assert Conditions(max_celsius=1).why_not() == ""


def test_the_loop_fills_the_queue(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = CliRunner().invoke(
        cli,
        ["run", "demo", "--max-frames", "2", "--out", str(out), "--explain", "all",
         "--explain-by", "lime", "--explain-by", "kernel-shap"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    classified = rows(
        out,
        "SELECT cell, code FROM decisions JOIN cells USING (cell) "
        "WHERE code IS NOT NULL AND same_as IS NULL ORDER BY cell",
    )
    assert classified
    queued = rows(out, "SELECT DISTINCT cell, code FROM jobs ORDER BY cell")
    assert queued == classified
    assert len(jobs(out)) == 2 * len(classified)
    result = CliRunner().invoke(cli, ["run", "demo", "--explain", "some"])
    assert result.exit_code == 1
    assert "sample:N" in result.output
