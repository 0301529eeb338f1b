"""A folder that a camera fills, as a frame source without end."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from edgecell.edge.sources.base import Frame, Skipped
from edgecell.edge.sources.still import (
    Listing,
    read_first_page,
    tell_others,
)
from edgecell.errors import InputError
from edgecell.files import printable
from edgecell.image.preprocess import Bgr

logger = logging.getLogger(__name__)

_POLL_S = 0.25
"""Asking again works on network shares too, where no change is announced."""

_SETTLED_S = 2.0
"""A file that has not changed for so long is not being written any more."""


Signature = tuple[int, int]
"""When a file was last changed, nanoseconds, and its bytes."""


class WatchedFiles:
    """The images of a folder or glob, including later ones, each once.

    A file is taken once it has stayed the same from one look to the next and can be
    read whole, and again if it is rewritten; one that can't be read some time after its
    last change is skipped and named.
    """

    live = False
    total: int | None = None

    def __init__(
        self, name: str, list_files: Callable[[], Listing], poll_s: float = _POLL_S
    ) -> None:
        """Prepares to watch; nothing is read yet.

        Args:
            name: short name.
            list_files: lists the pictures that are there.
            poll_s: seconds between two looks.
        """
        self.name = name
        self.skipped = Skipped()
        self._list_files = list_files
        self._poll_s = poll_s
        self._told: set[Path] = set()

    def __enter__(self) -> "WatchedFiles":
        return self

    def __exit__(self, *_: object) -> None: ...

    def __iter__(self) -> Iterator[Frame | None]:
        """Yields the images as they come; None while there is no new one."""
        done: dict[Path, Signature] = {}
        before: dict[Path, Signature] = {}
        index = 0
        while True:
            present = self._signatures()
            for path, signature in present.items():
                if done.get(path) == signature or before.get(path) != signature:
                    continue
                image = self._read(path, signature)
                if image is None:
                    continue
                done[path] = signature
                if isinstance(image, InputError):
                    logger.warning("skipped: %s", image)
                    self.skipped.add(printable(path.name))
                    continue
                yield Frame(index, None, image, printable(path.name))
                index += 1
            before = present
            # An empty list may be a network share that is away for a moment.
            if present:
                done = {path: s for path, s in done.items() if path in present}
            yield None
            time.sleep(self._poll_s)

    def _read(self, path: Path, signature: Signature) -> Bgr | InputError | None:
        """The image, or why there is none; None for one that is being written."""
        try:
            return read_first_page(path, self.skipped)
        except InputError as e:
            being_written = time.time() - signature[0] / 1e9 < _SETTLED_S
            return None if being_written else e

    def _signatures(self) -> dict[Path, Signature]:
        found = {}
        with suppress(OSError):  # a network share that is away
            listing = self._list_files()
            self._tell_others(listing)
            for path in listing.images:
                with suppress(OSError):  # removed while it was read
                    status = path.stat()
                    found[path] = (status.st_mtime_ns, status.st_size)
        return found

    def _tell_others(self, listing: Listing) -> None:
        new = [path for path in listing.others if path not in self._told]
        self._told.update(new)
        tell_others(new, self.skipped)
