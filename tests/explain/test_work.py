import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edgecell.cli import cli
from edgecell.edge.record.policy import Policy
from edgecell.explain.queue import open_queue
from edgecell.explain.work import Conditions, Machine, parse_window
from tests.explain.sessions import CAM, MODEL, ROOT, record, seen
from tests.factories import rows


def run(*args: object) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["explain", *map(str, args)])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


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
    assert "1 explanation made, 2 attempts failed; 0 jobs left, 2 set" in output
    with open_queue(session) as queue:
        errors = {a.cell: a.error for a in queue.status().set_aside}
    assert errors == {
        1: "its crop is damaged",
        2: "its crop is gone: --keep deleted it",
    }
    with closing(sqlite3.connect(session / "session.sqlite")) as database:
        database.execute("INSERT INTO crops VALUES (2, ?, X'00')", (kept,))
        database.commit()
    assert "2 jobs queued again" in run("retry", session)[1]
    assert "1 explanation made, 1 attempt failed" in run("work", session)[1]


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
    later = record(tmp_path / "later", CAM, [seen(0)])
    with closing(sqlite3.connect(later / "session.sqlite")) as database:
        database.execute("PRAGMA user_version = 99")
        database.commit()
    (tmp_path / "empty").mkdir()
    cases: list[tuple[tuple[object, ...], str]] = [
        (("work", other), "name it with --model. No job is lost"),
        (("work", later), "a later edgecell"),
        (("status", later), "a later edgecell"),
        (("work", tmp_path / "empty"), "has no session"),
        (("work", session, "--model", tmp_path / "no.tflite"), "no.tflite"),
        (("work", session, "--between", "late"), "not a time window"),
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
from edgecell.explain.commands import work as work_command
queue.LEASE_S = work.LEASE_S = 1.0
work_command.LOOK_EVERY_S = 0.2
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


def test_a_watcher_sees_new_sessions_and_skips_unreadable_ones(tmp_path: Path) -> None:
    first = record(tmp_path / "1", CAM, [seen(0)])
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "session.sqlite").touch()  # a power cut left it
    with start(tmp_path, "--watch", "--json", "-") as process:
        wait_until(lambda: done(first) or process.poll() is not None)
        second = record(tmp_path / "2", CAM, [seen(0), seen(1)])
        wait_until(lambda: done(second) == 2 or process.poll() is not None)
        process.send_signal(signal.SIGTERM)
        text, errors = process.communicate()
    assert process.returncode == 0, errors
    found = json.loads(text)
    assert found["made"] == 3
    (left_alone,) = found["left_alone"]
    assert "broken off before it began" in left_alone
    assert left_alone in run("status", tmp_path)[1]
    assert left_alone in run("retry", tmp_path)[1]


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


@pytest.mark.slow
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


class StandIn(Machine):
    """A machine that tells what a test wants."""

    at = (0, 0)
    hottest: float | None = None

    def __init__(self, *ticks: tuple[int, int]) -> None:
        self._ticks = iter(ticks)

    def now(self) -> datetime:
        return datetime(2026, 1, 1, *self.at)

    def ticks(self) -> tuple[int, int]:
        return next(self._ticks)

    def celsius(self) -> float | None:
        return self.hottest

    def wait(self) -> None:
        pass


def test_the_time_of_day() -> None:
    machine = StandIn()
    night = Conditions(between=parse_window("22:00-06:00"), machine=machine)
    day = Conditions(between=parse_window("08:00-17:30"), machine=machine)
    for at, in_night, in_day in (
        ((23, 0), True, False),
        ((5, 59), True, False),
        ((6, 0), False, False),
        ((8, 0), False, True),
        ((17, 29), False, True),
        ((21, 59), False, False),
    ):
        machine.at = at
        assert (night.why_not() == "", day.why_not() == "") == (in_night, in_day)
    assert night.why_not() == "until 22:00"


def test_the_load_of_others() -> None:
    machine = StandIn((100, 1000), (160, 1100), (161, 1101), (200, 1201))
    busy = Conditions(max_load=0.5, machine=machine)
    assert "others use 60%" in busy.why_not()
    assert "others use 60%" in busy.why_not(), "one tick says nothing"
    assert busy.why_not() == "", "40 of 101"


def test_the_temperature() -> None:
    machine = StandIn()
    machine.hottest = 71.0
    assert "71 degrees" in Conditions(max_celsius=70, machine=machine).why_not()
    assert Conditions(max_celsius=72, machine=machine).why_not() == ""
    machine.hottest = None
    assert Conditions(max_celsius=1, machine=machine).why_not() == ""


def test_this_machine_answers() -> None:
    machine = Machine()
    busy, total = machine.ticks()
    assert 0 < busy < total
    assert machine.now().year > 2025
