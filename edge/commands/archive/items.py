"""The images of an archive, one after the other, without listing them all first."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from zipfile import ZipFile

from edgecell.archive import open_archive, read_member
from edgecell.data.dataset import IMAGE_SUFFIXES
from edgecell.data.members import each_file, each_member, member_path
from edgecell.errors import InputError
from edgecell.files import printable
from edgecell.image.decode import LARGEST_BYTES, read_file


@dataclass(frozen=True)
class Item:
    """An image: a file, or a member of a zip file.

    Attributes:
        name: what the table calls it.
        file: the file's path.
        member: name within it; None for a file of its own.
        stamp: changes with its content: size and time, or checksum.
    """

    name: str
    file: str
    member: str | None
    stamp: str

    def read(self) -> bytes:
        """Its content.

        Raises:
            InputError: it can't be read.
        """
        if self.member is None:
            return read_file(Path(self.file))
        archive = _opened(self.file)
        try:
            info = archive.getinfo(self.member)
        except KeyError:
            raise InputError(f"{self.name} is gone") from None
        return read_member(archive, info, self.file, LARGEST_BYTES)


@lru_cache(maxsize=4)
def _opened(file: str) -> ZipFile:
    """A zip file that stays open for as long as this process lives."""
    return ExitStack().enter_context(open_archive(Path(file), file))


@dataclass(frozen=True)
class Chunk:
    """Images that are worked on together, and recorded together.

    Attributes:
        key: hash of what the result depends on: the images and all settings.
        items: the images.
    """

    key: str
    items: tuple[Item, ...]


def items_of(roots: Sequence[str]) -> Iterator[Item]:
    """The images below folders and in zip files, and images named one by one.

    Raises:
        InputError: there is nothing at a root, or no image.
    """
    for root in roots:
        path, found = Path(root), False
        for item in _below(path):
            found = True
            yield item
        if not found:
            known = ", ".join(IMAGE_SUFFIXES)
            raise InputError(f"{root} is not an image and contains none ({known})")


def _below(root: Path) -> Iterator[Item]:
    if not root.exists():
        raise InputError(f"{root} does not exist")
    if root.is_dir():
        for path in each_file(root):
            if path.suffix.lower() in IMAGE_SUFFIXES:
                yield _of_file(path)
    elif root.suffix.lower() == ".zip":
        with open_archive(root, str(root)) as archive:
            for info in each_member(archive):
                path_in = member_path(info)
                if path_in.suffix.lower() in IMAGE_SUFFIXES:
                    name = printable(f"{root}:{path_in}")
                    stamp = f"{info.file_size} {info.CRC}"
                    yield Item(name, str(root), info.filename, stamp)
    else:
        yield _of_file(root)


def _of_file(path: Path) -> Item:
    status = path.stat()
    stamp = f"{status.st_size} {status.st_mtime_ns}"
    return Item(printable(str(path)), str(path), None, stamp)


def chunks_of(items: Iterable[Item], size: int, settings: str) -> Iterator[Chunk]:
    """Groups images, in their order.

    Args:
        items: the images.
        size: how many make a chunk.
        settings: everything else that a result depends on.
    """
    items = iter(items)
    while taken := tuple(islice(items, size)):
        said = json.dumps([settings, *((i.name, i.stamp) for i in taken)])
        yield Chunk(hashlib.sha256(said.encode()).hexdigest()[:32], taken)
