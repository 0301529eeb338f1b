"""The writer thread with a disk that is slow, full or hangs."""

import math
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import cv2
import numpy as np
import pytest

from edgecell.edge.analyse.pipeline import FrameResult
from edgecell.edge.count.microscopes import Settled
from edgecell.edge.count.tracking import TrackedFrame
from edgecell.edge.record.connection import HeldError
from edgecell.edge.record.recorder import Recorder
from edgecell.edge.record.store import Session, Store
from edgecell.edge.record.waiting import BOUNDS, Bounds, LeftOut
from edgecell.edge.sources.base import Frame
from edgecell.errors import OutputError
from edgecell.image.preprocess import Bgr
from edgecell.model.decision import Decision
from edgecell.model.modelfile import bundled_model, read_tflite

IMAGE = Bgr(np.full((60, 80, 3), 200, np.uint8))


def tracked(index: int) -> TrackedFrame:
    """A frame that decides on a cell of its own number."""
    frame = Frame(index, index / 10, IMAGE, "camera-0")
    decision = Decision(index, "SNE", 0.9, (), 1, None, None)
    return TrackedFrame(FrameResult(frame, ()), (), (), (decision,))


def real_store(folder: Path) -> Store:
    return Store(folder, Session("0", read_tflite(bundled_model())[1], {}))


class FakeStore:
    """A store whose disk does what the test says."""

    def __init__(self, write: Any = lambda frames: None) -> None:
        self.frames: list[Frame] = []
        self.cells: list[int] = []
        self.gaps: list[LeftOut] = []
        self.reason = ""
        self.failed: object = None
        self._write = write

    def __enter__(self) -> "FakeStore":
        self.thread = threading.current_thread()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.failed = kind

    def check(self) -> None: ...

    def write(self, frames: list[TrackedFrame], gaps: list[LeftOut]) -> None:
        assert threading.current_thread() is self.thread
        self._write(frames)
        self.gaps += gaps
        self.cells += [d.cell for t in frames for d in t.changed]
        self.frames += [t.result.frame for t in frames]

    def write_picture(
        self, frame: int, picture: np.ndarray, clean: bool = False
    ) -> None: ...

    def end(self, reason: str, settled: Settled) -> None:
        self.reason, self.settled = reason, settled


QUICK = Bounds(frames=8, gather_s=0.01, look_s=0.01, retry_s=0.01, held_s=0.01)
"""Tries again at once, and has room for 8 frames."""


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def recorder(
    store: FakeStore, film: Any = None, patient: bool = False, bounds: Bounds = BOUNDS
) -> Recorder:
    return Recorder(cast(Store, store), film, patient, bounds=bounds)


def test_everything_is_written_in_order(tmp_path: Path) -> None:
    with Recorder(real_store(tmp_path / "o"), None, patient=True) as writer:
        for i in range(300):
            writer.put(tracked(i), picture=i % 100 == 0)
        writer.end("end of source", hurried=False)
    assert (writer.frames, writer.pictures, writer.overflowed) == (300, 3, 0)
    with closing(sqlite3.connect(tmp_path / "o" / "session.sqlite")) as db:
        frames = [n for (n,) in db.execute("SELECT frame FROM frames")]
        reasons = db.execute("SELECT end_reason FROM session").fetchall()
    assert frames == list(range(300))
    assert reasons == [("end of source",)]
    for folder in ("frames", "clean"):
        names = sorted(path.name for path in (tmp_path / "o" / folder).iterdir())
        assert names == ["000000.jpg", "000100.jpg", "000200.jpg"]
    clean = cv2.imread(str(tmp_path / "o" / "clean" / "000000.jpg"))
    assert clean is not None
    assert clean.shape == tracked(0).result.frame.image.shape, "nothing drawn below"


def test_a_folder_that_cannot_be_made_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "o").write_text("")
    with pytest.raises(OutputError):
        Recorder(real_store(tmp_path / "o"), None, patient=True).__enter__()


def test_a_slow_disk_holds_nobody_up_and_what_is_left_out_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The disk stands still until 200 frames have been put."""
    go_on = threading.Event()
    slow = FakeStore(lambda frames: go_on.wait(60))
    bounds = replace(QUICK, image_bytes=3 * IMAGE.nbytes)
    with recorder(slow, bounds=bounds) as writer:
        for i in range(200):
            writer.put(tracked(i), picture=True)
        assert not slow.frames, "nothing was written meanwhile"
        go_on.set()
        wait_until(lambda: writer.frames == 8)
        writer.put(tracked(200), picture=False)
        writer.end("stopped", hurried=False)
    assert [f.index for f in slow.frames] == [*range(8), 200]
    assert slow.gaps == [LeftOut(8, 199, 192, "the disk is too slow")]
    assert slow.cells == list(range(201)), "decisions go with the next frame"
    assert (writer.frames, writer.overflowed, writer.undrawn) == (9, 192, 197)
    assert sum("too slow" in r.getMessage() for r in caplog.records) == 1


def test_with_a_file_the_loop_waits_for_the_disk() -> None:
    slow = FakeStore(lambda frames: time.sleep(0.002))
    with recorder(slow, patient=True, bounds=QUICK) as writer:
        for i in range(100):
            writer.put(tracked(i), picture=True)
        writer.end("end of source", hurried=False)
    assert [f.index for f in slow.frames] == list(range(100))
    assert (writer.overflowed, writer.undrawn) == (0, 0)


def test_what_waits_has_no_image_unless_it_is_drawn() -> None:
    store = FakeStore()
    with recorder(store) as writer:
        writer.put(tracked(0), picture=False)
        writer.put(tracked(1), picture=True)
        writer.end("stopped", hurried=False)
    assert [f.image.size for f in store.frames] == [0, IMAGE.size]


def test_a_full_disk_holds_up_the_recording_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(frames: list[TrackedFrame]) -> None:
        if frames and frames[-1].result.frame.index >= 3:
            raise OutputError("cannot write to o: No space left on device; make room")

    store = FakeStore(full)
    with recorder(store, patient=True, bounds=QUICK) as writer:
        for i in range(3):
            writer.put(tracked(i), picture=True)
        wait_until(lambda: writer.frames == 3)
        for i in range(3, 300):
            writer.put(tracked(i), picture=True)
        writer.end("end of source", hurried=False)
    assert writer.error is not None
    assert "No space left" in str(writer.error)
    assert writer.frames == len(store.frames) == 3
    assert store.reason == "end of source"
    assert caplog.text.count("recording is held up") == 1
    assert writer.overflowed == 297


class Disk:
    """Refuses everything for as long as the test wants, or a number of times."""

    def __init__(self, error: OutputError | None, times: float = math.inf) -> None:
        self.error = error
        self.asked = 0
        self._times = times

    def __call__(self, frames: list[TrackedFrame]) -> None:
        self.asked += 1
        if self.error is not None and self.asked <= self._times:
            raise self.error


@pytest.mark.parametrize("error", [HeldError("locked"), OutputError("disk is full")])
def test_recording_goes_on_when_the_disk_takes_more_again(
    error: OutputError, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Disk(error)
    store = FakeStore(disk)
    with recorder(store, bounds=QUICK) as writer:
        writer.put(tracked(0), picture=False)
        wait_until(lambda: writer.error is error)
        for i in range(1, 20):
            writer.put(tracked(i), picture=False)
        wait_until(lambda: disk.asked >= 3)
        disk.error = None
        wait_until(lambda: writer.frames >= 8)
        assert writer.error is None
        writer.put(tracked(20), picture=False)
        writer.end("stopped", hurried=False)
    assert [f.index for f in store.frames] == [*range(8), 20]
    assert store.gaps == [LeftOut(8, 19, 12, str(error))]
    assert (writer.overflowed, store.reason) == (12, "stopped")
    assert store.cells == list(range(21)), "whatever was decided is known"
    assert caplog.text.count("held up") == caplog.text.count("continues; 12") == 1


def test_a_file_waits_for_another_program() -> None:
    store = FakeStore(Disk(HeldError("database is locked"), times=5))
    with recorder(store, patient=True, bounds=QUICK) as writer:
        for i in range(40):
            writer.put(tracked(i), picture=True)
        writer.end("end of source", hurried=False)
    assert [f.index for f in store.frames] == list(range(40))
    assert (writer.overflowed, writer.error) == (0, None)


def test_what_is_lost_at_the_end_is_an_error_and_named() -> None:
    def full(frames: list[TrackedFrame]) -> None:
        if frames:
            raise OutputError("disk is full")

    store = FakeStore(full)
    with recorder(store, bounds=QUICK) as writer:
        for i in range(6):
            writer.put(tracked(i), picture=False)
        writer.end("end of source", hurried=False)
    assert str(writer.error) == "disk is full"
    assert store.gaps[-1] == LeftOut(0, 5, 6, "disk is full")
    assert store.reason == "end of source"


def test_a_removed_file_is_noticed_while_no_frame_comes(tmp_path: Path) -> None:
    store = real_store(tmp_path / "o")
    with Recorder(store, None, patient=False, bounds=QUICK) as writer:
        writer.put(tracked(0), picture=False)
        wait_until(lambda: writer.frames == 1)
        (tmp_path / "o" / "session.sqlite").rename(tmp_path / "elsewhere")
        wait_until(lambda: writer.error is not None)
        assert "was removed or replaced" in str(writer.error)
        (tmp_path / "elsewhere").rename(tmp_path / "o" / "session.sqlite")
        wait_until(lambda: writer.error is None)
        writer.end("stopped", hurried=False)


def test_large_images_wait_by_their_bytes() -> None:
    go_on = threading.Event()
    store = FakeStore(lambda frames: go_on.wait(60))
    with recorder(store, bounds=Bounds(image_bytes=2 * IMAGE.nbytes)) as writer:
        for i in range(9):
            writer.put(tracked(i), picture=True)
        assert writer.undrawn == 7
        go_on.set()
        writer.end("stopped", hurried=False)
    assert len(store.frames) == 9
    assert sum(frame.image.size > 0 for frame in store.frames) == 2


def test_one_image_larger_than_the_bound_is_drawn() -> None:
    store = FakeStore()
    with recorder(store, patient=True, bounds=Bounds(image_bytes=10)) as writer:
        for i in range(3):
            writer.put(tracked(i), picture=True)
        writer.end("stopped", hurried=False)
    assert writer.pictures == 3


def test_a_hanging_disk_does_not_hold_up_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hang = threading.Event()
    store = FakeStore(lambda frames: hang.wait(60))
    with recorder(store, bounds=replace(QUICK, hurry_s=0.01)) as writer:
        writer.put(tracked(0), picture=False)
        writer.end("stopped", hurried=True)
        assert not store.frames, "it ended before the disk had answered"
    assert "the disk does not respond" in caplog.text
    hang.set()


def test_a_failed_run_is_told_to_the_store() -> None:
    store = FakeStore()
    with pytest.raises(ZeroDivisionError):
        run_and_fail(store)
    assert store.failed is not None
    assert len(store.frames) == 1, "what was seen until then is kept"


def run_and_fail(store: FakeStore) -> None:
    with recorder(store) as writer:
        writer.put(tracked(0), picture=False)
        raise ZeroDivisionError


def test_a_fault_in_the_writer_reaches_the_loop() -> None:
    def fault(frames: list[TrackedFrame]) -> None:
        raise ZeroDivisionError

    with recorder(FakeStore(fault), patient=True, bounds=QUICK) as writer:
        with pytest.raises(ZeroDivisionError):
            put_more_than_can_wait(writer)


def put_more_than_can_wait(writer: Recorder) -> None:
    for i in range(QUICK.frames + 2):
        writer.put(tracked(i), picture=True)


def test_every_frame_is_filmed() -> None:
    shown: list[float | None] = []
    film = SimpleNamespace(
        show=lambda picture, time_s: shown.append(time_s), close=lambda: shown.append(9)
    )
    with recorder(FakeStore(), film, patient=True) as writer:
        for i in range(40):
            writer.put(tracked(i), picture=False)
        writer.end("end of source", hurried=False)
    assert shown == [*(i / 10 for i in range(40)), 9]
    assert writer.pictures == 0


def test_a_film_without_its_end_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def close() -> None:
        raise OutputError("f.avi grows no more")

    film = SimpleNamespace(show=lambda *_: None, close=close)
    store = FakeStore()
    with recorder(store, film, patient=True) as writer:
        writer.put(tracked(0), picture=False)
        writer.end("end of source", hurried=False)
    assert "grows no more" in str(writer.picture_error)
    assert "grows no more" in caplog.text
    assert writer.frames == 1


def test_neither_a_picture_nor_the_film_ends_the_record(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[bool] = []

    def refused(*_: object) -> None:
        raise OutputError("cannot write more to x.avi: the disk is full")

    film = SimpleNamespace(show=refused, close=lambda: closed.append(True))
    store = FakeStore()
    monkeypatch.setattr(store, "write_picture", refused)
    with recorder(store, film, patient=True, bounds=Bounds(together=1)) as writer:
        for i in range(40):
            writer.put(tracked(i), picture=True)
        writer.end("end of source", hurried=False)
    assert writer.error is None
    assert "x.avi" in str(writer.picture_error)
    assert (writer.frames, writer.pictures, store.reason) == (40, 0, "end of source")
    assert closed == [True], "the film is closed at once, and once"
    assert caplog.text.count("recording continues") == 1


def test_what_is_decided_in_frames_left_out_at_the_end_is_recorded() -> None:
    go_on = threading.Event()
    slow = FakeStore(lambda frames: go_on.wait(60))
    with recorder(slow, bounds=Bounds(frames=2, together=1)) as writer:
        for i in range(30):
            writer.put(tracked(i), picture=False)
        assert writer.overflowed == 28
        go_on.set()
        writer.end("stopped", hurried=False)
    assert sorted(slow.cells) == list(range(30))
    assert [f.index for f in slow.frames] == [0, 1, 29]
    assert (writer.frames, writer.overflowed) == (3, 27)
