"""The sessions of a results folder, at addresses safe for any folder name."""

import hashlib
import os
import re
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from starlette.exceptions import HTTPException
from starlette.requests import Request

from edgecell.edge.count.readings import Readings
from edgecell.edge.record.connection import DATABASE, open_database
from edgecell.edge.record.review import Review
from edgecell.edge.record.sessions import Summary, find_sessions
from edgecell.edge.report.signing import Reports
from edgecell.edge.report.texts import text
from edgecell.errors import InputError, OutputError

_BUSY_S = 5.0
"""How long a browser is left waiting for a running session's own writes."""


@dataclass(frozen=True)
class Entry:
    """A session in the list.

    Attributes:
        key: its part of an address.
        name: its folder's.
        summary: in a few words; None if it can't be read.
        readings: its cells; None likewise.
        sample: the sample number, if somebody gave one.
        signed: names of those who signed its last report; empty if it's unsigned.
        current: whether that report is still up to date.
        problem: why it can't be read; ''.
    """

    key: str
    name: str
    summary: Summary | None = None
    readings: Readings | None = None
    sample: str = ""
    signed: tuple[str, ...] = ()
    current: bool = False
    problem: str = ""

    def matches(self, words: str) -> bool:
        """Whether its name or its sample number contains all the words."""
        own = _folded(f"{self.name}\n{self.sample}")
        return all(word in own for word in _folded(words).split())


def _folded(text: str) -> str:
    """Without case; macOS writes an umlaut in a folder's name as two characters."""
    return unicodedata.normalize("NFC", text).casefold()


class Library:
    """The sessions in a folder."""

    def __init__(self, root: Path) -> None:
        """Serves what is in ``root``, or ``root`` itself if it is a session."""
        self.root = root.resolve()
        self._known: dict[str, tuple[tuple[float, ...], Entry]] = {}
        self._reading = threading.Lock()

    def folders(self) -> dict[str, Path]:
        """Session folders by their keys."""
        return {key_of(folder): folder for folder in find_sessions(self.root)}

    def entries(self) -> list[Entry]:
        """All sessions, the newest first; those that can't be read last."""
        # Thousands take a while the first time: who comes meanwhile waits for that.
        with self._reading:
            entries = [self._entry(*item) for item in self.folders().items()]
        started = [e.summary.started if e.summary else "" for e in entries]
        order = sorted(range(len(entries)), key=lambda i: started[i], reverse=True)
        return [entries[i] for i in order]

    def _entry(self, key: str, folder: Path) -> Entry:
        """An entry, read again if the session's files have changed."""
        state = tuple(_changed(folder / f"{DATABASE}{end}") for end in ("", "-wal"))
        if self._known.get(key, ((), None))[0] != state:
            self._known[key] = (state, _read(key, folder))
        return self._known[key][1]


def _read(key: str, folder: Path) -> Entry:
    name = shown_name(folder)
    try:
        with open_database(folder, "ro", _BUSY_S) as database:
            review = Review(folder, database)
            reports = Reports(review)
            last = reports.last()
            return Entry(
                key,
                name,
                review.session.summary(),
                review.session.readings(),
                reports.note().sample,
                tuple(s.person for s in last.signatures) if last else (),
                last is not None and reports.is_current(last),
            )
    except InputError as e:
        return Entry(key, name, problem=str(e))


def _changed(path: Path) -> float:
    """When a file was last written; 0 if there is none.

    An empty one counts as none: it is the log that reading a session leaves behind.
    """
    try:
        state = path.stat()
    except OSError:
        return 0.0
    return state.st_mtime_ns if state.st_size else 0.0


def key_of(folder: Path) -> str:
    """A session's part of an address: readable, and safe whatever the name is."""
    raw = os.fsencode(folder.name)
    words = re.findall(r"[a-z0-9]+", raw.decode("ascii", "replace").lower())
    return "-".join([*words, hashlib.sha256(raw).hexdigest()[:8]])[-40:].strip("-")


def shown_name(folder: Path) -> str:
    """A folder's name, fit to be shown even if it is no UTF-8."""
    return os.fsencode(folder.name).decode("utf-8", "replace")


def folder_of(request: Request) -> Path:
    """The session that an address names.

    Raises:
        HTTPException: there is none.
    """
    key = request.path_params["key"]
    folder = request.app.state.library.folders().get(key)
    if folder is None:
        raise HTTPException(404, text("problem.no_session"))
    return Path(folder)


@contextmanager
def review_of(request: Request, mode: Literal["ro", "rw"] = "ro") -> Iterator[Review]:
    """Opens the session that an address names.

    Raises:
        HTTPException: there is none, it can't be read, or not be written.
    """
    folder = folder_of(request)
    if mode == "rw" and not _writable(folder):
        raise HTTPException(409, text("problem.read_only"))
    try:
        with open_database(folder, mode, _BUSY_S) as database:
            yield Review(folder, database)
    except InputError as e:
        raise HTTPException(400, str(e)) from e
    except OutputError as e:
        raise HTTPException(409, str(e)) from e


def _writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK) and os.access(folder / DATABASE, os.W_OK)
