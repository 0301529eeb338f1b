"""A folder that a camera fills, as a frame source without end."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from edgecell.edge.sources.base import Frame, Skipped
from edgecell.edge.sources.still import read_image
from edgecell.errors import InputError

logger = logging.getLogger(__name__)

_POLL_S = 0.25
"""Asking again works on network shares too, where no change is announced."""

_SETTLED_S = 2.0
"""A file that has not changed for so long is not being written any more."""


Signature = tuple[int, int]
"""When a file was last changed, nanoseconds, and its bytes."""


class WatchedFiles:
    """The images of a folder or glob, those that come later too, each once.

    A file is taken once it has stayed the same from one look to the next and can be
    read whole, and again if it is written anew; one that can't be read some time
    after its last change is skipped and named.
    """

    live = False
    total: int | None = None

    def __init__(self, name: str, list_files: Callable[[], Sequence[Path]]) -> None:
        """Takes what lists the images that are there, in order."""
        self.name = name
        self.skipped = Skipped()
        self._list_files = list_files

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
                try:
                    image = read_image(path)
                except InputError as e:
                    if time.time() - signature[0] / 1e9 < _SETTLED_S:
                        continue
                    logger.warning("skipped: %s", e)
                    self.skipped.add(path.name)
                    done[path] = signature
                    continue
                done[path] = signature
                yield Frame(index, None, image, path.name)
                index += 1
            before = present
            # An empty list may be a network share that is away for a moment.
            if present:
                done = {path: s for path, s in done.items() if path in present}
            yield None
            time.sleep(_POLL_S)

    def _signatures(self) -> dict[Path, Signature]:
        found = {}
        with suppress(OSError):  # a network share that is away
            for path in self._list_files():
                with suppress(OSError):  # taken away while it was looked at
                    status = path.stat()
                    found[path] = (status.st_mtime_ns, status.st_size)
        return found
