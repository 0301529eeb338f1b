import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgecell.cli import cli
from edgecell.edge.record.policy import parse_policy
from edgecell.edge.record.store import Session, Store
from edgecell.errors import InputError
from edgecell.explain.methods import METHODS
from edgecell.explain.queue import MOST_CLAIMS, MOST_FAILURES, open_queue
from edgecell.explainers import EXPLAINERS
from tests.explain.sessions import CAM, MODEL, SEEN, explanation, jobs, record, seen
from tests.factories import rows

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


@pytest.mark.parametrize(
    "text", ["", "some", "sample", "sample:0", "sample:x", "sample:" + "9" * 5000]
)
def test_no_policy(text: str) -> None:
    with pytest.raises(InputError, match="sample:N"):
        parse_policy(text, ("lime",))


def test_every_explainer_has_a_method() -> None:
    assert list(EXPLAINERS) == list(METHODS)


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


def one_hot(code: str) -> np.ndarray:
    return np.asarray(np.eye(12, dtype=np.float32)[MODEL.codes.index(code)])


def test_the_sighting_explained_is_called_what_the_cell_is(tmp_path: Path) -> None:
    with Store(tmp_path / "s", Session("clip.avi", MODEL, {}), None, CAM) as store:
        for n, (alone, together, sighting) in enumerate(
            [("SNE", "SNE", 1), ("BNE", "SNE", 1), ("SNE", "SNE", 3), ("EO", "MO", 4)]
        ):
            frame = seen(n, together, cell=1)
            (found,), (decision,) = frame.result.cells, frame.changed
            view = replace(found, logits=one_hot(alone))
            result = replace(frame.result, cells=(view,))
            mean = replace(decision, logits=one_hot(together))
            store.write([replace(frame, result=result, changed=(mean,))])
            assert jobs(store.folder) == [(1, "grad-cam", together, sighting)]


def test_two_workers_share_a_queue(session: Path) -> None:
    with open_queue(session) as one, open_queue(session) as other:
        (first,), (second, third) = one.claim(), other.claim(5)
        assert [first.cell, second.cell, third.cell] == [1, 2, 3]
        assert one.claim() == []
        assert one.status().held == 3
        other.give_back()
        assert [job.cell for job in one.claim(5)] == [2, 3]


class Clock:
    """A clock that a test sets."""

    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_lease_that_ran_out_is_claimed_anew_and_one_result_counts(
    session: Path,
) -> None:
    clock = Clock()
    with (
        open_queue(session, clock=clock) as slow,
        open_queue(session, clock=clock) as other,
    ):
        (job,) = slow.claim()
        clock.now += 50
        slow.renew(slow.holder)
        clock.now += 50
        assert [j.cell for j in other.claim(3)] == [2, 3], "it was renewed"
        clock.now += 11
        assert slow.claim(3) == [], "it is at it"
        (again,) = other.claim()
        assert again.job == job.job
        assert other.acknowledge(again, explanation())
        assert not slow.acknowledge(job, explanation()), "too late"
        slow.fail(job, "late, too", for_good=True)
        assert other.status().done == 1
    assert rows(session, "SELECT failures, error FROM jobs WHERE job = 1") == [
        (0, None)
    ]


def test_a_clock_that_is_set_back_holds_up_nothing(session: Path) -> None:
    clock = Clock()
    with (
        open_queue(session, clock=clock) as gone,
        open_queue(session, clock=clock) as queue,
    ):
        gone.claim(3)
        clock.now -= 3600
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


def test_what_kills_its_workers_is_set_aside(session: Path) -> None:
    clock = Clock()
    for _ in range(MOST_CLAIMS):
        with open_queue(session, clock=clock) as killed:
            assert killed.claim()[0].cell == 1
        clock.now += 100
    clock.now += 10**6
    with open_queue(session, clock=clock) as queue:
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
