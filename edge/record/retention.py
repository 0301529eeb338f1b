"""Bounds the disk use of recorded sessions: pixels go, figures stay."""

import re
import sqlite3
from contextlib import suppress
from pathlib import Path

from edgecell.edge.record.connection import DATABASE, open_database
from edgecell.errors import InputError

PICTURES = "frames"
CLEAN = "clean"
"""Folders of the annotated pictures and of the same frames with nothing drawn."""
_UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12}
_LEAST_KEPT = 50 * 10**6
"""The write-ahead log alone takes some MB on top of the bound."""

_MOST_KEPT = 10**18

_ROOM = 0.9
"""Share of the bound that is left in use, so that it isn't met again at once."""

_STEPS = 8
"""A step drops this part of what a session has."""

_LEAST_DROPPED = 16
_BUSY_S = 1.0
"""Another session can wait; the running one can't."""


def parse_size(text: str) -> int:
    """Bytes from '500 MB' or '1.5GB' (powers of ten).

    Raises:
        InputError: no such size, less than 50 MB, or more than any disk has.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([MGT]B)\s*", text, re.IGNORECASE)
    size = float(match[1]) * _UNITS[match[2].upper()] if match else 0
    if not _LEAST_KEPT <= size <= _MOST_KEPT:
        raise InputError(
            f"'{text[:40]}' is not a size from 50MB to 1000000TB; give one such as "
            "500MB or 5GB"
        )
    return round(size)


def disk_use(session: Path) -> int:
    """Bytes of the files in a session's folder and its pictures."""
    total = 0
    for path in (*session.glob("*"), *_pictures(session, "*")):
        with suppress(FileNotFoundError):  # another session may be trimming too
            total += path.stat().st_size if path.is_file() else 0
    return total


def trim(current: Path, database: sqlite3.Connection, keep_bytes: int) -> None:
    """Drops pictures and crops until the sessions of a folder fit into a bound.

    The oldest sessions are trimmed first, and the oldest frames within each; the
    running session comes last. What was counted and decided is never dropped, so that
    with a very small bound the use stays above it.

    Args:
        current: folder of the running session; those beside it count too.
        database: the running session's, outside of a transaction.
        keep_bytes: the bound.

    Raises:
        OSError: a picture of the running session can't be removed.
        sqlite3.DatabaseError: the running session's database fails.
    """
    _empty_log(database)
    sessions = [path.parent for path in current.parent.glob(f"*/{DATABASE}")]
    excess = sum(map(disk_use, sessions)) - keep_bytes
    if excess <= 0:
        return
    excess += round((1 - _ROOM) * keep_bytes)
    others = [path for path in sessions if path.resolve() != current.resolve()]
    for session in sorted(others, key=_started):
        # A session that another program holds, that is damaged or another user's is
        # left alone.
        with suppress(InputError, OSError):
            with open_database(session, "rw", _BUSY_S) as other:
                excess -= _trim_session(session, other, excess)
    _trim_session(current, database, excess)


def _started(session: Path) -> str:
    """When a session began, fit for sorting; '' if its database doesn't say."""
    with suppress(InputError), open_database(session, "ro", _BUSY_S) as database:
        rows = database.execute("SELECT started FROM session").fetchall()
        return str(rows[0][0]) if rows else ""
    return ""


def _trim_session(session: Path, database: sqlite3.Connection, excess: int) -> int:
    """Drops a session's oldest pixels; returns the bytes that it freed."""
    if excess <= 0:
        return 0
    before, freed = disk_use(session), 0
    while freed < excess and _drop_oldest(session, database):
        freed = before - disk_use(session)
    return freed


def _drop_oldest(session: Path, database: sqlite3.Connection) -> bool:
    """Drops the oldest pictures and crops; returns False if it should stop."""
    pictures = sorted(
        _pictures(session, "*.jpg"),
        key=lambda path: (len(path.stem), path.name),
    )
    # What a kill left of a picture that was being written; nobody else looks for it.
    for path in _pictures(session, ".*.jpg.*"):
        path.unlink(missing_ok=True)
    (crops,) = database.execute("SELECT count(*) FROM crops").fetchone()
    for path in pictures[: max(_LEAST_DROPPED, len(pictures) // _STEPS)]:
        path.unlink(missing_ok=True)
    if crops:
        database.execute(
            # Those that wait to be explained go last.
            "DELETE FROM crops WHERE sighting IN (SELECT sighting FROM crops "
            "ORDER BY sighting IN (SELECT sighting FROM jobs WHERE job NOT IN "
            "(SELECT job FROM explanations)), sighting LIMIT ?)",
            (max(_LEAST_DROPPED, crops // _STEPS),),
        )
        # Commits as well; `execute` would end after the first page.
        database.executescript("PRAGMA incremental_vacuum")
        if not _empty_log(database):
            return False  # what it freed shows only when a reader is done
    return bool(pictures or crops)


def _empty_log(database: sqlite3.Connection) -> bool:
    """Brings the write-ahead log into the database and its file to length 0.

    Returns:
        Whether it could; a program that reads may hold it up.
    """
    (busy, _, _) = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy


def _pictures(session: Path, pattern: str) -> list[Path]:
    folders = (session / PICTURES, session / CLEAN)
    return [path for folder in folders for path in folder.glob(pattern)]
