import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np

from edgecell.edge.analyse.pipeline import FrameResult
from edgecell.edge.count.sequential import parse_goal
from edgecell.edge.loop.run_loop import Controls, Limits, Loop
from edgecell.edge.sources.base import Frame
from edgecell.image.preprocess import Bgr
from edgecell.model.decision import Decision

IMAGE = Bgr(np.zeros((4, 4, 3), np.uint8))


class Camera:
    """Has a new frame whenever one was worked on, never right after one was taken."""

    ended = False

    def __init__(self) -> None:
        self.taken = 0
        self.fresh = threading.Event()
        self.fresh.set()

    def next(self, timeout_s: float) -> Frame | None:
        if not self.fresh.wait(timeout_s):
            return None
        self.fresh.clear()
        self.taken += 1
        return Frame(self.taken, self.taken / 30, IMAGE, "camera")


class Analyser:
    """Notes whether it finds in a frame while it classifies the one before."""

    def __init__(self, camera: Camera) -> None:
        self._camera = camera
        self._both = threading.Barrier(2)
        self.overlaps: list[bool] = []

    def find(self, frame: Frame) -> Frame:
        time.sleep(0.02)  # its work: who asks for another frame meanwhile gets none
        if frame.index > 1:
            self._meet()
        self._camera.fresh.set()
        return frame

    def classify(self, found: Frame) -> FrameResult:
        self.overlaps.append(self._meet())
        return FrameResult(found, ())

    def _meet(self) -> bool:
        """Whether the other half is at work as well."""
        try:
            self._both.wait(10)
        except threading.BrokenBarrierError:
            return False
        return True


def test_it_finds_in_one_frame_while_it_classifies_the_one_before() -> None:
    camera = Camera()
    analyser = Analyser(camera)
    none: Any = SimpleNamespace(
        update=lambda _: SimpleNamespace(changed=()), put=lambda *_: None
    )
    reader: Any = camera
    worker: Any = analyser
    loop = Loop(reader, worker, none, none, Limits(frames=6), Controls())
    loop.run(lambda _: None)
    assert loop.tally.frames == 6
    assert analyser.overlaps == [True] * 6


def test_it_counts_on_until_the_goals_are_decided() -> None:
    """One lymphocyte a frame: the interval of MYE falls below 5 % at 158."""
    taken = iter(range(1, 500))
    reader: Any = SimpleNamespace(
        ended=False, next=lambda _: Frame(next(taken), 0.0, IMAGE, "camera")
    )
    worker: Any = SimpleNamespace(
        find=lambda frame: frame, classify=lambda frame: FrameResult(frame, ())
    )
    tracker: Any = SimpleNamespace(
        update=lambda result: SimpleNamespace(
            changed=[Decision(result.frame.index, "LY", 0.9, (), 1, None)]
        )
    )
    recorder: Any = SimpleNamespace(put=lambda *_: None)
    limits = Limits(goals=(parse_goal("MYE<5%"),))
    loop = Loop(reader, worker, tracker, recorder, limits, Controls())
    loop.run(lambda _: None)
    assert loop.tally.ended == "goals decided"
    # (n + 1) 0.95^n falls below 0.05 at n = 158.
    assert loop.differential.white_cells == 158
