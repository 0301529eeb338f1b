import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgecell.edge.analyse.pipeline import FrameResult
from edgecell.edge.count.microscopes import MicroscopeGate
from edgecell.edge.count.sequential import parse_goal
from edgecell.edge.loop.run_loop import Controls, Limits, Loop, PictureRule
from edgecell.edge.sources import base
from edgecell.edge.sources.base import STALL_S, Frame, Skipped
from edgecell.edge.sources.capture import Capture
from edgecell.image.preprocess import Bgr
from edgecell.image.records import Box
from edgecell.model.decision import Decision
from tests.factories import cell_result

IMAGE = Bgr(np.zeros((4, 4, 3), np.uint8))
OPEN = MicroscopeGate(())


class Camera:
    """Has a new frame whenever one was worked on, never right after one was taken."""

    ended = False

    def __init__(self) -> None:
        self.taken = 0
        self.fresh = threading.Event()
        self.fresh.set()

    def is_stale(self, frame: Frame) -> bool:
        return False

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

    def find(self, frame: Frame) -> Any:
        time.sleep(0.02)  # its work: who asks for another frame meanwhile gets none
        if frame.index > 1:
            self._meet()
        self._camera.fresh.set()
        return SimpleNamespace(frame=frame)

    def classify(self, found: Any) -> FrameResult:
        self.overlaps.append(self._meet())
        return FrameResult(found.frame, ())

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
    loop = Loop(reader, worker, none, none, Limits(frames=6), Controls(), OPEN)
    loop.run(lambda _: None)
    assert loop.tally.frames == 6
    assert analyser.overlaps == [True] * 6


def test_it_counts_on_until_the_goals_are_decided() -> None:
    """One lymphocyte a frame: the interval of MYE falls below 5 % at 158."""
    taken = iter(range(1, 500))
    reader: Any = SimpleNamespace(
        ended=False,
        next=lambda _: Frame(next(taken), 0.0, IMAGE, "camera"),
        is_stale=lambda _: False,
    )
    worker: Any = SimpleNamespace(
        find=lambda frame: SimpleNamespace(frame=frame),
        classify=lambda found: FrameResult(found.frame, ()),
    )
    tracker: Any = SimpleNamespace(
        update=lambda result: SimpleNamespace(
            changed=[Decision(result.frame.index, "LY", 0.9, (), 1, None)]
        )
    )
    recorder: Any = SimpleNamespace(put=lambda *_: None)
    limits = Limits(goals=(parse_goal("MYE<5%"),))
    loop = Loop(reader, worker, tracker, recorder, limits, Controls(), OPEN)
    loop.run(lambda _: None)
    assert loop.tally.ended == "goals decided"
    # (n + 1) 0.95^n falls below 0.05 at n = 158.
    assert loop.differential.white_cells == 158


class Clock:
    """The time of day of `now_s`, which goes on as it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("stopped_in", "counted"),
    [("find", [1, 2, 4, 5]), ("classify", [1, 2, 5]), (None, [1, 2, 3, 4, 5])],
)
def test_what_grows_stale_while_it_is_worked_on_is_not_counted(
    stopped_in: str | None, counted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program is stopped for three seconds, as by SIGSTOP, at the third frame.

    Where it is stopped while it classifies, the fourth frame is already taken.
    """
    clock = Clock()
    monkeypatch.setattr(base, "now_s", clock)
    numbers = iter(range(1, 6))

    def work(name: str, index: int) -> None:
        if name == stopped_in and index == 3:
            clock.now += 3

    def find(frame: Frame) -> Any:
        work("find", frame.index)
        return SimpleNamespace(frame=frame)

    def classify(found: Any) -> FrameResult:
        work("classify", found.frame.index)
        return FrameResult(found.frame, ())

    source: Any = SimpleNamespace(live=True, name="camera", skipped=Skipped())
    reader: Any = Capture(source, clock=clock)

    def take(_: float) -> Frame | None:
        clock.now += 0.1
        index = next(numbers, 0)
        return Frame(index, 0.0, IMAGE, "camera", clock.now) if index else None

    reader.next = take
    tracker: Any = SimpleNamespace(
        update=lambda result: SimpleNamespace(result=result, changed=())
    )
    recorded: list[int] = []

    def put(tracked: Any, _: bool) -> None:
        recorded.append(tracked.result.frame.index)

    recorder: Any = SimpleNamespace(
        put=put, error=None, frames=0, overflowed=0, undrawn=0
    )
    worker: Any = SimpleNamespace(find=find, classify=classify)
    controls = Controls()
    loop = Loop(reader, worker, tracker, recorder, Limits(), controls, OPEN)
    turns = iter(range(10))
    loop.run(lambda _: controls.end("stopped") if next(turns) == 7 else None)
    assert recorded == counted
    assert reader.state().dropped == 5 - len(counted)
    assert max(loop.tally.age_ms) < STALL_S * 1000
    clock.now += 60
    assert (loop.health().age_ms or 0) > 60_000, "not fresh when nothing comes any more"


def result_at(
    time_s: float | None, cells: int = 1, index: int = 0, name: str = "v"
) -> FrameResult:
    found = [cell_result(Box(0, 0, 9, 9)) for _ in range(cells)]
    return FrameResult(Frame(index, time_s, IMAGE, name), tuple(found))


def test_pictures_are_at_most_one_a_second_of_a_moving_picture() -> None:
    rule = PictureRule()
    taken = [i for i in range(35) if rule.takes(result_at(i / 10))]
    assert taken == [0, 10, 20, 30]
    assert rule.takes(result_at(0.0, name="w")), "another video starts anew"
    assert not rule.takes(result_at(9.0, cells=0))
    assert all(rule.takes(result_at(None, cells=0)) for _ in range(3)), "stills"
