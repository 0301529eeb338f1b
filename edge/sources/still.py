"""Image files as a frame source, and several sources as one."""

import logging
import mimetypes
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from glob import glob
from pathlib import Path

from edgecell.data.dataset import IMAGE_SUFFIXES
from edgecell.edge.sources.base import Frame, FrameSource, Skipped
from edgecell.errors import InputError, SourceError
from edgecell.files import printable, several
from edgecell.image.decode import decode, page_count, read_file
from edgecell.image.preprocess import Bgr

logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = (".avi", ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".mpg", ".mpeg")

_OTHER_PICTURES = (
    *(".gif", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".j2k", ".jpx", ".jpe"),
    *(".jfif", ".dib", ".ppm", ".pgm", ".pnm", ".psd", ".tga", ".exr", ".dng", ".raw"),
    *(".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".dcm", ".svs"),
    *(".ndpi", ".vms", ".scn", ".mrxs", ".bif", ".vsi", ".czi", ".lif", ".nd2"),
    *(".oir", ".zvi", ".lsm", ".wmv", ".flv", ".3gp", ".mts", ".m2ts", ".mjpg"),
)
"""Kinds of pictures that cameras, telephones and slide scanners write, beside those
that `mimetypes` knows."""


_NAMES_SHOWN = 5


@dataclass(frozen=True)
class Listing:
    """The pictures of a folder or glob.

    Attributes:
        images: those of supported kinds, in natural order (2 before 10).
        others: files of unsupported kinds, including videos.
        folders: folders beside them, which are not searched.
    """

    images: tuple[Path, ...]
    others: tuple[Path, ...] = ()
    folders: tuple[Path, ...] = ()


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sorts 'frame2' before 'frame10'."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part)
        for part in re.split(r"([0-9]+)", name.lower())
        if part
    ]


def listed(paths: Iterable[Path]) -> Listing:
    """The pictures among files.

    Hidden files don't count: macOS puts a ``._x.jpg`` beside each ``x.jpg``.
    """
    shown = [p for p in paths if not p.name.startswith(".")]
    shown.sort(key=lambda path: natural_key(path.name))

    images = tuple(
        p for p in shown if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()
    )
    others = tuple(
        p
        for p in shown
        if p.suffix.lower() not in IMAGE_SUFFIXES and _is_picture(p) and p.is_file()
    )
    return Listing(images, others, tuple(p for p in shown if p.is_dir()))


def _is_picture(path: Path) -> bool:
    """Whether a file's name says that there are pictures in it."""
    if path.suffix.lower() in (*_OTHER_PICTURES, *VIDEO_SUFFIXES):
        return True
    kind, _ = mimetypes.guess_type(path.name)
    return kind is not None and kind.startswith(("image/", "video/"))


def images_like(pattern: str) -> Listing:
    """The pictures that a glob names.

    Raises:
        SourceError: there is none that can be read.
    """
    found = listed(map(Path, glob(pattern)))
    if not found.images:
        raise SourceError(f"no image matches {pattern} ({', '.join(IMAGE_SUFFIXES)})")
    return found


def images_in(folder: Path) -> Listing:
    """The pictures in a folder.

    Not in its subfolders: our own pictures of an earlier run may lie there.

    Raises:
        SourceError: there is none that can be read.
    """
    try:
        found = listed(folder.iterdir())
    except OSError as e:
        raise SourceError(f"{folder} cannot be read ({e.strerror})") from e
    if not found.images:
        raise SourceError(
            f"{folder} holds no image ({', '.join(IMAGE_SUFFIXES)}); "
            "subfolders are not searched, name one of them"
        )
    return found


def read_image(path: Path) -> Bgr:
    """Reads an image file.

    Args:
        path: the file; 16-bit and grey images become 8-bit BGR.

    Returns:
        uint8 BGR (H, W, 3).

    Raises:
        InputError: it can't be read, is not an image, is damaged or too large.
    """
    return decode(read_file(path), str(path))


def read_first_page(path: Path, skipped: Skipped) -> Bgr:
    """Reads an image file, and reports any further pages of a TIFF.

    They are left out because slide scanners put the same field there again, smaller.

    Args:
        path: the file.
        skipped: where pages are counted and named.

    Raises:
        InputError: see `read_image`.
    """
    data = read_file(path)
    image = decode(data, str(path))
    more = page_count(data) - 1
    if more:
        logger.warning(
            "%s: %s not read; save them as separate files",
            path,
            several(more, "more page"),
        )
        skipped.add(f"{printable(path.name)} (pages 2 to {more + 1})", more)
    return image


def tell_others(
    others: Iterable[Path], skipped: Skipped, folders: Sequence[Path] = ()
) -> None:
    """Counts and names pictures of unsupported kinds, and names folders."""
    kinds: Counter[str] = Counter()
    for path in others:
        kinds[path.suffix.lower()] += 1
        skipped.add(printable(path.name))
    if kinds:
        listed_kinds = ", ".join(f"{n} {suffix}" for suffix, n in sorted(kinds.items()))
        logger.warning("not read: %s; save them as PNG or TIFF", listed_kinds)
    if folders:
        names = [printable(path.name) for path in folders[:_NAMES_SHOWN]]
        more = ", ..." if len(folders) > len(names) else ""
        logger.warning("folders are not searched: %s%s", ", ".join(names), more)


class StillFrames:
    """Image files, one after the other; unreadable ones are skipped and named."""

    live = False

    def __init__(self, name: str, listing: Listing) -> None:
        """Prepares to read; files are opened one by one."""
        self.name = name
        self.total: int | None = len(listing.images)
        self.skipped = Skipped()
        self._listing = listing

    def __enter__(self) -> "StillFrames":
        return self

    def __exit__(self, *_: object) -> None: ...

    def __iter__(self) -> Iterator[Frame]:
        """Yields the images.

        Raises:
            InputError: the only file can't be read.
            SourceError: none of several can.
        """
        index, paths = 0, self._listing.images
        tell_others(self._listing.others, self.skipped, self._listing.folders)
        for path in paths:
            try:
                image = read_first_page(path, self.skipped)
            except InputError as e:
                if len(paths) == 1:
                    raise
                logger.warning("skipped: %s", e)
                self.skipped.add(printable(path.name))
                continue
            yield Frame(index, None, image, printable(path.name))
            index += 1
        if not index:
            raise SourceError(
                f"none of the {len(paths)} images could be read; the first is "
                f"{paths[0]}"
            )


class Chain:
    """Several sources as one; frames are numbered consecutively."""

    live = False

    def __init__(self, name: str, parts: Sequence[FrameSource]) -> None:
        """Prepares to read the parts one after the other."""
        self.name = name
        self._parts = parts
        self._open = ExitStack()
        self.total: int | None = None
        self.skipped = Skipped()

    def __enter__(self) -> "Chain":
        with ExitStack() as stack:
            for part in self._parts:
                stack.enter_context(part)
            self._open = stack.pop_all()
        totals = [part.total for part in self._parts]
        self.total = sum(n for n in totals if n is not None)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def __iter__(self) -> Iterator[Frame]:
        index = 0
        for part in self._parts:
            for frame in part:
                if frame is not None:
                    yield replace(frame, index=index)
                    index += 1
            self.skipped.count += part.skipped.count
            self.skipped.names.extend(part.skipped.names)
