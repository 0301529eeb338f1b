"""Image files as a frame source, and several sources as one."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from edgecell.edge.sources.base import Frame, FrameSource, Skipped
from edgecell.errors import InputError, SourceError
from edgecell.image.decode import decode, read_file
from edgecell.image.preprocess import Bgr

logger = logging.getLogger(__name__)


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


class StillFrames:
    """Image files, one after the other; unreadable ones are skipped and named."""

    live = False

    def __init__(self, name: str, paths: Sequence[Path]) -> None:
        """Takes the paths in the order in which they are to be read."""
        self.name = name
        self.total: int | None = len(paths)
        self.skipped = Skipped()
        self._paths = paths

    def __enter__(self) -> "StillFrames":
        return self

    def __exit__(self, *_: object) -> None: ...

    def __iter__(self) -> Iterator[Frame]:
        """Yields the images.

        Raises:
            InputError: the only file can't be read.
            SourceError: none of several can.
        """
        index = 0
        for path in self._paths:
            try:
                image = read_image(path)
            except InputError as e:
                if len(self._paths) == 1:
                    raise
                logger.warning("skipped: %s", e)
                self.skipped.add(path.name)
                continue
            yield Frame(index, None, image, path.name)
            index += 1
        if not index:
            raise SourceError(
                f"none of the {len(self._paths)} images could be read; "
                f"the first is {self._paths[0]}"
            )


class Chain:
    """Several sources as one; frames are numbered through."""

    live = False

    def __init__(self, name: str, parts: Sequence[FrameSource]) -> None:
        """Takes the sources, not yet entered."""
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
            for name in part.skipped.names:
                self.skipped.add(name)
