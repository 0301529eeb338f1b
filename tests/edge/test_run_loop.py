import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np

from edgecell.edge.pipeline import FrameResult
from edgecell.edge.run_loop import Limits, Loop
from edgecell.edge.sources_base import Frame

IMAGE = np.zeros((4, 4, 3), np.uint8)


class Camera:
    """Has a new frame whenever one was worked on, never right after one was taken."""

    ended = False

    def __init__(self) -> None:
        self.taken = 0
        self.fresh = True

    def next(self, timeout_s: float) -> Frame | None:
        if not self.fresh:
            if not timeout_s:
                return None
            time.sleep(0.01)
        self.fresh = False
        self.taken += 1
        return Frame(self.taken, self.taken / 30, IMAGE, "camera")


class Analyser:
    """Takes its time; notes whether it finds and classifies side by side."""

    def __init__(self, camera: Camera) -> None:
        self._camera = camera
        self._finding = threading.Event()
        self.overlaps: list[bool] = []

    def find(self, frame: Frame) -> Frame:
        self._finding.set()
        time.sleep(0.02)
        self._camera.fresh = True
        self._finding.clear()
        return frame

    def classify(self, found: Frame) -> FrameResult:
        self.overlaps.append(self._finding.wait(0.2))
        return FrameResult(found, ())


def test_it_finds_in_one_frame_while_it_classifies_the_one_before() -> None:
    camera = Camera()
    analyser = Analyser(camera)
    none: Any = SimpleNamespace(
        update=lambda _: SimpleNamespace(changed=()), put=lambda *_: None
    )
    reader: Any = camera
    worker: Any = analyser
    loop = Loop(reader, worker, none, none, Limits(frames=6))
    loop.run(lambda: False, lambda _: None)
    assert loop.tally.frames == 6
    assert analyser.overlaps == [True] * 6
