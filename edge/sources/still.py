"""Image files as a frame source, and several sources as one."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import simplejpeg

from edgecell.edge.sources.base import Frame, FrameSource, Skipped
from edgecell.errors import InputError, SourceError
from edgecell.image.preprocess import Image

logger = logging.getLogger(__name__)

_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_JPEG_TAIL = 4096
"""Some cameras pad behind a JPEG's end, so it is looked for in so many bytes."""


def read_image(path: Path) -> Image:
    """Reads an image file.

    Args:
        path: the file; 16-bit and grey images become 8-bit BGR.

    Returns:
        uint8 BGR (H, W, 3).

    Raises:
        InputError: it can't be read, is no image, or is cut short.
    """
    try:
        data = path.read_bytes()
    except OSError as e:
        raise InputError(f"{path} cannot be read ({e.strerror})") from e
    # Older releases of OpenCV fill the missing part of a JPEG with grey.
    cut = data.startswith(_JPEG_START) and _JPEG_END not in data[-_JPEG_TAIL:]
    image = None
    if data and not cut:
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        except cv2.error:  # more pixels than OpenCV is willing to decode
            image = None
    if image is None:
        what = "is cut short" if cut else "is not an image that OpenCV reads"
        raise InputError(f"{path} {what}; remove or replace it")
    return np.asarray(image, np.uint8)


def decode_jpeg(data: bytes) -> Image | None:
    """Decodes a JPEG from a stream.

    OpenCV fills what is missing or damaged with whatever comes out; libjpeg's
    warnings, which simplejpeg turns into errors, tell most damage.

    Args:
        data: the file's bytes.

    Returns:
        uint8 BGR (H, W, 3); None if it is damaged.
    """
    try:
        return np.asarray(simplejpeg.decode_jpeg(data, "BGR"), np.uint8)
    except ValueError:
        return None


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
