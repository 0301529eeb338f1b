"""The loop of ``edgecell run``: fresh frames in, counted and recorded cells out."""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from edgecell.edge.analyse.pipeline import FoundFrame, FrameAnalyser, FrameResult
from edgecell.edge.count.differential import CellCount
from edgecell.edge.count.microscopes import MicroscopeGate, Settled
from edgecell.edge.count.sequential import Goal
from edgecell.edge.count.tracking import TrackedFrame, Tracker
from edgecell.edge.record.recorder import Recorder
from edgecell.edge.show.health import Health
from edgecell.edge.sources.base import STALL_S, Frame
from edgecell.edge.sources.capture import Capture
from edgecell.model.decision import Decision

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_PICTURES = 1.0

_WAIT_S = 0.2
"""How long the loop waits for a frame before it looks whether it is to end."""

END_OF_SOURCE = "end of source"
STOPPED = "stopped"
TARGET = "target reached"
DECIDED = "goals decided"
ENOUGH_FRAMES = "enough frames"
NEW_SLIDE = "new slide"


def _recent() -> deque[float]:
    return deque(maxlen=1000)


@dataclass
class Tally:
    """Figures that grow with each frame.

    Attributes:
        frames: frames looked at.
        gated: those of them that were too poor to be judged, by reason.
        sightings: cells found in all frames; one cell may be seen in many.
        classified: those of them that were classified.
        locate_ms: time for each of the last frames with cells.
        classify_ms: time for each of the last cells.
        age_ms: age of each of the last frames when it was done.
        done_s: when each of the last frames was done.
        red_cell_px: red-cell diameter in each of the last frames that were judged.
        integrity: largest residual of any cell, see `CellRecord`.
        seconds: wall time of the loop.
        waited_s: the part of it that went by in waiting for a frame, or for the cells
            that another thread finds in it.
        ended: why it ended.
    """

    frames: int = 0
    gated: Counter[str] = field(default_factory=Counter)
    sightings: int = 0
    classified: int = 0
    locate_ms: deque[float] = field(default_factory=_recent)
    classify_ms: deque[float] = field(default_factory=_recent)
    age_ms: deque[float] = field(default_factory=_recent)
    done_s: deque[float] = field(default_factory=lambda: deque(maxlen=60))
    red_cell_px: deque[float] = field(default_factory=_recent)
    integrity: float = 0.0
    seconds: float = 0.0
    waited_s: float = 0.0
    ended: str = ""

    def add(self, result: FrameResult) -> None:
        """Adds a frame."""
        self.frames += 1
        if result.gate is not None:
            self.gated[result.gate] += 1
        if result.red_cell_px is not None:
            self.red_cell_px.append(result.red_cell_px)
        for record in (cell.record for cell in result.cells):
            self.sightings += 1
            self.classified += record.gate is None
            self.classify_ms.append(record.classify_ms)
            self.integrity = max(self.integrity, record.integrity)
        if result.cells:
            self.locate_ms.append(result.locate_ms)
        self.age_ms.append(result.frame.age_s * 1e3)
        self.done_s.append(time.monotonic())

    @property
    def fps(self) -> float:
        """Frames per second over the most recent frames; 0 if there are none."""
        done = list(self.done_s)
        if len(done) < 2 or time.monotonic() - done[-1] > STALL_S:
            return 0.0
        return (len(done) - 1) / max(done[-1] - done[0], 1e-3)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; times as medians."""
        return {
            "frames": self.frames,
            "gated": dict(self.gated),
            "sightings": self.sightings,
            "classified": self.classified,
            "locate_ms": _median(self.locate_ms),
            "classify_ms": _median(self.classify_ms),
            "age_ms": _median(self.age_ms),
            "red_cell_px": _median(self.red_cell_px),
            "integrity": round(self.integrity, 4),
            "seconds": round(self.seconds, 2),
            "fps": round(self.frames / self.seconds, 2) if self.seconds else None,
            "ended": self.ended,
        }


class PictureRule:
    """Which frames are worth a picture file.

    Every still image is. For video it is a frame with cells, at most one a second, so
    that a camera left on overnight doesn't fill the disk. The records are complete in
    any case.
    """

    def __init__(self) -> None:
        self._last: tuple[str, float] | None = None

    def takes(self, result: FrameResult) -> bool:
        """Whether this frame gets one; asked once for each frame, in order."""
        frame = result.frame
        if frame.time_s is None:
            return True
        if not result.cells:
            return False
        if self._last is not None and self._last[0] == frame.name:
            # Half a millisecond for timestamps that were rounded.
            if frame.time_s - self._last[1] < _SECONDS_BETWEEN_PICTURES - 5e-4:
                return False
        self._last = frame.name, frame.time_s
        return True


@dataclass(frozen=True)
class Limits:
    """When the loop ends by itself.

    Attributes:
        frames: after so many frames; None for never.
        white_cells: once so many are counted; None for never.
        goals: once all of these are decided; empty for never.
    """

    frames: int | None = None
    white_cells: int | None = None
    goals: tuple[Goal, ...] = ()


class Controls:
    """What others ask of a running loop, from any thread.

    Attributes:
        reason: why it is to end; '' while it is to continue.
        paused: whether it is to take no frames for now.
    """

    def __init__(self) -> None:
        self.reason = ""
        self.paused = False

    def end(self, reason: str) -> None:
        """Asks the loop to end; stopping the run outweighs a new slide."""
        if self.reason != STOPPED:
            self.reason = reason

    def new_slide(self) -> None:
        """Lets another loop begin, unless the run has been stopped meanwhile."""
        if self.reason == NEW_SLIDE:
            self.reason = ""


class Loop:
    """One session: reads, analyses, follows, counts, and hands over to be written.

    Attributes:
        tally: its figures.
        count: its cells, each once.
        differential: of these cells.
        newest: the last frame that is done; None before the first one.
    """

    def __init__(
        self,
        reader: Capture,
        analyser: FrameAnalyser,
        tracker: Tracker,
        recorder: Recorder,
        limits: Limits,
        controls: Controls,
        gate: MicroscopeGate,
    ) -> None:
        """Connects the parts. The caller of `run` enters reader and recorder."""
        self.tally = Tally()
        self.count = CellCount()
        self.differential = self.count.differential()
        self.newest: TrackedFrame | None = None
        self._reader = reader
        self._analyser = analyser
        self._tracker = tracker
        self._recorder = recorder
        self._limits = limits
        self._controls = controls
        self._gate = gate
        self._rule = PictureRule()
        self._start_s = time.monotonic()
        self._told_stale = False

    def run(self, turn: Callable[[TrackedFrame | None], None]) -> None:
        """Runs until the source ends, a limit is reached, or it is told to end.

        Args:
            turn: called on every turn, with the frame if there was one.

        Raises:
            SourceError: a source that isn't live fails.
            InputError: likewise.
        """
        tally = self.tally
        with ThreadPoolExecutor(1, "edgecell-find") as pool:
            ahead: Future[FoundFrame] | None = None
            while not tally.ended:
                # Cells are found in the next frame while they are classified here. It
                # is asked for as late as can be: a camera's may have come meanwhile.
                found = self._waited_for(ahead) if ahead else None
                frame = self._next(0.0 if found else _WAIT_S)
                ahead = pool.submit(self._analyser.find, frame) if frame else None
                tracked = self._take(found) if found else None
                found = None  # the next one is waited for: this one's pixels can go
                turn(tracked)
                tally.ended = self._end(ahead is None)
            if ahead is not None and tally.ended == NEW_SLIDE:
                turn(self._take(ahead.result()))  # a frame of the slide before
        tally.seconds = time.monotonic() - self._start_s

    def _waited_for(self, ahead: Future[FoundFrame]) -> FoundFrame:
        start = time.monotonic()
        found = ahead.result()
        self.tally.waited_s += time.monotonic() - start
        return found

    def _next(self, timeout_s: float) -> Frame | None:
        """Waits for a frame; while the loop is paused there is none."""
        start = time.monotonic()
        if self._controls.paused:
            time.sleep(_WAIT_S)
            frame = None
        else:
            frame = self._reader.next(timeout_s)
        self.tally.waited_s += time.monotonic() - start
        return frame

    def _take(self, found: FoundFrame) -> TrackedFrame | None:
        """Classifies a frame's cells, and has them counted and recorded.

        None for a live frame that grew stale first, because this program was stopped or
        is too slow: what it shows is no longer under the microscope.
        """
        if self._is_stale(found.frame):
            return None
        result = self._analyser.classify(found)
        return None if self._is_stale(result.frame) else self._count(result)

    def _is_stale(self, frame: Frame) -> bool:
        stale = self._reader.is_stale(frame)
        if stale:
            self._reader.drop()
            if not self._told_stale:
                self._told_stale = True
                logger.warning(
                    "a frame was %.1f s old before it was processed, and is left out; "
                    "if this continues, this machine is too slow for %d x %d pixels",
                    frame.age_s,
                    frame.image.shape[1],
                    frame.image.shape[0],
                )
        return stale

    def _count(self, result: FrameResult) -> TrackedFrame:
        """Follows and counts the cells of a frame, and has them recorded."""
        tracked = self._gate.admit(self._tracker.update(result))
        self._put(tracked.changed)
        self._recorder.put(tracked, self._rule.takes(result))
        self.tally.add(result)
        self.newest = tracked
        return tracked

    def _put(self, changed: Sequence[Decision]) -> None:
        if changed:
            self.count.put(changed)
            self.differential = self.count.differential()

    def settle(self) -> Settled:
        """Decides, after the last frame, what was waiting for further frames."""
        settled = self._gate.settle()
        self._put(settled.decisions)
        return settled

    @property
    def microscope(self) -> str:
        """Which microscope the cells come from, in one line."""
        return self._gate.summary()

    def _end(self, idle: bool) -> str:
        """Why to end now; '' to continue."""
        limits = self._limits
        if self._controls.reason:
            return self._controls.reason
        if limits.frames is not None and self.tally.frames >= limits.frames:
            return ENOUGH_FRAMES
        if (
            limits.white_cells is not None
            and self.differential.white_cells >= limits.white_cells
        ):
            return TARGET
        if limits.goals and all(
            goal.outcome(self.differential) is not None for goal in limits.goals
        ):
            return DECIDED
        return END_OF_SOURCE if idle and self._reader.ended else ""

    def health(self) -> Health:
        """Health of the loop; may be called on another thread."""
        reader, tally, recorder = self._reader.state(), self.tally, self._recorder
        newest = self.newest.result.frame if self.newest else None
        return Health(
            source=f"lost: {reader.lost}" if reader.lost else "on",
            frames_in=reader.frames_in,
            dropped=reader.dropped,
            broken=reader.broken,
            reconnects=reader.reconnects,
            analysed=tally.frames,
            gated=dict(tally.gated),
            classified=tally.classified,
            age_ms=round(newest.age_s * 1e3, 1) if newest else None,
            fps=round(tally.fps, 1),
            recording=str(recorder.error) if recorder.error else "on",
            recorded=recorder.frames,
            overflowed=recorder.overflowed,
            undrawn=recorder.undrawn,
            uptime_s=round(time.monotonic() - self._start_s, 1),
            microscope=self.microscope,
        )


def _median(values: deque[float]) -> float | None:
    return round(median(values), 2) if values else None
