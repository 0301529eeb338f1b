"""Processes a queue of explanations on this machine, at low priority."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from edgecell.edge.show.health import read_board
from edgecell.errors import EdgecellError, InputError, MissingPackageError
from edgecell.explain.methods import Explanation, explain
from edgecell.explain.queue import LEASE_S, Job, JobQueue, decode_seen, open_queue
from edgecell.model.classifier import Classifier

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0
_LEAST_TICKS = 50


class StopWorkError(BaseException):
    """Raised by a signal: the worker gives back its job and ends."""


class Machine:
    """The state of this machine, as `Conditions` needs it."""

    def now(self) -> datetime:
        """Local time."""
        return datetime.now()

    def ticks(self) -> tuple[int, int]:
        """Processor time since the machine started, in ticks.

        Returns:
            That of programs that are not nice, and all of it, idle time too. The worker
            is nice, so it doesn't count itself.

        Raises:
            OSError: the system doesn't report it.
        """
        first = Path("/proc/stat").read_text().partition("\n")[0]
        user, nice, system, *rest = map(int, first.split()[1:9])
        return user + system, user + nice + system + sum(rest)

    def celsius(self) -> float | None:
        """Temperature of the hottest sensor; None if there is none."""
        return read_board().temperature_c

    def wait(self) -> None:
        """Waits until it is worth looking again."""
        time.sleep(_LOOK_EVERY_S)


class Conditions:
    """When the machine may be used."""

    def __init__(
        self,
        max_load: float | None = None,
        max_celsius: float | None = None,
        between: tuple[int, int] | None = None,
        machine: Machine | None = None,
    ) -> None:
        """Sets the limits under which work is allowed.

        Args:
            max_load: highest share of the cores that other programs use, 0..1, since
                the last look; None for any.
            max_celsius: hottest sensor, degrees Celsius; None for any.
            between: start and end of a daily time window, minutes after midnight,
                local time; it may go over midnight. None for the whole day.
            machine: the machine to ask; None for this one.

        Raises:
            InputError: a limit on the load where the system doesn't report it.
        """
        self._max_load, self._max_celsius = max_load, max_celsius
        self._between = between
        self._machine = machine or Machine()
        self._before, self._load = (0, 0), 0.0
        if max_load is not None:
            try:
                self._before = self._machine.ticks()
            except OSError as e:
                raise InputError(
                    "this system does not report its load; leave out --max-load"
                ) from e
            self._machine.wait()

    def why_not(self) -> str:
        """The reason not to work now; '' if there is none."""
        if self._between:
            now = self._machine.now()
            minute, (start, end) = 60 * now.hour + now.minute, self._between
            inside = start <= minute < end
            if start > end:
                inside = minute >= start or minute < end
            if not inside:
                return f"until {start // 60:02d}:{start % 60:02d}"
        if self._max_load is not None and self._others() > self._max_load:
            return f"for an idle machine (others use {self._load:.0%} of it)"
        limit = self._max_celsius
        celsius = None if limit is None else self._machine.celsius()
        if celsius is not None and limit is not None and celsius > limit:
            return f"for a cooler board ({celsius:.0f} degrees Celsius)"
        return ""

    def _others(self) -> float:
        busy, total = self._machine.ticks()
        # A hundred ticks a second and core: a few would be noise.
        if total - self._before[1] >= _LEAST_TICKS:
            self._load = (busy - self._before[0]) / (total - self._before[1])
            self._before = busy, total
        return self._load


def parse_window(text: str) -> tuple[int, int]:
    """Reads a time window such as '22:00-06:00'.

    Returns:
        Start and end, minutes after midnight.

    Raises:
        InputError: it is none.
    """
    try:
        start, end = (datetime.strptime(part, "%H:%M") for part in text.split("-"))
    except ValueError as e:
        raise InputError(f"'{text}' is not a time window such as 22:00-06:00") from e
    return 60 * start.hour + start.minute, 60 * end.hour + end.minute


def make(job: Job, classifier: Classifier) -> Explanation:
    """Makes one explanation.

    Args:
        job: the job.
        classifier: the model that it is for.

    Raises:
        EdgecellError: it can't be made; says why.
    """
    if job.seen is None:
        raise InputError("its crop is gone: --keep deleted it")
    index = classifier.record.codes.index(job.code)
    return explain(job.method, classifier, decode_seen(job.seen), index, job.seed)


@contextmanager
def renewed(queue: JobQueue) -> Iterator[None]:
    """Keeps the leases of a queue's holder while the work takes."""
    done = threading.Event()

    def renew() -> None:
        while not done.wait(LEASE_S / 4):
            # SQLite connections stay with their thread.
            with open_queue(queue.folder) as mine:
                mine.renew(queue.holder)

    thread = threading.Thread(target=renew, name="edgecell-lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def work_off(
    queues: Sequence[JobQueue],
    classifier: Classifier,
    conditions: Conditions,
    told: Callable[[Job, Explanation | None, str], None],
) -> None:
    """Makes the waiting explanations, until none is left.

    It also waits for jobs that another worker holds: they get done or come free.

    Args:
        queues: of sessions that were made with this model.
        classifier: the model.
        conditions: when to work.
        told: called after each job with its result or the error; not if another
            worker's result was there first.

    Raises:
        StopWorkError: raised in here by a signal; the job in hand is given back.
        MissingPackageError: a job's method isn't installed; likewise.
    """
    waits = False
    try:
        while True:
            why = conditions.why_not()
            if why and not waits:
                logger.info("waiting %s", why)
            waits = bool(why)
            if not why and any([_one(queue, classifier, told) for queue in queues]):
                continue
            if not why and not any(map(left, queues)):
                return
            time.sleep(_LOOK_EVERY_S)
    finally:
        for queue in queues:
            queue.give_back()


def reason(error: BaseException) -> str:
    """An error in one line."""
    text = " ".join(str(error).split())
    return (
        text if isinstance(error, EdgecellError) else f"{type(error).__name__}: {text}"
    )


def left(queue: JobQueue) -> int:
    """Number of a queue's jobs that are not done, including those that others hold."""
    status = queue.status()
    return status.waiting + status.held


def _one(
    queue: JobQueue,
    classifier: Classifier,
    told: Callable[[Job, Explanation | None, str], None],
) -> bool:
    """Makes a queue's next explanation; False if there is none."""
    jobs = queue.claim()
    if not jobs:
        return False
    (job,) = jobs
    try:
        with renewed(queue):
            explanation = make(job, classifier)
    except MissingPackageError:
        raise
    except Exception as e:  # a library's too: the job is set aside if it stays so
        queue.fail(job, reason(e), for_good=isinstance(e, EdgecellError))
        told(job, None, reason(e))
    else:
        if queue.acknowledge(job, explanation):
            told(job, explanation, "")
    return True
