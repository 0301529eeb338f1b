"""What all frame sources share: the frame and the protocol."""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol

from edgecell.errors import SourceError
from edgecell.image.preprocess import Bgr

STALL_S = 2.0
"""A live source that sends no frame for so long is lost; a frame so old is stale."""

_NAMES_KEPT = 100


@dataclass(frozen=True)
class Frame:
    """One picture of a field.

    Attributes:
        index: number within the source, from 0; where frames of a live source were
            dropped, their numbers are missing.
        time_s: seconds since the video's or the camera session's start; None for
            a still image.
        image: uint8 BGR (H, W, 3), the order in which OpenCV delivers.
        name: the file's name, or 'camera-0'.
        captured_s: when it was read, on the clock of `time.monotonic`.
    """

    index: int
    time_s: float | None
    image: Bgr
    name: str
    captured_s: float = field(default_factory=time.monotonic)

    @property
    def age_s(self) -> float:
        """Seconds since it was read."""
        return time.monotonic() - self.captured_s


class Skipped:
    """Pictures that could not be decoded.

    Attributes:
        count: how many.
        names: the last of them; those of a live source have none.
    """

    def __init__(self) -> None:
        self.count = 0
        self.names: deque[str] = deque(maxlen=_NAMES_KEPT)

    def add(self, name: str | None = None) -> None:
        """Counts one more."""
        self.count += 1
        if name is not None:
            self.names.append(name)


class FrameSource(Protocol):
    """Yields frames between ``__enter__`` and ``__exit__``; may be entered again.

    A live source raises `SourceError` when it is lost, at the latest `STALL_S` after
    its last frame; entering it again looks for it anew.

    Attributes:
        name: short name, fit for a folder's; tells no password.
        total: number of frames if it is known, for a progress bar; a video's is
            what its header claims.
        live: whether frames come in real time, so that only the newest matters.
        skipped: pictures that could not be decoded, so far.
    """

    name: str
    total: int | None
    live: bool
    skipped: Skipped

    def __enter__(self) -> "FrameSource": ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None: ...
    def __iter__(self) -> Iterator[Frame | None]:
        """Yields frames; None where it waits, so that the reader may stop."""


def live_frames(
    name: str,
    skipped: Skipped,
    reads: Iterable[tuple[float, Sequence[Bgr | None]]],
) -> Iterator[Frame | None]:
    """Frames of a live source from what is read of it.

    Args:
        name: the source's name.
        skipped: where broken pictures are counted.
        reads: for each read when it was done, on the clock of `time.monotonic`, and
            the pictures that it brought: uint8 BGR (H, W, 3), None for a broken one.

    Yields:
        Frames numbered from 0; None for each broken picture.

    Raises:
        SourceError: what is read has held no whole picture for `STALL_S`.
    """
    index, last_s = 0, time.monotonic()
    for captured_s, images in reads:
        for image in images:
            if image is None:
                skipped.add()
                yield None
                continue
            last_s = captured_s
            yield Frame(index, None, image, name, captured_s)
            index += 1
        if captured_s - last_s > STALL_S:
            raise SourceError(f"{name} sends no whole frame any more")
