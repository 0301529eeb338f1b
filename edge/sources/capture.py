"""Reads a frame source on its own thread, and reopens a source that is lost."""

import atexit
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import TracebackType

from edgecell.edge.sources.base import STALL_S, Frame, FrameSource, now_s
from edgecell.errors import SourceError

logger = logging.getLogger(__name__)

_LAST_JOIN_S = 7.0
"""Opening a stream may take so long, and Python crashes when it ends while a thread is
in OpenCV. Results are written and reported by then."""


@dataclass(frozen=True)
class Bounds:
    """How far files are read ahead, and how long a reader waits.

    Attributes:
        frames: frames of a file that are read ahead at most.
        frame_bytes: their memory: two frames of 5 megapixels, one of 4K.
        first_pause_s: about how long after its loss a source is opened again.
        longest_pause_s: the longest pause. Including the time that an opening may take,
            a source that returns is back within 5 seconds.
        join_s: how long the end waits for a read that hangs in a driver.
    """

    frames: int = 4
    frame_bytes: int = 32 << 20
    first_pause_s: float = 0.25
    longest_pause_s: float = 2.0
    join_s: float = 0.5

    def pauses_s(self) -> Iterator[float]:
        """The pauses between attempts to open a lost source, seconds.

        They double up to the longest one, each with jitter, so that many readers of
        one server don't come all at once.
        """
        pause_s = self.first_pause_s
        while True:
            yield pause_s * random.uniform(0.5, 1.0)
            pause_s = min(2 * pause_s, self.longest_pause_s)


BOUNDS = Bounds()


@dataclass(frozen=True)
class CaptureState:
    """What the reader has seen so far.

    Attributes:
        frames_in: frames read.
        dropped: frames of a live source that nobody took in time.
        broken: pictures that could not be read.
        reconnects: times that a lost source came back.
        lost: why a live source sends nothing at present; None while it does.
    """

    frames_in: int
    dropped: int
    broken: int
    reconnects: int
    lost: str | None


class Capture:
    """A source with its reader thread.

    It keeps only the newest frame of a live source, and reopens the source, with
    growing pauses, whenever it is lost. It reads a few frames of files ahead and loses
    none.
    """

    def __init__(
        self,
        source: FrameSource,
        bounds: Bounds = BOUNDS,
        clock: Callable[[], float] = now_s,
    ) -> None:
        """Prepares the thread; entering it opens the source.

        Args:
            source: what is read, not yet entered.
            bounds: how far files are read ahead, and how long the reader waits.
            clock: gives the present on the clock of `now_s`.
        """
        self._source = source
        self._bounds = bounds
        self._clock = clock
        self._frames: deque[Frame] = deque()
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._work, name="edgecell-capture", daemon=True
        )
        self._start_s = 0.0
        self._last_s = 0.0
        self._frames_in = self._dropped = self._reconnects = self._expected = 0
        self._lost: str | None = None
        self._ended = False
        self._error: Exception | None = None

    def __enter__(self) -> "Capture":
        """Opens the source and starts to read.

        Raises:
            SourceError: it can't be opened; only a lost source is retried.
        """
        self._source.__enter__()
        self._start_s = self._last_s = self._clock()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(self._bounds.join_s)
        if self._thread.is_alive():
            atexit.register(self._thread.join, _LAST_JOIN_S)

    @property
    def ended(self) -> bool:
        """Whether the source is at its end and every frame was taken."""
        with self._changed:
            return self._ended and not self._frames

    def state(self) -> CaptureState:
        """The figures so far."""
        with self._changed:
            lost = self._lost
            if self._source.live and not lost and not self._ended:
                silence = self._clock() - self._last_s
                if silence > STALL_S:  # the read itself hangs
                    lost = f"{self._source.name} sends nothing"
            return CaptureState(
                self._frames_in,
                self._dropped,
                self._source.skipped.count,
                self._reconnects,
                lost,
            )

    def next(self, timeout_s: float) -> Frame | None:
        """Waits for the next frame of a file, or a live source's newest.

        Args:
            timeout_s: how long to wait, seconds.

        Returns:
            A frame that was not returned before; None if there is none by then, or the
            source has ended. A live one is younger than `STALL_S`.

        Raises:
            SourceError: a source that isn't live failed.
            InputError: likewise.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                while self._frames:
                    frame = self._frames.popleft()
                    self._changed.notify_all()
                    if not self.is_stale(frame):
                        return frame
                    self._dropped += 1
                if self._error is not None:
                    raise self._error
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    return None
                self._changed.wait(left)

    def is_stale(self, frame: Frame) -> bool:
        """Whether a frame of a live source is too old to be processed."""
        return self._source.live and self._clock() - frame.captured_s >= STALL_S

    def drop(self) -> None:
        """Counts a frame that was taken and grew stale before it was processed."""
        with self._changed:
            self._dropped += 1

    def _work(self) -> None:
        """Runs the thread: reads, and reopens a lost source."""
        try:
            self._read_and_close()
            pauses_s = self._bounds.pauses_s()
            while self._source.live and not self._stop.is_set():
                self._stop.wait(next(pauses_s))
                if self._try_again():
                    pauses_s = self._bounds.pauses_s()
        except Exception as e:
            with self._changed:
                self._error = e
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _try_again(self) -> bool:
        """Reopens a lost source and reads it; returns whether frames came."""
        before = self._frames_in
        try:
            self._source.__enter__()
        except SourceError as e:
            self._lose(str(e))
            return False
        self._read_and_close()
        return self._frames_in > before

    def _read_and_close(self) -> None:
        reason = f"{self._source.name} ended"
        self._expected = 0
        try:
            for frame in self._source:
                if self._stop.is_set():
                    return
                if frame is not None:
                    self._put(frame)
        except SourceError as e:
            if not self._source.live:
                raise
            reason = str(e)
        finally:
            self._source.__exit__(None, None, None)
        if self._source.live and not self._stop.is_set():
            self._lose(reason)

    def _put(self, frame: Frame) -> None:
        with self._changed:
            if self._source.live:
                missed = frame.index - self._expected
                self._expected = frame.index + 1
                self._dropped += len(self._frames) + missed
                self._frames_in += missed
                self._frames.clear()
                time_s = max(0.0, frame.captured_s - self._start_s)
                frame = replace(frame, index=self._frames_in, time_s=time_s)
            if self._lost is not None:
                self._lost = None
                self._reconnects += 1
                logger.warning("%s is back", self._source.name)
            self._last_s = frame.captured_s
            self._frames_in += 1
            self._frames.append(frame)
            self._changed.notify_all()
            # Before the next frame of a file is decoded, not after.
            while not self._source.live and self._is_full() and not self._stop.is_set():
                self._changed.wait()

    def _is_full(self) -> bool:
        """Whether one more frame of a file, as large as the last, is too many."""
        if not self._frames:
            return False
        sizes = [frame.image.nbytes for frame in self._frames]
        is_large = sum(sizes) + sizes[-1] > self._bounds.frame_bytes
        return is_large or len(sizes) >= self._bounds.frames

    def _lose(self, reason: str) -> None:
        """Notes that a live source is lost; its last frame is no longer live."""
        with self._changed:
            if self._lost is None:
                logger.warning("%s; trying again until it is back", reason)
            self._lost = reason
            self._dropped += len(self._frames)
            self._frames.clear()
