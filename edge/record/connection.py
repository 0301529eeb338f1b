"""The one door to a session's database: opening it, transactions, stored arrays.

Every module that reads or writes a session goes through here. A transaction is synced
to the disk before `transaction` ends (write-ahead log, synchronous=FULL), so that what
was reported as written outlives a power cut, and what was not is absent as a whole.
"""

import functools
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from edgecell.edge.record.schema import (
    APPLICATION_ID,
    SCHEMA_VERSION,
    is_ours,
    migrate,
    stand_in,
)
from edgecell.errors import InputError, OutputError

DATABASE = "session.sqlite"

BUSY_S = 30.0
"""How long to wait for another program that writes; on a slow card `--keep` of another
session may take some seconds."""


class DamagedRowError(ValueError):
    """A column holds something of another type than its own."""


def _number(kind: type[int] | type[float]) -> Callable[[bytes], int | float]:
    def convert(text: bytes) -> int | float:
        try:
            return kind(text)
        except ValueError as e:
            shown = text[:20].decode(errors="replace")
            raise DamagedRowError(
                f"{shown!r} is not a number of the column's type"
            ) from e

    return convert


# SQLite keeps any type in any column, and a session may come from anywhere. Python
# takes an empty text for None where it converts it, so `_read_row` looks at text.
sqlite3.register_converter("INTEGER", _number(int))
sqlite3.register_converter("REAL", _number(float))


@functools.cache
def _blobs() -> frozenset[str]:
    """Names of the columns that hold bytes."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        migrate(database)
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        columns = [
            column
            for (table,) in tables.fetchall()
            for column in database.execute(f"PRAGMA table_info({table})").fetchall()
        ]
    return frozenset(name for _, name, kind, *_ in columns if kind == "BLOB")


def _read_row(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row as it was read, with bytes only in columns of bytes."""
    for value, (name, *_) in zip(row, cursor.description, strict=True):
        if isinstance(value, bytes) and name not in _blobs():
            raise DamagedRowError(f"{name} holds bytes instead of text or a number")
    return row


def connect(
    path: Path,
    mode: Literal["ro", "rw", "rwc"],
    busy_s: float = BUSY_S,
    immutable: bool = False,
) -> sqlite3.Connection:
    """Opens a database file without looking into it.

    Args:
        path: the file.
        mode: for reading, for writing too, or to be made if it is not there.
        busy_s: seconds to wait for other writers.
        immutable: read it without a lock or log of any kind: nobody can change it.

    Raises:
        sqlite3.Error: it can't be opened.
    """
    uri = f"file://{quote(os.fsencode(path.absolute()))}?mode={mode}"
    if immutable:
        uri += "&immutable=1"
    database = sqlite3.connect(
        uri,
        uri=True,
        timeout=busy_s,
        isolation_level=None,
        detect_types=sqlite3.PARSE_DECLTYPES,
    )
    database.row_factory = _read_row
    # The file may come from anywhere: its schema calls no function of SQLite's.
    database.execute("PRAGMA trusted_schema = OFF")
    if mode != "ro":
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA foreign_keys = ON")
    return database


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Everything that is written within it is on the disk afterwards, or nothing is."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        # A failed COMMIT or a full disk may have rolled back already.
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


class HeldError(OutputError):
    """Another program holds the session's file; it can be written to later."""


@contextmanager
def refusals_told(folder: Path, advice: str) -> Iterator[None]:
    """Turns a refusal by the disk into a message for the user.

    Args:
        folder: the session's.
        advice: what to try, such as 'make room'.

    Raises:
        HeldError: another program holds the file.
        OutputError: the disk refused.
    """
    try:
        yield
    except sqlite3.IntegrityError:
        raise  # a mistake of ours, such as a frame written twice
    except (sqlite3.DatabaseError, OSError) as e:
        why = (isinstance(e, OSError) and e.strerror) or str(e)
        message = f"cannot write to {folder}: {why}; {advice}"
        # Python 3.10 doesn't tell SQLite's error codes.
        held = isinstance(e, sqlite3.OperationalError) and "is locked" in why
        raise (HeldError if held else OutputError)(message) from e


@contextmanager
def open_database(
    folder: Path, mode: Literal["ro", "rw"], busy_s: float = BUSY_S
) -> Iterator[sqlite3.Connection]:
    """Opens a session's database, also one that an earlier edgecell wrote.

    An earlier one is migrated if it is opened for writing. For reading it stays as it
    is, since it may lie on a disk that takes nothing: tables that it lacks are empty
    ones of this connection.

    Args:
        folder: a folder that 'edgecell run' wrote.
        mode: for reading, or for writing too.
        busy_s: seconds to wait for other writers.

    Raises:
        InputError: it has no record that can be read.
        OutputError: the disk can't be written to.
    """
    path = folder / DATABASE
    if not path.is_file():
        raise InputError(
            f"{folder} has no {DATABASE}; name a folder that 'edgecell run' wrote"
        )
    # Of a run that was killed while it made the file, or of somebody who wants SQLite
    # to play it back; later there is the write-ahead log alone.
    if _beside(path, "-journal").exists():
        raise _not_begun(path)
    taken = mode == "ro" and not os.access(folder, os.W_OK)
    # SQLite would make a log beside a database that nobody has open.
    fixed = taken and not _has_log(path)
    try:
        with ExitStack() as stack:
            if taken and not fixed and not _beside(path, "-shm").exists():
                path = stack.enter_context(_copied(path))
            database = stack.enter_context(closing(connect(path, mode, busy_s, fixed)))
            _check(database, folder / DATABASE)
            if mode == "ro":
                stand_in(database)
            else:
                with transaction(database):
                    migrate(database)
            yield database
    except (sqlite3.DatabaseError, UnicodeDecodeError, DamagedRowError) as e:
        if "readonly" in str(e):  # Python 3.10 doesn't tell SQLite's error codes
            raise OutputError(
                f"{path} cannot be written: {e}; copy the session to where it can be"
            ) from e
        raise InputError(f"{path} cannot be read: {e}") from e


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(f"{path.name}{ending}")


def _has_log(path: Path) -> bool:
    """Whether something is in a database's write-ahead log."""
    log = _beside(path, "-wal")
    return log.exists() and log.stat().st_size > 0


@contextmanager
def _copied(path: Path) -> Iterator[Path]:
    """A copy with its log: SQLite reads a log only where it can make its index."""
    with tempfile.TemporaryDirectory(prefix="edgecell-") as folder:
        copy = Path(folder) / path.name
        for ending in ("", "-wal"):
            shutil.copyfile(_beside(path, ending), _beside(copy, ending))
        yield copy


def _check(database: sqlite3.Connection, path: Path) -> None:
    """Checks that it is a session's, of a known version."""
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID or version < 1:
        raise _not_begun(path)
    if version > SCHEMA_VERSION:
        raise InputError(
            f"{path} was written by a later edgecell (its record has version "
            f"{version}, this one reads up to {SCHEMA_VERSION}); install that one"
        )
    if not is_ours(database, version):
        raise InputError(f"{path} was changed: its tables are not those of a session")


def _not_begun(path: Path) -> InputError:
    return InputError(
        f"{path} is not the record of a session, or its run was broken off before it "
        "began; name another folder"
    )


def pack(logits: npt.NDArray[np.floating] | None) -> bytes | None:
    """Logits as they are stored: float32, little-endian."""
    return None if logits is None else logits.astype("<f4").tobytes()


def unpack(blob: bytes) -> npt.NDArray[np.float32]:
    """Stored logits: float32 (C,)."""
    return np.frombuffer(blob, "<f4").astype(np.float32)
