"""What all frame sources share: the frame and the protocol."""

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from edgecell.preprocess import Image


@dataclass(frozen=True)
class Frame:
    """One picture of a field.

    Attributes:
        index: number within the source, from 0, without gaps.
        time_s: seconds since the video's or the camera session's start; None for
            a still image.
        image: uint8 BGR (H, W, 3), the order in which OpenCV delivers.
        name: the file's name, or 'camera 0'.
    """

    index: int
    time_s: float | None
    image: Image
    name: str


class FrameSource(Protocol):
    """Yields frames between ``__enter__`` and ``__exit__``.

    Attributes:
        name: short name, fit for a folder's.
        total: number of frames if it is known, for a progress bar; a video's is
            what its header claims.
        live: whether frames come in real time and without end.
        skipped: files that could not be read, so far.
    """

    name: str
    total: int | None
    live: bool
    skipped: list[str]

    def __enter__(self) -> "FrameSource": ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None: ...
    def __iter__(self) -> Iterator[Frame]: ...
