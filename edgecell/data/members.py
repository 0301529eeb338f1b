"""The files of a data set, in a folder or a ZIP archive, by their path below it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NoReturn
from zipfile import ZipFile, ZipInfo

from edgecell.archive import open_archive, read_member
from edgecell.errors import InputError
from edgecell.image.decode import LARGEST_BYTES, read_file

Files = dict[PurePosixPath, Callable[[], bytes]]
"""Reads the content of each file; raises `InputError` for one that can't be read."""

# Folders that systems keep for themselves, without a dot in front.
_OF_SYSTEMS = frozenset(
    ("__MACOSX", "$RECYCLE.BIN", "System Volume Information", "lost+found", "@eaDir")
)


@contextmanager
def open_files(root: Path) -> Iterator[Files]:
    """Opens a folder or a ZIP archive.

    Hidden files and folders are left out: trash, checkpoints, and the `._x.jpg` that
    macOS puts beside each `x.jpg`. Links to folders are followed.

    Args:
        root: the folder, which may itself be hidden, or the archive.

    Raises:
        InputError: it is missing, no ZIP archive, or may not be read.
    """
    if not root.exists():
        raise InputError(f"{root} does not exist")
    if root.is_dir():
        yield {
            PurePosixPath(path.relative_to(root)): partial(read_file, path)
            for path in sorted(each_file(root))
        }
        return
    with open_archive(root, str(root)) as archive:
        paths = {member_path(info): info for info in each_member(archive)}
        yield {
            path: partial(read_member, archive, info, str(root), LARGEST_BYTES)
            for path, info in sorted(paths.items())
        }


def member_path(info: ZipInfo) -> PurePosixPath:
    """The path that an archive gives for a member."""
    # Some Windows programs separate folders with the wrong slash.
    return PurePosixPath(info.filename.replace("\\", "/"))


def each_member(archive: ZipFile) -> Iterator[ZipInfo]:
    """The files of a ZIP archive in its own order, without hidden ones."""
    for info in archive.infolist():
        if info.filename.endswith(("/", "\\")):
            continue
        if not any(map(_hidden, member_path(info).parts)):
            yield info


def each_file(root: Path) -> Iterator[Path]:
    """The files below a folder, without hidden ones, in a fixed order.

    A folder's files come before those of the folders in it, both by their names: the
    same on every run, and without a list of them all.

    Raises:
        InputError: a folder may not be read.
    """
    seen = set()
    for folder, below, names in os.walk(root, onerror=_refuse, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:  # a link to a folder above
            below.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        below[:] = sorted(name for name in below if not _hidden(name))
        for name in sorted(names):
            path = Path(folder, name)
            if not _hidden(name) and path.is_file():
                yield path


def _hidden(part: str) -> bool:
    return part.startswith(".") or part in _OF_SYSTEMS


def _refuse(error: OSError) -> NoReturn:
    raise InputError(f"cannot read the folder {error.filename}: {error.strerror}")
