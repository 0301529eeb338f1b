"""Processes an archive: chunks go to workers, parts come back, a table results."""

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgecell import __version__
from edgecell.edge.commands.archive.items import Chunk, Item, chunks_of, items_of
from edgecell.edge.commands.archive.table import Table
from edgecell.edge.commands.archive.work import (
    Part,
    Task,
    begin_worker,
    work_here,
    work_there,
)
from edgecell.errors import InputError
from edgecell.model.classifier import Classifier
from edgecell.optional import connected

_CELLS_A_CHUNK, _FRAMES_A_CHUNK = 256, 8
_AHEAD = 2
"""Chunks in flight for each worker: so many that none waits for its next one."""

_CRASHED = "crashes the program that reads it"


@dataclass(frozen=True)
class Archive:
    """The result of processing an archive.

    Attributes:
        images: how many there are.
        resumed: those of them that an earlier run had done.
        rows: of the table.
        errors: rows that say why there is no class.
        microscopes: by size of image, which microscope it is.
    """

    images: int
    resumed: int
    rows: int
    errors: int
    microscopes: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


class Workers:
    """Processes of this machine, each with an interpreter of one thread."""

    def __init__(self, model: Path, task: Task, count: int) -> None:
        """Starts no process yet.

        Args:
            model: the model file.
            task: how the images are to be read.
            count: how many, at least 1.
        """
        self._model, self._task, self.count = str(model), task, count
        self._pool = self._made(count)

    @staticmethod
    def _made(count: int) -> Executor:
        # Not forked: OpenCV and the runtimes have threads.
        fresh = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(count, fresh, begin_worker)

    def submit(self, chunk: Chunk) -> "Future[Part]":
        """Begins a chunk."""
        return self._pool.submit(work_here, self._model, self._task, chunk.items)

    def again(self, chunk: Chunk) -> Part:
        """Works image by image on a chunk during which a process crashed.

        A damaged file can crash a decoder. It becomes a row, and the others are still
        processed.
        """
        part = Part([], {})
        for item in chunk.items:
            one = self._alone(item)
            part.rows.extend(one.rows)
            for size, each in one.samples.items():
                part.samples.setdefault(size, []).extend(each)
        return part

    def _alone(self, item: Item) -> Part:
        try:
            return self.submit(Chunk("", (item,))).result()
        except BrokenExecutor:
            self.restart()
            return Part([{"image": item.name, "error": _CRASHED}], {})

    def restart(self) -> None:
        """Replaces a broken pool by fresh processes."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool = self._made(self.count)

    def close(self) -> None:
        """Ends the processes."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class Cluster:
    """The workers of a Dask cluster."""

    def __init__(self, client: Any, model: Path, task: Task) -> None:
        """Sends the model; images go with their chunks.

        Args:
            client: Dask's.
            model: the model file.
            task: how the images are to be read.
        """
        self._client, self._task = client, task
        self._model = client.scatter(model.read_bytes(), broadcast=True)
        self._pool = client.get_executor(pure=False)

    @property
    def count(self) -> int:
        """Workers' threads at present, at least one."""
        return max(1, int(sum(self._client.nthreads().values())))

    def submit(self, chunk: Chunk) -> "Future[Part]":
        """Begins a chunk."""
        images = [(item.name, _content(item)) for item in chunk.items]
        return self._pool.submit(work_there, self._model, self._task, images)  # type: ignore[no-any-return]


def _content(item: Item) -> bytes | str:
    try:
        return item.read()
    except InputError as e:
        return str(e)


@contextmanager
def _workers(
    model: Path, task: Task, count: int | None, scheduler: str | None
) -> Iterator[Workers | Cluster]:
    if scheduler is not None:
        with connected(scheduler, "finished images are kept") as client:
            yield Cluster(client, model, task)
        return
    workers = Workers(model, task, count or os.cpu_count() or 1)
    try:
        yield workers
    finally:
        workers.close()


def classify_archive(
    roots: Sequence[str],
    model: Path,
    task: Task,
    out: Path,
    workers: int | None = None,
    scheduler: str | None = None,
    told: Callable[[int], None] = lambda images: None,
) -> Archive:
    """Classifies all images of an archive into one table.

    If it is killed and called again with the same arguments, it continues where it was.

    Args:
        roots: folders, zip files and images.
        model: the model file.
        task: how the images are to be read.
        out: the table, ``.parquet`` or ``.csv``.
        workers: processes; None for one a core.
        scheduler: address of a Dask scheduler, whose workers are used instead.
        told: called with the number of images that have just been done.

    Raises:
        InputError: there is no image; or the scheduler doesn't answer, or stops
            answering.
        OutputError: the table is there already, or the disk doesn't take it.
        ModelError: not a model of ours, or damaged.
        MissingPackageError: a package for Parquet, or for the cluster, is missing.
    """
    table = Table(out)
    record = Classifier(model).record  # it works here, before others are asked
    settings = json.dumps([__version__, record.model_sha256, record.record_sha256])
    settings += json.dumps(asdict(task))
    size = _FRAMES_A_CHUNK if task.frames else _CELLS_A_CHUNK
    keys: list[str] = []
    images = resumed = 0
    with ExitStack() as stack:
        crew = stack.enter_context(_workers(model, task, workers, scheduler))
        in_flight: dict[Future[Part], Chunk] = {}
        try:
            for chunk in chunks_of(items_of(roots), size, settings):
                keys.append(chunk.key)
                images += len(chunk.items)
                if table.has(chunk.key):
                    resumed += len(chunk.items)
                    told(len(chunk.items))
                    continue
                while len(in_flight) >= _AHEAD * crew.count:
                    _settle(crew, in_flight, table, told)
                in_flight[_begun(crew, chunk, in_flight, table, told)] = chunk
            while in_flight:
                _settle(crew, in_flight, table, told)
        except (OSError, TimeoutError) as e:
            if scheduler is None:
                raise
            raise InputError(
                f"the Dask scheduler at {scheduler} is gone ({e}); run the same "
                "command again when it is back: no image is processed twice"
            ) from e
    rows, errors, microscopes = table.finish(keys, record.microscopes)
    named = {size: str(verdict) for size, verdict in microscopes.items()}
    return Archive(images, resumed, rows, errors, named)


def _begun(
    crew: Workers | Cluster,
    chunk: Chunk,
    in_flight: "dict[Future[Part], Chunk]",
    table: Table,
    told: Callable[[int], None],
) -> "Future[Part]":
    """Begins a chunk, even if a process has crashed since the last one was begun."""
    try:
        return crew.submit(chunk)
    except BrokenExecutor:
        while in_flight:
            _settle(crew, in_flight, table, told)
        if isinstance(crew, Workers):
            crew.restart()
        return crew.submit(chunk)


def _settle(
    crew: Workers | Cluster,
    in_flight: "dict[Future[Part], Chunk]",
    table: Table,
    told: Callable[[int], None],
) -> None:
    """Waits for a chunk, and keeps its result."""
    done, _ = wait(in_flight, return_when=FIRST_COMPLETED)
    crashed: list[Chunk] = []
    for future in done:
        chunk = in_flight.pop(future)
        try:
            table.add(chunk.key, future.result())
        except BrokenExecutor:
            crashed.append(chunk)
            continue
        told(len(chunk.items))
    if not crashed or isinstance(crew, Cluster):
        return
    crashed += in_flight.values()  # the process that crashed took all of them down
    in_flight.clear()
    crew.restart()
    for chunk in crashed:
        table.add(chunk.key, crew.again(chunk))
        told(len(chunk.items))
