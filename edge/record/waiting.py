"""Frames between the loop and the disk, bounded in number and in bytes."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgecell.edge.count.tracking import TrackedFrame
from edgecell.image.preprocess import Bgr, Rgb

_NO_IMAGE = np.zeros((0, 0, 3), np.uint8)
_LOOK_AGAIN_S = 0.2


@dataclass(frozen=True)
class Bounds:
    """How much may wait for the disk, and for how long.

    Attributes:
        frames: frames that may wait. One may wait however large it is.
        evidence_bytes: memory of the crops that wait with them.
        image_bytes: memory of the frames that wait to be drawn.
        together: frames that one transaction writes at most. Each transaction costs
            the disk a flush.
        gather_s: the least time from one transaction to the next, so that frames are
            written together. The first ones are written at once.
        look_s: how long to wait for a first frame, before the recorder checks that the
            session's file is still there.
        retry_s: the pause before a refused write is tried again.
        held_s: how long another program may hold the file before the log says so.
        patience_s: how long the frames of a file wait for such a program.
        hurry_s: how long the end may take after a signal. systemd and people expect
            2 seconds.
    """

    frames: int = 128
    evidence_bytes: int = 64 << 20
    image_bytes: int = 32 << 20
    together: int = 64
    gather_s: float = 0.5
    look_s: float = 0.5
    retry_s: float = 0.5
    held_s: float = 5.0
    patience_s: float = 120.0
    hurry_s: float = 1.5


BOUNDS = Bounds()


@dataclass(frozen=True)
class LeftOut:
    """Frames that were not recorded, one after the other.

    Attributes:
        first: the first one's number.
        last: the last one's.
        frames: how many were analysed; a camera's may have others in between that were
            not.
        why: the reason.
    """

    first: int
    last: int
    frames: int
    why: str


@dataclass(frozen=True)
class Job:
    """A frame to be recorded.

    Attributes:
        tracked: the frame; without its image unless it is to be drawn.
        keep: whether the drawing becomes a picture file.
        draw: whether it is drawn at all.
        after: frames before it that were left out.
    """

    tracked: TrackedFrame
    keep: bool
    draw: bool
    after: LeftOut | None = None

    def gap(self, why: str) -> LeftOut:
        """The gap in the record if this frame is left out, too."""
        number, before = self.tracked.result.frame.index, self.after
        if before is None:
            return LeftOut(number, number, 1, why)
        return replace(before, last=number, frames=before.frames + 1)

    @property
    def image_bytes(self) -> int:
        """Memory that goes with the drawing."""
        return self.tracked.result.frame.image.nbytes if self.draw else 0

    @property
    def evidence_bytes(self) -> int:
        """Memory of the crops on which decisions rest."""
        cells = self.tracked.result.cells
        kept = (cells[i] for i in self.tracked.evidence())
        return sum(cell.inner.nbytes + cell.seen.nbytes for cell in kept)


class Waiting:
    """The queue: one thread puts, another one takes.

    A job stays in it until it is done with, so that whatever the disk refuses is
    tried again.
    """

    def __init__(self, bounds: Bounds) -> None:
        """Starts empty."""
        self._bounds = bounds
        self._jobs: deque[Job] = deque()
        self._evidence = self._images = 0
        self._changed = threading.Condition()
        self._taken_s = -math.inf
        self.closed = False

    def has_room(self, job: Job) -> bool:
        """Whether a job fits, its image left aside."""
        return not self._jobs or (
            len(self._jobs) < self._bounds.frames
            and self._evidence + job.evidence_bytes <= self._bounds.evidence_bytes
        )

    def may_draw(self, image_bytes: int) -> bool:
        """Whether an image fits."""
        return (
            not self._images or self._images + image_bytes <= self._bounds.image_bytes
        )

    def wait_until(self, true: Callable[[], bool], patient: Callable[[], bool]) -> bool:
        """Waits for room while that is worthwhile; returns whether there is some."""
        with self._changed:
            while not true():
                if not patient():
                    return False
                self._changed.wait(_LOOK_AGAIN_S)
            return True

    def put(self, job: Job) -> None:
        """Appends a job; ask `has_room` and `may_draw` first."""
        with self._changed:
            self._jobs.append(job)
            self._evidence += job.evidence_bytes
            self._images += job.image_bytes
            self._changed.notify_all()

    def close(self) -> None:
        """Declares that no more jobs will come."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def first(self) -> Sequence[Job]:
        """Waits for jobs; returns those at the head, which stay there.

        Images take memory: at most half of those that may wait are taken together.
        """
        bounds = self._bounds
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self.closed, bounds.look_s)
            if self._jobs:
                since_s = time.monotonic() - self._taken_s
                self._changed.wait_for(self._enough, bounds.gather_s - since_s)
                self._taken_s = time.monotonic()
            taken: list[Job] = []
            images = 0
            for job in list(self._jobs)[: bounds.together]:
                images += job.image_bytes
                if taken and images > bounds.image_bytes / 2:
                    break
                taken.append(job)
            return taken

    def _enough(self) -> bool:
        bounds = self._bounds
        return (
            self.closed
            or len(self._jobs) >= min(bounds.together, bounds.frames)
            or self._evidence > bounds.evidence_bytes / 2
            or self._images > bounds.image_bytes / 2
        )

    def done(self, jobs: Sequence[Job]) -> None:
        """Removes jobs at the head; `let_go` their images when they are drawn."""
        with self._changed:
            for job in jobs:
                self._jobs.popleft()
                self._evidence -= job.evidence_bytes
            self._changed.notify_all()

    def let_go(self, jobs: Sequence[Job]) -> None:
        """Declares that images are no longer needed."""
        with self._changed:
            self._images -= sum(job.image_bytes for job in jobs)
            self._changed.notify_all()

    def lose(self, why: str) -> LeftOut | None:
        """Empties the queue; returns what is lost with it."""
        gap: LeftOut | None = None
        with self._changed:
            for job in self._jobs:
                gap = replace(job, after=gap or job.after).gap(why)
            self._jobs.clear()
        return gap

    def sleep(self, seconds: float) -> None:
        """Waits, but no longer once it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self.closed, seconds)

    def __len__(self) -> int:
        return len(self._jobs)


def without_image(tracked: TrackedFrame) -> TrackedFrame:
    """The same frame with no pixels but a decision's evidence.

    What waits must not fill the memory.
    """
    result, kept = tracked.result, tracked.evidence()
    frame = replace(result.frame, image=Bgr(_NO_IMAGE))
    cells = tuple(
        replace(cell, inner=Bgr(cell.inner.copy()))
        if i in kept
        else replace(cell, inner=Bgr(_NO_IMAGE), seen=Rgb(_NO_IMAGE))
        for i, cell in enumerate(result.cells)
    )
    return replace(tracked, result=replace(result, frame=frame, cells=cells))
