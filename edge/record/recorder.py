"""Writes what was found, on a thread of its own: the store, pictures, the film."""

import atexit
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from edgecell.edge.count.microscopes import NOTHING, Settled
from edgecell.edge.count.tracking import TrackedFrame
from edgecell.edge.record.connection import HeldError
from edgecell.edge.record.store import Store
from edgecell.edge.record.waiting import BOUNDS, Bounds, Job, Waiting, without_image
from edgecell.edge.show.film import Film
from edgecell.edge.show.overlay import annotate
from edgecell.errors import OutputError

logger = logging.getLogger(__name__)

_LAST_JOIN_S = 3.0

TOO_SLOW = "the disk is too slow"


class _BrokenOffError(Exception):
    """Tells the store that the run failed."""


class Recorder:
    """The writer thread with its bounded queue.

    Writes that the disk refuses are tried again for as long as the run goes on:
    recording goes on when another program lets go of the file, or when there is room
    again. Meanwhile frames wait; those that find no room are left out, counted, and
    named in the record.

    Attributes:
        frames: frames written.
        pictures: annotated frames written.
        overflowed: frames that were not recorded.
        undrawn: pictures left out because the disk was too slow.
        error: why nothing can be recorded at present, or up to the end; None if all
            is well.
        picture_error: why a picture, or the end of the film, could not be written;
            the record goes on without.
    """

    def __init__(
        self,
        store: Store,
        film: Film | None,
        patient: bool,
        maps: bool = True,
        bounds: Bounds = BOUNDS,
    ) -> None:
        """Prepares the thread; entering it makes the session's folder.

        Args:
            store: the session's store, not yet entered.
            film: where each frame is to be drawn; None for nowhere.
            patient: whether `put` waits for room in the queue (a file's frames can
                wait) instead of leaving a frame out.
            maps: whether to draw where the network looked.
            bounds: how much may wait, and for how long.
        """
        self.frames = self.pictures = self.overflowed = self.undrawn = 0
        self.error: OutputError | None = None
        self.picture_error: OutputError | None = None
        self._store = store
        self._film = film
        self._patient = patient
        self._maps = maps
        self._bounds = bounds
        self._jobs = Waiting(bounds)
        self._left_out: Job | None = None
        self._opened = threading.Event()
        self._reason: str | None = None
        self._settled = NOTHING
        self._give_up_s = float("inf")
        self._hurried = False
        self._hindered_s: float | None = None
        self._told = False
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
            self._finish(self._bounds.hurry_s)

    def put(self, tracked: TrackedFrame, picture: bool) -> None:
        """Hands a frame over.

        Args:
            tracked: the frame.
            picture: whether it is worth a picture file.
        """
        if self._fault is not None:
            raise self._fault
        draw = self._draws(tracked, picture)
        # A cell that is decided on in an unrecorded frame must still be known.
        before = self._left_out
        earlier = before.tracked.changed if before else ()
        decisions = {d.cell: d for d in (*earlier, *tracked.changed)}
        told = (*(before.tracked.told if before else ()), *tracked.told)
        tracked = replace(tracked, changed=tuple(decisions.values()), told=told)
        job = Job(
            tracked if draw else without_image(tracked),
            picture and draw,
            draw,
            before.gap(self._why()) if before else None,
        )
        if self._jobs.wait_until(lambda: self._jobs.has_room(job), self._waits):
            self._jobs.put(job)
            self._left_out = None
        else:
            self._leave_out(job)

    def _draws(self, tracked: TrackedFrame, picture: bool) -> bool:
        """Whether a frame is drawn, for a picture file or the film."""
        if not picture and self._film is None:
            return False
        size = tracked.result.frame.image.nbytes
        if self._jobs.wait_until(lambda: self._jobs.may_draw(size), self._waits):
            return True
        self.undrawn += 1
        return False

    def _waits(self) -> bool:
        """Whether a frame should wait for room."""
        if not self._patient or self._fault is not None:
            return False
        if self.error is None or self._hindered_s is None:
            return True
        waited_s = time.monotonic() - self._hindered_s
        return isinstance(self.error, HeldError) and waited_s < self._bounds.patience_s

    def _leave_out(self, job: Job) -> None:
        if not self.overflowed:
            logger.warning("not every frame is recorded: %s", self._why())
        self.overflowed += 1
        self._left_out = replace(
            job, tracked=without_image(job.tracked), keep=False, draw=False
        )

    def _why(self) -> str:
        return str(self.error or TOO_SLOW)

    def end(self, reason: str, hurried: bool, settled: Settled = NOTHING) -> None:
        """Writes what is waiting, and closes the store.

        Args:
            reason: why the session ends, for its record.
            hurried: whether to leave out pictures that are not drawn yet, and to give
                up on a disk that hangs.
            settled: what could be decided only at the end.
        """
        self._settled = settled
        self._reason, self._hurried = reason, hurried
        self._finish(self._bounds.hurry_s if hurried else None)
        if self._fault is not None:
            raise self._fault

    def _finish(self, wait_s: float | None) -> None:
        if self._left_out is not None:  # with what was decided last
            self._jobs.put(self._left_out)
            self.overflowed -= 1
        self._give_up_s = time.monotonic() + (
            self._bounds.patience_s if wait_s is None else 0.0
        )
        self._jobs.close()
        self._thread.join(wait_s)
        if self._thread.is_alive():
            logger.warning(
                "the disk does not respond: the last frames may not be recorded"
            )
            # Python crashes when it ends while a thread is in OpenCV.
            atexit.register(self._thread.join, _LAST_JOIN_S)

    def _work(self) -> None:
        """The thread."""
        try:
            with suppress(_BrokenOffError), self._store:
                self._opened.set()
                self._record()
        except Exception as e:  # whoever waits for this thread must learn of it
            self._fault = e
            self._opened.set()
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
                logger.warning("%s; recording continues without it", e)
                self.picture_error = e
            return False
        return True

    def _record(self) -> None:
        while len(self._jobs) or not self._jobs.closed:
            jobs = self._jobs.first()
            if not self._tried(partial(self._write, jobs)):
                if self._gives_up():
                    break
                self._jobs.sleep(self._bounds.retry_s)
                continue
            self._jobs.done(jobs)
            for job in jobs:
                if job.draw and not self._hurried:
                    self._draw(job)
            self._jobs.let_go(jobs)
        if self._reason is None:
            raise _BrokenOffError
        end = partial(self._store.end, self._reason, self._settled)
        if lost := self._jobs.lose(self._why()):
            self.overflowed += lost.frames
            with suppress(OutputError):
                self._store.write([], [lost])
                end()
            return
        while not self._tried(end) and not self._gives_up():
            time.sleep(self._bounds.retry_s)

    def _write(self, jobs: Sequence[Job]) -> None:
        self._store.check()
        if jobs:
            gaps = [job.after for job in jobs if job.after is not None]
            self._store.write([job.tracked for job in jobs], gaps)
            self.frames += len(jobs)

    def _tried(self, write: Callable[[], object]) -> bool:
        """Whether the disk accepted a write; logs when it starts and stops refusing."""
        now_s = time.monotonic()
        try:
            write()
        except OutputError as e:
            self.error = e
            self._hindered_s = self._hindered_s or now_s
            held_s = self._bounds.held_s if isinstance(e, HeldError) else 0.0
            if not self._told and now_s - self._hindered_s >= held_s:
                logger.warning(
                    "recording is held up: %s; trying again until it works", e
                )
                self._told = True
            return False
        if self._told:
            logger.warning(
                "recording continues; %d frames were left out", self.overflowed
            )
        self.error, self._hindered_s, self._told = None, None, False
        return True

    def _gives_up(self) -> bool:
        """Whether the run has ended and the disk still refuses."""
        if not self._jobs.closed:
            return False
        held = isinstance(self.error, HeldError)
        return not held or time.monotonic() > self._give_up_s

    def _draw(self, job: Job) -> None:
        tracked, film = job.tracked, self._film
        frame = tracked.result.frame
        picture = annotate(tracked.result, tracked.cells, tracked.to_review, self._maps)
        if job.keep:
            self.pictures += self._written(
                lambda: self._store.write_picture(frame.index, picture)
            )
            if frame.time_s is not None:  # of a still image there is one already
                self._written(
                    lambda: self._store.write_picture(frame.index, frame.image, True)
                )
        if film and not self._written(lambda: film.show(picture, frame.time_s)):
            self._end_film()
