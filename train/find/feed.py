"""Batches of views, made in this process or in others beside it."""

import mmap
import multiprocessing
import os
import queue
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from edgecell.edge.find.finder import CELL
from edgecell.errors import EdgecellError
from edgecell.train.find.targets import MAPS, target
from edgecell.train.find.views import SIDE, Views

_PATIENCE_S = 5.0
"""How often a process that waits for another looks whether it still runs."""

_VIEW = (SIDE, SIDE, 3)
_MAP = (MAPS, SIDE // CELL, SIDE // CELL)

Batch = tuple[torch.Tensor, torch.Tensor]
"""Views, uint8 (N, SIDE, SIDE, 3), and their targets, float16 (N, MAPS, h, w)."""


def batch(views: Views, size: int) -> Batch:
    """A batch made here and now."""
    levels = np.empty((size, *_VIEW), np.uint8)
    maps = np.empty((size, *_MAP), np.float16)
    _fill(views, levels, maps)
    return torch.from_numpy(levels), torch.from_numpy(maps)


def _fill(
    views: Views, levels: npt.NDArray[np.uint8], maps: npt.NDArray[np.float16]
) -> None:
    for i in range(len(levels)):
        levels[i], boxes, known = views()
        maps[i] = target(boxes, known)


class Feed:
    """Batches of views from processes that make them ahead.

    The processes are forked, so that they share the scenes, and write into memory that
    all share, two batches for each.
    """

    def __init__(
        self, views: Views, size: int, workers: int, seed: tuple[int, ...]
    ) -> None:
        """Starts the processes; they end with this one.

        Args:
            views: draws them; each process draws differently.
            size: views a batch.
            workers: how many processes.
            seed: of their draws.
        """
        context = multiprocessing.get_context("fork")
        self._slots = [_slot(size) for _ in range(2 * workers)]
        self._free: Any = context.Queue()
        self._full: Any = context.Queue()
        self._workers = [
            context.Process(
                target=self._work, args=(views, (*seed, number)), daemon=True
            )
            for number in range(workers)
        ]
        for worker in self._workers:
            worker.start()
        for place in range(len(self._slots)):
            self._free.put(place)

    def _work(self, views: Views, seed: tuple[int, ...]) -> None:
        cv2.setNumThreads(0)
        views.rng = np.random.default_rng(seed)
        parent = os.getppid()
        while os.getppid() == parent:
            try:
                place = self._free.get(timeout=_PATIENCE_S)
            except queue.Empty:
                continue
            _fill(views, *self._slots[place])
            self._full.put(place)

    def __call__(self) -> Batch:
        """The next batch that is ready.

        Raises:
            EdgecellError: a process has ended.
        """
        while True:
            try:
                place = self._full.get(timeout=_PATIENCE_S)
            except queue.Empty:
                if not all(worker.is_alive() for worker in self._workers):
                    raise EdgecellError(
                        "a process that makes views has ended; continue with --resume"
                    ) from None
                continue
            levels, maps = (
                torch.from_numpy(array).clone() for array in self._slots[place]
            )
            self._free.put(place)
            return levels, maps

    def close(self) -> None:
        """Ends the processes."""
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            worker.join()


def _slot(size: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float16]]:
    """Memory for a batch that forked processes share."""
    # Anonymous: in containers /dev/shm, where other shared memory lies, is small.
    levels = mmap.mmap(-1, size * int(np.prod(_VIEW)))
    maps = mmap.mmap(-1, size * int(np.prod(_MAP)) * 2)
    return (
        np.frombuffer(levels, np.uint8).reshape(size, *_VIEW),
        np.frombuffer(maps, np.float16).reshape(size, *_MAP),
    )
