"""The queue of explanations: tables in the session's own file.

They are there, and not in a queueing library's, because a cell and its job have to be
recorded in one transaction: after a power cut both are there or neither.
"""

import json
import os
import secrets
import socket
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from edgecell.edge.record.connection import (
    open_database,
    refusals_told,
    transaction,
    unpack,
)
from edgecell.edge.record.damage import damage_told
from edgecell.edge.record.sessions import find_sessions
from edgecell.errors import InputError
from edgecell.explain.methods import Explanation
from edgecell.explainers import EXPLAINERS
from edgecell.files import printable
from edgecell.image.decode import decode
from edgecell.image.preprocess import Rgb, to_rgb
from edgecell.model.modelfile import ModelRecord

T = TypeVar("T")

LEASE_S = 60.0
"""How long a claim holds unless it is renewed; a killed worker's job waits so long."""

MOST_FAILURES = 3
MOST_CLAIMS = 10
"""A job that fails so often, or that so many workers took and never gave back (they
were killed, perhaps by it), is set aside."""

_OPEN = (
    f"failures < {MOST_FAILURES} AND claims < {MOST_CLAIMS} "
    "AND job NOT IN (SELECT job FROM explanations)"
)
# A clock that was set back must not make a lease last for ever; one that is a little
# ahead of another machine's is no reason to take its jobs.
_FREE = "(lease_until IS NULL OR lease_until NOT BETWEEN :now AND :now + 10 * :lease)"


@dataclass(frozen=True, eq=False)
class Job:
    """One explanation to make.

    Attributes:
        job: its number in the session.
        cell: the cell's number.
        method: name of the method.
        code: the class to explain.
        seed: of whatever the method draws.
        seen: PNG of the cell as the network saw it; None if --keep took it.
    """

    job: int
    cell: int
    method: str
    code: str
    seed: int
    seen: bytes | None


@dataclass(frozen=True)
class SetAside:
    """A job that was given up, with the reason."""

    job: int
    cell: int
    method: str
    error: str


@dataclass(frozen=True)
class Status:
    """The state of a queue.

    Attributes:
        folder: the session's.
        model_sha256: the model that the jobs are for.
        waiting: jobs that nobody has.
        held: jobs that a worker has.
        done: explanations made.
        set_aside: jobs given up.
    """

    folder: str
    model_sha256: str
    waiting: int
    held: int
    done: int
    set_aside: tuple[SetAside, ...]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Explained:
    """A finished job.

    Attributes:
        cell: the cell's number.
        code: the class that was explained.
        explanation: what came out.
        logits: float32 (C,), of the sighting that was explained.
        frame: number of the frame of that sighting.
        crop: the square around the cell, in pixels of the frame: x0, y0, x1, y1.
        seen: uint8 RGB (S, S, 3), that sighting; None if --keep took it since.
        pixels: uint8 RGB (n, n, 3), the same square in the frame's pixels; None
            likewise.
    """

    cell: int
    code: str
    explanation: Explanation
    logits: npt.NDArray[np.float32]
    frame: int
    crop: tuple[int, int, int, int]
    seen: Rgb | None
    pixels: Rgb | None


@damage_told
class JobQueue:
    """A session's queue, open for work; one a thread.

    Attributes:
        folder: the session's.
        model: record of the model that the jobs are for.
        holder: name under which this one holds jobs.
    """

    def __init__(
        self,
        folder: Path,
        database: sqlite3.Connection,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Uses an open database; `open_queue` opens one."""
        self.folder = folder
        self._clock = clock
        self._db = database
        self.holder = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        (model,) = database.execute("SELECT model FROM session").fetchone()
        self.model = ModelRecord.from_json(model, str(folder))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        advice = "make room or free the file, and start again: no job is lost"
        with refusals_told(self.folder, advice), transaction(self._db):
            yield

    def claim(self, count: int = 1) -> list[Job]:
        """Takes jobs, oldest first, for `LEASE_S` seconds.

        What it already holds it never takes again, even if the lease ran out while
        this program was stopped: the job is being done.

        Args:
            count: how many at most.
        """
        with self._transaction():
            # Read inside: while this waited for the file, others took jobs.
            now = self._clock()
            numbers = self._db.execute(
                f"SELECT job FROM jobs WHERE {_OPEN} AND {_FREE} "
                "AND holder IS NOT :holder ORDER BY job LIMIT :count",
                {"now": now, "lease": LEASE_S, "count": count, "holder": self.holder},
            ).fetchall()
            self._db.executemany(
                "UPDATE jobs SET claims = claims + 1, holder = ?, lease_until = ? "
                "WHERE job = ?",
                [(self.holder, now + LEASE_S, number) for (number,) in numbers],
            )
        return [self._job(number) for (number,) in numbers]

    def _job(self, number: int) -> Job:
        row = self._db.execute(
            "SELECT job, cell, method, code, seed, seen FROM jobs "
            "LEFT JOIN crops USING (sighting) WHERE job = ?",
            (number,),
        ).fetchone()
        return Job(*row)

    def renew(self, holder: str) -> None:
        """Holds what a holder has claimed for another `LEASE_S` seconds."""
        with self._transaction():
            self._db.execute(
                "UPDATE jobs SET lease_until = ? WHERE holder = ?",
                (self._clock() + LEASE_S, holder),
            )

    def acknowledge(self, job: Job, explanation: Explanation) -> bool:
        """Records a result, the first one of its job.

        Returns:
            Whether it was recorded; False if another worker's was there.
        """
        heat = zlib.compress(explanation.heat.astype("<f2").tobytes())
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        with self._transaction():
            recorded = self._db.execute(
                "INSERT OR IGNORE INTO explanations VALUES (?, ?, ?, ?)",
                (job.job, heat, json.dumps(explanation.scores), now),
            ).rowcount
            self._let_go(job)
        return bool(recorded)

    def fail(self, job: Job, error: str, for_good: bool) -> None:
        """Records that a job failed.

        Args:
            job: the job.
            error: why.
            for_good: whether it would fail again, and is set aside at once.
        """
        with self._transaction():
            self._db.execute(
                "UPDATE jobs SET failures = failures + ?, error = ? "
                "WHERE job = ? AND holder = ?",
                (MOST_FAILURES if for_good else 1, error, job.job, self.holder),
            )
            self._let_go(job)

    def give_back(self) -> None:
        """Releases jobs that were claimed here and not finished."""
        with self._transaction():
            self._db.execute(
                "UPDATE jobs SET claims = claims - 1, holder = NULL, "
                "lease_until = NULL WHERE holder = ?",
                (self.holder,),
            )

    def _let_go(self, job: Job) -> None:
        self._db.execute(
            "UPDATE jobs SET holder = NULL, lease_until = NULL "
            "WHERE job = ? AND holder = ?",
            (job.job, self.holder),
        )

    def retry(self) -> int:
        """Puts what was set aside back on the queue; returns how many."""
        with self._transaction():
            return self._db.execute(
                "UPDATE jobs SET failures = 0, claims = 0, error = NULL, "
                "holder = NULL, lease_until = NULL "
                f"WHERE NOT ({_OPEN}) AND job NOT IN (SELECT job FROM explanations)"
            ).rowcount

    def status(self) -> Status:
        """The state of the queue."""
        now = {"now": self._clock(), "lease": LEASE_S}
        (open_jobs,) = self._db.execute(
            f"SELECT count(*) FROM jobs WHERE {_OPEN}"
        ).fetchone()
        (free,) = self._db.execute(
            f"SELECT count(*) FROM jobs WHERE {_OPEN} AND {_FREE}", now
        ).fetchone()
        (done,) = self._db.execute("SELECT count(*) FROM explanations").fetchone()
        aside = self._db.execute(
            "SELECT job, cell, method, coalesce(error, 'its workers were killed') "
            f"FROM jobs WHERE NOT ({_OPEN}) "
            "AND job NOT IN (SELECT job FROM explanations) ORDER BY job"
        )
        return Status(
            folder=str(self.folder),
            model_sha256=self.model.model_sha256,
            waiting=free,
            held=open_jobs - free,
            done=done,
            set_aside=tuple(SetAside(*row) for row in aside),
        )

    def results(self) -> Iterator[Explained]:
        """The finished jobs, by cell."""
        numbers = self._db.execute(
            "SELECT job FROM explanations JOIN jobs USING (job) ORDER BY cell, job"
        ).fetchall()
        # One by one: a query that stays open would keep --keep from freeing room.
        for (number,) in numbers:
            yield self._result(number)

    def _result(self, number: int) -> Explained:
        cell, code, method, packed, scores, logits, frame, *crop = self._db.execute(
            "SELECT j.cell, j.code, j.method, e.heat, e.scores, s.logits, s.frame, "
            "crop_x0, crop_y0, crop_x1, crop_y1, c.seen, c.pixels "
            "FROM explanations e JOIN jobs j USING (job) "
            "JOIN sightings s USING (sighting) LEFT JOIN crops c USING (sighting) "
            "WHERE job = ?",
            (number,),
        ).fetchone()
        size = self.model.preprocessing.input_size
        # No more than is needed: a few damaged bytes can unpack to gigabytes.
        raw = zlib.decompressobj().decompress(packed, 2 * size * size)
        heat = np.frombuffer(raw, "<f2").reshape(size, size)
        index = self.model.codes.index(code)
        if method not in EXPLAINERS:
            raise ValueError(f"no method is called {printable(method)[:40]}")
        return Explained(
            cell,
            code,
            Explanation(method, index, heat.astype(np.float32), json.loads(scores)),
            unpack(logits),
            frame,
            (crop[0], crop[1], crop[2], crop[3]),
            *(None if part is None else decode_seen(part) for part in crop[4:]),
        )


def decode_seen(crop: bytes) -> Rgb:
    """A stored crop of a cell: uint8 RGB (S, S, 3).

    Raises:
        InputError: it is damaged.
    """
    try:
        return to_rgb(decode(crop, "its crop"))
    except InputError as e:
        raise InputError("its crop is damaged") from e


@contextmanager
def open_queue(
    folder: Path,
    mode: Literal["ro", "rw"] = "rw",
    clock: Callable[[], float] = time.time,
) -> Iterator[JobQueue]:
    """Opens a session's queue; the session may be running.

    Args:
        folder: a folder that 'edgecell run' wrote.
        mode: for reading, or for working too.
        clock: gives seconds since 1970, which leases go by.

    Raises:
        InputError: it has no record that can be read.
    """
    with open_database(folder, mode) as database:
        yield JobQueue(folder, database, clock)


def each_queue(
    root: Path, mode: Literal["ro", "rw"], do: Callable[[JobQueue], T]
) -> tuple[list[T], list[str]]:
    """Does something with the queue of a session, or of each session in a folder.

    Args:
        root: the folder.
        mode: see `open_queue`.
        do: what to do; one queue is open at a time.

    Returns:
        What came out, and why sessions beside those can't be read.

    Raises:
        InputError: there is none, or none that can be read.
    """
    done: list[T] = []
    unreadable: list[str] = []
    for folder in find_sessions(root):
        try:
            with open_queue(folder, mode) as queue:
                done.append(do(queue))
        except InputError as e:
            unreadable.append(str(e))
    if not done:
        nothing = f"{root} has no session; name a folder that 'edgecell run' wrote"
        raise InputError(unreadable[0] if unreadable else nothing)
    return done, unreadable
