"""The record of a session: one SQLite file in its folder, pictures beside it.

Frames given to `Store.write` are on the disk when it returns (see connection.py). The
price is one sync a call; a call takes many frames.
"""

import json
import logging
import os
import sqlite3
from collections.abc import Sequence
from contextlib import (
    AbstractContextManager,
    ExitStack,
    closing,
    suppress,
)
from dataclasses import astuple, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from edgecell import __version__
from edgecell.edge.analyse.pipeline import CellResult
from edgecell.edge.count.microscopes import NOTHING, Settled
from edgecell.edge.count.tracking import Told, TrackedFrame
from edgecell.edge.record.connection import (
    DATABASE,
    connect,
    pack,
    refusals_told,
    transaction,
)
from edgecell.edge.record.pictures import crops_of, jpeg
from edgecell.edge.record.policy import Policy, keep_queue
from edgecell.edge.record.retention import CLEAN, PICTURES, trim
from edgecell.edge.record.schema import migrate
from edgecell.edge.record.waiting import LeftOut
from edgecell.errors import OutputError
from edgecell.files import write_atomically
from edgecell.image.preprocess import Image
from edgecell.model.decision import Decision
from edgecell.model.modelfile import ModelRecord

logger = logging.getLogger(__name__)

RESULTS = "edgecell-out"
NO_JOBS = Policy()
_ADVICE = "make room or name another folder with --out"
_BUSY_S = 1.0
"""The recorder tries again, and says meanwhile that another program holds the file."""

_LONGEST_NAME = 100
"""Bytes of a source's name in a folder's: file systems take 255, some only 143."""

_CHECKS_PER_BOUND = 20
"""The bound on disk use is looked at whenever this part of it has been written."""


@dataclass(frozen=True)
class Session:
    """What a record says about its session.

    Attributes:
        source: address of the frames' source, without passwords.
        model: record of the model in use.
        settings: all else that the result depends on, ready for JSON.
    """

    source: str
    model: ModelRecord
    settings: dict[str, Any]


def default_folder(source_name: str, now: datetime) -> Path:
    """Where results go by default: edgecell-out/<source>-<date>-<time>."""
    short = source_name.encode()[:_LONGEST_NAME].decode(errors="ignore")
    return Path(RESULTS) / f"{short}-{now:%Y%m%d-%H%M%S}"


class Store:
    """Writes a session into a new folder; a context manager.

    All calls come from the thread that entered it.
    """

    def __init__(
        self,
        folder: Path,
        session: Session,
        keep_bytes: int | None = None,
        policy: Policy = NO_JOBS,
        numbered: bool = False,
    ) -> None:
        """Prepares the session; entering it makes its folder.

        Args:
            folder: the session's folder, new or empty.
            session: what is written first.
            keep_bytes: bound on the disk use of this session and those beside it in
                the same folder, see `retention.trim`; None for no bound.
            policy: which cells are to be explained later.
            numbered: always makes a new folder: if there is one of that name, '-2' or a
                higher number is appended to `folder`.
        """
        self.folder = folder
        self._session = session
        self._keep_bytes = keep_bytes
        self._policy = policy
        self._unchecked_bytes = 0
        self._numbered = numbered
        self._made_folder = False
        self._files: dict[Path, tuple[int, int]] = {}

    def __enter__(self) -> "Store":
        """Makes the folder and the database.

        Raises:
            OutputError: it can't be made, or has something in it already.
        """
        try:
            with self._telling(), ExitStack() as stack:
                self._claim()
                self._db = connect(self.folder / DATABASE, "rw", _BUSY_S)
                stack.callback(self._db.close)
                self._start()
                stack.pop_all()
        except OutputError:
            self._take_back()
            raise
        return self

    def _claim(self) -> None:
        """Makes the folder and an empty database that belong to this run alone.

        If two runs want the same folder at the same moment, one of them gets it.
        """
        self._make_folder()
        path = self.folder / DATABASE
        if not self._made_folder and any(self.folder.iterdir()):
            raise self._occupied()
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        except FileExistsError as e:
            raise self._occupied() from e
        self._files[path] = _identity(path)

    def _make_folder(self) -> None:
        wanted, number = self.folder, 1
        wanted.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                self.folder.mkdir()
                self._made_folder = True
                return
            except FileExistsError:
                if not self._numbered:
                    if not self.folder.is_dir():
                        raise
                    return
                number += 1
                self.folder = wanted.with_name(f"{wanted.name}-{number}")

    def _occupied(self) -> OutputError:
        return OutputError(
            f"{self.folder} is not empty; name another folder, so that no result "
            "is overwritten"
        )

    def _start(self) -> None:
        """Writes the schema and the session."""
        # incremental: pages that --keep empties go back to the file system
        self._db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        session = self._session
        with transaction(self._db):
            migrate(self._db)
            self._db.execute(
                "INSERT INTO session (started, source, version, model_sha256, model, "
                "settings) VALUES (?, ?, ?, ?, ?, ?)",
                (
                    _now(),
                    session.source,
                    __version__,
                    session.model.model_sha256,
                    session.model.to_json(),
                    json.dumps(session.settings),
                ),
            )
        # From now on there is a log, which holds frames alone.
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        log = self.folder / f"{DATABASE}-wal"  # it is there from now on
        self._files[log] = _identity(log)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Closes the file; takes the folder back if a failure left it empty."""
        with closing(self._db), self._telling():
            empty = self._db.execute("SELECT 1 FROM frames").fetchone() is None
        if kind is not None and empty:
            self._take_back()
        elif kind is not None:
            logger.warning("what was found until then is in %s", self.folder)

    def _take_back(self) -> None:
        """Removes what this run made itself, and nothing else."""
        database = self.folder / DATABASE
        with suppress(OSError):
            if _identity(database) == self._files.get(database):
                for path in self.folder.glob(f"{DATABASE}*"):  # its log, too
                    path.unlink()
        if self._made_folder:
            with suppress(OSError):  # it stays if a picture is in it
                self.folder.rmdir()

    def check(self) -> None:
        """Finds out whether the session's files are still there.

        Raises:
            OutputError: somebody removed or replaced them. What is written now is lost.
        """
        for path, identity in self._files.items():
            now = None
            with suppress(OSError):
                now = _identity(path)
            if now != identity:
                raise OutputError(
                    f"{path} was removed or replaced while the run wrote to it; what "
                    "is found from now on is not recorded; end the run and start it "
                    "again"
                )

    def write(
        self, frames: Sequence[TrackedFrame], gaps: Sequence[LeftOut] = ()
    ) -> None:
        """Records frames in one transaction: all of them or none.

        When it returns they are on the disk.

        Args:
            frames: the tracker's, in their order, each once.
            gaps: frames before them that were left out.

        Raises:
            OutputError: the disk doesn't take them.
        """
        # Compressed before the transaction, to keep that short.
        crops = [crops_of(tracked) for tracked in frames]
        with self._telling():
            with transaction(self._db):
                for tracked, kept in zip(frames, crops, strict=True):
                    self._write_frame(tracked, kept)
                self._db.executemany(
                    "INSERT INTO left_out VALUES (?, ?, ?, ?)", map(astuple, gaps)
                )
        self._unchecked_bytes += sum(
            len(seen) + len(pixels) for kept in crops for seen, pixels in kept.values()
        )
        self._keep_bound()

    def _write_frame(
        self, tracked: TrackedFrame, kept: dict[int, tuple[bytes, bytes]]
    ) -> None:
        result, frame = tracked.result, tracked.result.frame
        captured = datetime.now(timezone.utc).timestamp() - frame.age_s
        self._db.execute(
            "INSERT INTO frames VALUES (?, ?, ?, ?, ?, ?)",
            (
                frame.index,
                frame.name,
                frame.time_s,
                captured,
                result.gate,
                len(result.cells),
            ),
        )
        for decision in tracked.changed:
            self._write_decision(frame.index, decision)
        self._write_told(tracked.told)
        for i, (seen, pixels) in kept.items():
            row = (frame.index, tracked.cells[i], *_sighting(result.cells[i]))
            places = ", ".join("?" * (len(row)))
            cursor = self._db.execute(
                f"INSERT INTO sightings VALUES (NULL, {places})", row
            )
            self._db.execute(
                "INSERT INTO crops VALUES (?, ?, ?)", (cursor.lastrowid, seen, pixels)
            )
            heads, pooled = self._session.model.attributes, result.cells[i].pooled
            if heads is not None and pooled is not None:
                told = pack(heads.logits(pooled))
                self._db.execute(
                    "INSERT INTO morphology VALUES (?, ?)", (cursor.lastrowid, told)
                )
            heat = result.cells[i].heat
            if heat is not None:
                levels = np.rint(heat * 255).astype(np.uint8)
                values = (cursor.lastrowid, len(levels), levels.tobytes())
                self._db.execute("INSERT INTO maps VALUES (?, ?, ?)", values)
        if self._policy.which != "none":
            for decision in tracked.changed:
                keep_queue(self._db, self._policy, decision)

    def _write_told(self, told: Sequence[Told]) -> None:
        for each in told:
            v = each.verdict
            self._db.execute(
                "INSERT OR REPLACE INTO microscopes VALUES (?, ?, ?, ?, ?, ?, ?)",
                (each.width, each.height, v.kind, v.name, v.cells, v.score, v.limit),
            )

    def _write_decision(self, frame: int, decision: Decision) -> None:
        cell = decision.cell
        self._db.execute(
            "INSERT INTO cells VALUES (?, ?, ?) "
            "ON CONFLICT (cell) DO UPDATE SET same_as = excluded.same_as",
            (cell, frame, decision.same_as),
        )
        self._db.execute(
            "INSERT OR REPLACE INTO decisions VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                cell,
                frame,
                decision.code,
                decision.probability,
                json.dumps(decision.reasons),
                decision.votes,
                pack(decision.logits),
            ),
        )

    def write_picture(self, frame: int, picture: Image, clean: bool = False) -> Path:
        """Writes a frame's picture beside the database.

        Args:
            frame: the frame's number, which names the file.
            picture: uint8 BGR (H, W, 3).
            clean: whether nothing is drawn on it: then it goes to a folder of its own.

        Returns:
            The file.

        Raises:
            OutputError: the disk doesn't take it.
        """
        path = self.folder / (CLEAN if clean else PICTURES) / f"{frame:06d}.jpg"
        content = jpeg(picture)
        write_atomically(path, content)
        self._unchecked_bytes += len(content)
        self._keep_bound()
        return path

    def end(self, reason: str, settled: Settled = NOTHING) -> None:
        """Records that and why the session ended.

        Args:
            reason: why.
            settled: what could be decided only at the end.

        Raises:
            OutputError: the disk doesn't take it.
        """
        self.check()
        with self._telling(), transaction(self._db):
            for decision in settled.decisions:
                self._db.execute(
                    "UPDATE decisions SET reasons = ? WHERE cell = ?",
                    (json.dumps(decision.reasons), decision.cell),
                )
                if self._policy.which != "none":
                    keep_queue(self._db, self._policy, decision)
            self._write_told(settled.told)
            self._db.execute(
                "UPDATE session SET ended = ?, end_reason = ?", (_now(), reason)
            )

    def _keep_bound(self) -> None:
        bound = self._keep_bytes
        if bound is None or self._unchecked_bytes < bound / _CHECKS_PER_BOUND:
            return
        self._unchecked_bytes = 0
        try:
            trim(self.folder, self._db, bound)
        except (sqlite3.DatabaseError, OSError) as e:
            # What was to be written is written; the next time there may be room.
            logger.warning("%s exceeds its limit for now: %s", self.folder, e)

    def _telling(self) -> AbstractContextManager[None]:
        """Turns a refusal by the disk into a message for the user."""
        return refusals_told(self.folder, _ADVICE)

    def _refused(self, why: str) -> OutputError:
        return OutputError(f"cannot write to {self.folder}: {why}; {_ADVICE}")


def _sighting(found: CellResult) -> tuple[Any, ...]:
    """The columns of `sightings` from kind on."""
    record, box, crop = found.record, found.record.box, found.crop
    return (
        record.kind,
        *(box.x0, box.y0, box.x1, box.y1),
        *(crop.x0, crop.y0, crop.x1, crop.y1),
        record.red_cell_px,
        record.age_ms,
        record.gate,
        pack(found.logits),
    )


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _identity(path: Path) -> tuple[int, int]:
    """What distinguishes a file from another one of the same name."""
    status = path.stat()
    return status.st_dev, status.st_ino
