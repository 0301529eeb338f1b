"""Processes queues of explanations on a Dask cluster, for whole archives."""

import logging
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any

from edgecell.errors import EdgecellError, InputError
from edgecell.explain.methods import Explanation
from edgecell.explain.queue import Job, JobQueue
from edgecell.explain.work import left, make, reason, renewed
from edgecell.model.classifier import Classifier
from edgecell.optional import connected, require

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0
_JOBS_A_THREAD = 2
"""Jobs in flight: so many that no worker waits for its next one."""

_ONE_AT_A_TIME = threading.Lock()
"""An interpreter is no place for two threads; LIME uses all cores by itself."""


def explain_remotely(model: bytes, job: Job) -> Explanation:
    """What a cluster's worker does.

    Args:
        model: the whole model file, since there need be no common file system.
        job: the job.
    """
    with _ONE_AT_A_TIME:
        return make(job, _classifier(model))


@lru_cache(maxsize=1)
def _classifier(model: bytes) -> Classifier:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(model)
        return Classifier(path)


def work_off_on_cluster(
    queues: Sequence[JobQueue],
    model: Path,
    scheduler: str,
    told: Callable[[Job, Explanation | None, str], None],
) -> None:
    """Makes the waiting explanations on a cluster, until none is left.

    The leases stay here: a worker that dies costs nothing, since Dask gives its jobs
    to another one; if this process dies, they come free.

    Args:
        queues: of sessions that were made with this model.
        model: the model file.
        scheduler: its address, such as tcp://server:8786.
        told: called after each job with its result or the error; not if another
            worker's result was there first.

    Raises:
        InputError: the scheduler doesn't answer, or stops answering; jobs were given
            back.
        StopWorkError: raised in here by a signal; likewise.
    """
    content = model.read_bytes()
    in_flight: dict[Any, tuple[JobQueue, Job]] = {}
    alone = False
    with connected(scheduler, "no job is lost") as client, ExitStack() as leases:
        for queue in queues:
            leases.enter_context(renewed(queue))
        try:
            while True:
                threads = sum(client.nthreads().values())
                if not threads and not alone:
                    logger.info("waiting for a worker to join %s", scheduler)
                alone = not threads
                room = _JOBS_A_THREAD * threads
                for queue in queues:
                    for job in queue.claim(max(0, room - len(in_flight))):
                        future = client.submit(
                            explain_remotely, content, job, pure=False
                        )
                        in_flight[future] = queue, job
                if in_flight:
                    _wait(list(in_flight))
                    for future in [f for f in in_flight if f.done()]:
                        _settle(future, *in_flight.pop(future), told)
                elif not any(map(left, queues)):
                    return
                else:
                    threading.Event().wait(_LOOK_EVERY_S)
        except (OSError, TimeoutError) as e:
            raise InputError(
                f"the Dask scheduler at {scheduler} is gone ({reason(e)}); run the "
                "command again when it is back. No job is lost"
            ) from e
        finally:
            for queue in queues:
                queue.give_back()


def _wait(futures: list[Any]) -> None:
    """Waits for the first of them, but not for long: there may be more to submit."""
    try:
        require("distributed", "cluster").wait(
            futures, timeout=_LOOK_EVERY_S, return_when="FIRST_COMPLETED"
        )
    except TimeoutError:
        return


def _settle(
    future: Any,
    queue: JobQueue,
    job: Job,
    told: Callable[[Job, Explanation | None, str], None],
) -> None:
    """Records the outcome of a job."""
    if future.status == "cancelled":  # Dask does that when it loses the scheduler
        raise OSError("it cancelled the jobs")
    error = future.exception()
    if error is not None:
        queue.fail(job, reason(error), for_good=isinstance(error, EdgecellError))
        told(job, None, reason(error))
        return
    explanation = future.result()
    if queue.acknowledge(job, explanation):
        told(job, explanation, "")
