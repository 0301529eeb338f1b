"""Writes what was found, on a thread of its own: the store, pictures, the film."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from edgecell.edge.count.tracking import TrackedFrame
from edgecell.edge.record.store import Store
from edgecell.edge.show.film import Film
from edgecell.edge.show.overlay import annotate, caption
from edgecell.errors import OutputError

logger = logging.getLogger(__name__)

_FRAMES_WAITING = 128
_IMAGES_WAITING = 12
_WRITE_EVERY_S = 0.5
_LARGEST_WRITE = 64
"""A transaction costs the disk a flush, so frames are written together; those with
images, which take memory, fewer at a time."""

_HURRY_S = 1.5
"""What ending on a signal may take: systemd and people expect 2 seconds."""

_NO_IMAGE = np.zeros((0, 0, 3), np.uint8)


@dataclass(frozen=True)
class _Job:
    """A frame; ``keep`` wants a picture file, ``draw`` has its image still."""

    tracked: TrackedFrame
    keep: bool
    draw: bool


class _BrokenOffError(Exception):
    """Tells the store that the run failed."""


class Recorder:
    """The writer thread with its bounded queue.

    When the disk refuses to take more, recording stops and says so; what is written
    stays, and frames are taken and forgotten, so that the loop can go on.

    Attributes:
        frames: frames written.
        pictures: annotated frames written.
        overflowed: frames that were not recorded because the disk was too slow.
        undrawn: pictures left out for the same reason.
        error: why recording stopped; None while it goes on.
        picture_error: why a picture, or the end of the film, could not be written;
            the record goes on without.
    """

    def __init__(self, store: Store, film: Film | None, patient: bool) -> None:
        """Takes what to write to.

        Args:
            store: the session's store, not yet entered.
            film: where each frame is to be drawn; None for nowhere.
            patient: whether `put` waits for room in the queue (a file's frames can
                wait) instead of leaving a frame out.
        """
        self.frames = self.pictures = self.overflowed = self.undrawn = 0
        self.error: OutputError | None = None
        self.picture_error: OutputError | None = None
        self._store = store
        self._film = film
        self._patient = patient
        self._jobs: queue.Queue[_Job | None] = queue.Queue(_FRAMES_WAITING)
        self._images = threading.Semaphore(_IMAGES_WAITING)
        self._left_out: TrackedFrame | None = None
        self._opened = threading.Event()
        self._reason: str | None = None
        self._last_job = False
        self._hurried = False
        self._fault: Exception | None = None
        self._thread = threading.Thread(
            target=self._work, name="edgecell-recorder", daemon=True
        )

    def __enter__(self) -> "Recorder":
        """Makes the session's folder.

        Raises:
            OutputError: it can't be made.
        """
        self._thread.start()
        self._opened.wait()
        if self._fault is not None:
            raise self._fault
        return self

    def __exit__(self, *_: object) -> None:
        if self._reason is None:  # the run failed: `end` was not called
            self._hurried = True
            self._finish(_HURRY_S)

    def put(self, tracked: TrackedFrame, picture: bool) -> None:
        """Hands a frame over.

        Args:
            tracked: the frame.
            picture: whether it is worth a picture file.
        """
        if self._fault is not None:
            raise self._fault
        draw = picture or self._film is not None
        if draw and not self._images.acquire(blocking=self._patient):
            self.undrawn += 1
            draw = False
        # A cell that is decided on in a frame that isn't recorded is still to be known.
        earlier = self._left_out.changed if self._left_out else ()
        decisions = {d.cell: d for d in (*earlier, *tracked.changed)}
        tracked = replace(tracked, changed=tuple(decisions.values()))
        job = _Job(tracked if draw else without_image(tracked), picture and draw, draw)
        try:
            self._jobs.put(job, block=self._patient)
            self._left_out = None
        except queue.Full:
            self._left_out = without_image(tracked)
            if not self.overflowed:
                logger.warning("the disk is too slow: not every frame is recorded")
            self.overflowed += 1
            if draw:
                self._images.release()

    def end(self, reason: str, hurried: bool) -> None:
        """Writes what is waiting, and closes the store.

        Args:
            reason: why the session ends, for its record.
            hurried: whether to leave out pictures that are not drawn yet, and to give
                up on a disk that hangs.
        """
        self._reason, self._hurried = reason, hurried
        self._finish(_HURRY_S if hurried else None)
        if self._fault is not None:
            raise self._fault

    def _finish(self, wait_s: float | None) -> None:
        start = time.monotonic()
        with suppress(queue.Full):
            if self._left_out:  # with what was decided last
                self._jobs.put(_Job(self._left_out, False, False), timeout=wait_s)
                self.overflowed -= 1
            self._jobs.put(None, timeout=wait_s)
        if wait_s is not None:
            wait_s = max(0.0, wait_s - (time.monotonic() - start))
        self._thread.join(wait_s)
        if self._thread.is_alive():
            logger.warning("the disk hangs: the last frames may not be recorded")

    def _work(self) -> None:
        """The thread."""
        try:
            with suppress(_BrokenOffError), self._store:
                self._opened.set()
                self._record()
        except Exception as e:  # whoever waits for this thread is to hear of it
            self._fault = e
            self._opened.set()
            while not self._last_job:
                self._forget(self._next_jobs())
        finally:
            self._end_film()

    def _end_film(self) -> None:
        film, self._film = self._film, None
        if film is not None:
            self._written(film.close)

    def _written(self, write: Callable[[], object]) -> bool:
        """Whether a picture or the film could be written."""
        try:
            write()
        except OutputError as e:
            if self.picture_error is None:
                logger.warning("%s; the record goes on without", e)
                self.picture_error = e
            return False
        return True

    def _record(self) -> None:
        while not self._last_job:
            jobs = self._next_jobs()
            try:
                if self.error is None:
                    self._write(jobs)
            except OutputError as e:
                logger.warning("recording stopped: %s; what is written stays", e)
                self.error = e
            finally:
                self._forget(jobs)
        if self._reason is None:
            raise _BrokenOffError
        if self.error is None:
            self._store.end(self._reason)

    def _next_jobs(self) -> list[_Job]:
        """Waits for frames, and then a little for more of them."""
        jobs: list[_Job] = []
        images = 0
        deadline = time.monotonic() + _WRITE_EVERY_S
        while (
            len(jobs) < _LARGEST_WRITE
            and images < _IMAGES_WAITING // 2
            and not self._last_job
        ):
            left = deadline - time.monotonic()
            try:
                job = self._jobs.get(timeout=max(left, 0)) if jobs else self._jobs.get()
            except queue.Empty:
                break
            if job is None:
                self._last_job = True
            else:
                jobs.append(job)
                images += job.draw
        return jobs

    def _write(self, jobs: list[_Job]) -> None:
        # Records first: if the disk is full, they matter more than a picture.
        if jobs:
            self._store.write([job.tracked for job in jobs])
            self.frames += len(jobs)
        for job in jobs:
            if job.draw and not self._hurried:
                self._draw(job)

    def _draw(self, job: _Job) -> None:
        result, flagged = job.tracked.result, job.tracked.to_review
        frame, film = result.frame, self._film
        picture = annotate(frame.image, result.cells, caption(result), flagged)
        if job.keep:
            self.pictures += self._written(
                lambda: self._store.write_picture(frame.index, picture)
            )
        if film and not self._written(lambda: film.show(picture, frame.time_s)):
            self._end_film()

    def _forget(self, jobs: list[_Job]) -> None:
        for job in jobs:
            if job.draw:
                self._images.release()


def without_image(tracked: TrackedFrame) -> TrackedFrame:
    """The same frame with no pixels but a decision's evidence.

    What waits must not fill the memory.
    """
    result, kept = tracked.result, tracked.evidence()
    frame = replace(result.frame, image=_NO_IMAGE)
    cells = tuple(
        cell if i in kept else replace(cell, pixels=_NO_IMAGE, seen=_NO_IMAGE)
        for i, cell in enumerate(result.cells)
    )
    return replace(tracked, result=replace(result, frame=frame, cells=cells))
