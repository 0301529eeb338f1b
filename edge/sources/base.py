"""What all frame sources share: the frame, its clock and the protocol."""

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from edgecell.errors import SourceError
from edgecell.image.preprocess import Bgr

STALL_S = 2.0
"""A live source that sends no frame for so long is lost; a frame so old is stale."""

_NAMES_KEPT = 100
_LONGEST_STEP_S = 10.0
_DRIFT = 2e-4
"""Seconds a second; two cheap clocks differ by less."""

_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now_s() -> float:
    """Seconds on a clock that never jumps and runs on while the machine sleeps."""
    return time.clock_gettime(_CLOCK)


@dataclass(frozen=True)
class Frame:
    """One picture of a field.

    Attributes:
        index: number within the source, from 0; where frames of a live source were
            dropped, their numbers are missing.
        time_s: seconds since the video's or the camera session's start; None for
            a still image.
        image: uint8 BGR (H, W, 3), the order in which OpenCV delivers. H and W may
            change from one frame to the next.
        name: the file's name, or 'camera-0'; valid Unicode.
        captured_s: when it reached this machine, on the clock of `now_s`. Where that
            isn't known, it is the earliest moment at which it can have been.
    """

    index: int
    time_s: float | None
    image: Bgr
    name: str
    captured_s: float = field(default_factory=now_s)

    @property
    def age_s(self) -> float:
        """Seconds since it was captured."""
        return now_s() - self.captured_s


class Pace:
    """Finds out when frames were captured that may have waited somewhere.

    A camera, a driver and FFmpeg hand out frames one by one, including those that piled
    up while this program was stopped or too slow, and don't say how long they waited.
    But frames carry timestamps: the clock's lead over them is least for those that came
    without delay, and grows by what a frame waited.
    """

    def __init__(self) -> None:
        self._before: tuple[float, float] | None = None
        self._lead_s = 0.0
        self._trusted = True

    def not_before(self, first_s: float, stamp_s: float) -> None:
        """Treats a frame's earliest possible time of capture as its time of capture.

        For a source whose frames may all have waited, so that none shows how long.

        Args:
            first_s: that time, on the clock of `now_s`.
            stamp_s: the frame's timestamp, seconds.
        """
        self._lead_s = first_s - stamp_s

    def captured_s(self, came_s: float, stamp_s: float) -> float:
        """When a frame would have come if nothing had held it up.

        Args:
            came_s: when it came, on the clock of `now_s`.
            stamp_s: its timestamp, seconds from whatever start.

        Returns:
            A time on the clock of `now_s`; ``came_s`` where timestamps don't run
            forward, as some cameras' don't.
        """
        before, self._before = self._before, (came_s, stamp_s)
        if before is None:
            self._lead_s = came_s - stamp_s
            return came_s
        passed, step = came_s - before[0], stamp_s - before[1]
        self._trusted = self._trusted and 0 < step < _LONGEST_STEP_S
        if not self._trusted:
            return came_s
        self._lead_s = min(self._lead_s + _DRIFT * passed, came_s - stamp_s)
        return stamp_s + self._lead_s


class Skipped:
    """Pictures that could not be read.

    Attributes:
        count: how many.
        names: names of the last ones; those of a live source have none.
    """

    def __init__(self) -> None:
        self.count = 0
        self.names: deque[str] = deque(maxlen=_NAMES_KEPT)

    def add(self, name: str | None = None, count: int = 1) -> None:
        """Counts more of them."""
        self.count += count
        if name is not None:
            self.names.append(name)


class FrameSource(AbstractContextManager["FrameSource"], Protocol):
    """Yields frames while it is entered; may be entered again.

    A live source raises `SourceError` when it is lost, at the latest `STALL_S` after
    its last frame; entering it again tries to find it.

    Attributes:
        name: short name, usable as a folder name; contains no password.
        total: number of frames if it is known, for a progress bar; a video's is
            what its header claims.
        live: whether frames come in real time, so that only the newest matters.
        skipped: pictures that could not be read, so far.
    """

    name: str
    total: int | None
    live: bool
    skipped: Skipped

    def __iter__(self) -> Iterator[Frame | None]:
        """Yields frames; None where it waits, so that the reader may stop."""


@dataclass(frozen=True)
class Read:
    """What one read of a live source brought.

    Attributes:
        captured_s: when it came, see `Frame`.
        picture: uint8 BGR (H, W, 3); None if no whole one came.
        missed: whole pictures that came before and were left for a newer one.
        broken: pictures that came and can't be read.
        reason: why the last of these can't be read.
    """

    captured_s: float
    picture: Bgr | None
    missed: int = 0
    broken: int = 0
    reason: str = ""

    @classmethod
    def of(cls, captured_s: float, picture: Bgr | str) -> "Read":
        """A read of one picture, or of one that is broken, with the reason."""
        if isinstance(picture, str):
            return cls(captured_s, None, broken=1, reason=picture)
        return cls(captured_s, picture)


def live_frames(
    name: str, skipped: Skipped, reads: Iterable[Read]
) -> Iterator[Frame | None]:
    """Makes frames from the reads of a live source.

    Args:
        name: the source's name.
        skipped: where broken pictures are counted.
        reads: what is read; it brings something, if only None, several times within
            `STALL_S`.

    Yields:
        Frames numbered from 0, those that were missed included; None for each read
        that brought no whole picture.

    Raises:
        SourceError: what is read has held no whole picture for `STALL_S`.
    """
    index, last_s, reason = 0, now_s(), ""
    for read in reads:
        index += read.missed
        if read.broken:
            skipped.add(count=read.broken)
            reason = f": {read.reason}"
        if read.picture is not None:
            last_s = read.captured_s
            yield Frame(index, None, read.picture, name, read.captured_s)
            index += 1
            continue
        if read.captured_s - last_s > STALL_S:
            raise SourceError(f"{name} no longer sends whole frames{reason}")
        yield None


class LiveSource(ABC):
    """What live sources share: each makes frames of what its reads brought."""

    name: str
    skipped: Skipped
    live = True
    total: int | None = None

    def __iter__(self) -> Iterator[Frame | None]:
        """Yields frames for as long as they come; None for each broken one.

        Raises:
            SourceError: no whole frame came for `STALL_S`, or the source is gone.
        """
        return live_frames(self.name, self.skipped, self._reads())

    @abstractmethod
    def _reads(self) -> Iterator[Read]:
        """Reads without end, as `live_frames` needs it."""
