"""Writing files so that a power cut leaves the old one or the new one."""

import csv
import io
import os
import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from edgecell.errors import InputError, OutputError

Kind = Literal[
    "CSV",
    "JSON",
    "a .prom file",
    "PDF",
    "PNG",
    "JPEG",
    "AVI",
    "TFLite",
    "ONNX",
    "npz",
    "Parquet",
]

_COMPUTED = re.compile(r"[=+@\t\r-](?![\d.]+(e[+-]\d+)?$).", re.DOTALL)
"""Text that a spreadsheet computes, unlike a number with a sign."""
_HEAD = 4096  # bytes by which a file's kind is told
_MAGIC: dict[Kind, tuple[int, bytes]] = {  # where it stands, and what
    "PDF": (0, b"%PDF"),
    "PNG": (0, b"\x89PNG"),
    "JPEG": (0, b"\xff\xd8"),
    "AVI": (8, b"AVI "),
    "TFLite": (4, b"TFL3"),
    "ONNX": (0, b"\x08"),  # the first field, a number: the format's version
    "npz": (0, b"PK"),
    "Parquet": (0, b"PAR1"),
}


def write_atomically(path: Path, content: bytes | str, mode: int = 0o644) -> None:
    """Writes a file whole or not at all.

    Args:
        path: the file to write; its folder is made if need be. A device or pipe is
            written to, not replaced.
        content: the bytes, or text to be encoded as UTF-8.
        mode: the file's permissions.

    Raises:
        OutputError: the file cannot be written to the folder or disk.
    """
    data = content.encode() if isinstance(content, str) else content
    partial: str | None = None
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        # Cut, since the longest name that a file may have is the longest for this, too.
        fd, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
        with os.fdopen(fd, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.chmod(partial, mode)
        os.replace(partial, path)
    except OSError as e:
        if partial and os.path.exists(partial):
            os.unlink(partial)
        raise OutputError(f"cannot write {path}: {e.strerror}") from e


def csv_text(columns: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """A table as CSV (RFC 4180, but lines end in LF), with a header.

    A spreadsheet computes text that begins as a formula does, which a file's name or a
    person's may; an apostrophe before it keeps it text.

    Args:
        columns: names of the columns.
        rows: as many values each; None becomes an empty one.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_as_text(value) for value in row] for row in rows)
    return text.getvalue()


def _as_text(value: object) -> object:
    computed = isinstance(value, str) and _COMPUTED.match(value)
    return f"'{value}" if computed else value


def several(count: int, noun: str) -> str:
    """A number with its noun: '1 cell', '2 cells'."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def printable(text: str) -> str:
    """Text as a terminal, a log or a table may show it.

    File names may contain any byte. Bytes that are not valid UTF-8, and characters that
    would control a terminal, are escaped as in Python source.

    Args:
        text: any text, such as a path.
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )


def read_bounded(path: Path, most: int) -> bytes:
    """Reads a small file whole; a device or pipe might never end.

    Args:
        path: a regular file.
        most: bytes that it may have.

    Raises:
        InputError: it can't be read, is not a regular file, or has more bytes.
    """
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is not a regular file; name one")
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as e:
        raise InputError(f"{path} cannot be read ({e.strerror})") from e
    if len(content) > most:
        raise InputError(f"{path} is too large: at most {most} bytes are read")
    return content


def check_kind(path: Path, kind: Kind) -> None:
    """Keeps a file from being overwritten by one of another kind.

    What looks like an earlier result may be replaced, and so may a file that is empty,
    or all zeros after a power cut. Devices and pipes are not looked into.

    Args:
        path: the file to be written.
        kind: what is to be written.

    Raises:
        OutputError: ``path`` is another kind of file, or named as a session's.
    """
    if path.suffix == ".sqlite":
        raise OutputError(
            f"cannot write {path}: the ending .sqlite is for sessions, not for {kind}"
        )
    if not path.is_file():
        return
    try:
        with path.open("rb") as f:
            head = f.read(_HEAD)
    except OSError as e:
        raise OutputError(f"cannot write {path}: {e.strerror}") from e
    if head.strip(b"\0") and not _is(head, kind):
        raise OutputError(
            f"{path} exists and is not {kind}, so it is not overwritten; name another "
            "file"
        )


def _is(head: bytes, kind: Kind) -> bool:
    if kind in _MAGIC:
        start, magic = _MAGIC[kind]
        return head[start:].startswith(magic)
    # A character may be cut in two at the end of the head.
    text = head.decode(errors="replace").rstrip("\ufffd").strip()
    control = any(c < " " and c not in "\t\n\r" for c in text)
    if control or "\ufffd" in text or text.startswith("%PDF"):
        return False
    marks = {"{": "JSON", "[": "JSON", "#": "a .prom file"}
    return marks.get(text[:1], "CSV") == kind


def check_writable(path: Path) -> None:
    """Checks before long work that its result can be written.

    Raises:
        OutputError: the nearest folder that exists takes no file, or ``path`` is a
            folder.
    """
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder; name a file")
    if path.exists() and not path.is_file():  # a device or pipe, which stays
        return
    folder = path.parent
    while not folder.exists():  # it is made when there is something to put into it
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as e:
        raise OutputError(f"cannot write {path}: {e.strerror}") from e
