import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from edgecell.edge.sources import SAMPLES
from edgecell.edge.sources.address import open_source
from edgecell.edge.sources.base import STALL_S, Frame, Skipped, now_s
from edgecell.edge.sources.capture import BOUNDS, Bounds, Capture
from edgecell.errors import SourceError
from edgecell.image.preprocess import Bgr
from tests.edge.sources.servers import (
    MjpegServer,
    RtspServer,
    Server,
    milliseconds,
    stamp_of,
)

PICTURE = Bgr(np.full((64, 256, 3), (90, 120, 200), np.uint8))


class Scripted:
    """A source that does what a list of its lives says."""

    total: int | None = None

    def __init__(
        self, *lives: Callable[[], Iterator[Frame | None]], live: bool
    ) -> None:
        self.name, self.live, self.skipped = "scripted", live, Skipped()
        self.opened = self.closed = 0
        self._lives = iter(lives)

    def __enter__(self) -> "Scripted":
        self.opened += 1
        self._life = next(self._lives, None)
        if self._life is None:
            raise SourceError("scripted does not answer")
        return self

    def __exit__(self, *_: object) -> None:
        self.closed += 1

    def __iter__(self) -> Iterator[Frame | None]:
        assert self._life is not None
        return self._life()


def frames(n: int, period_s: float = 0.0) -> Iterator[Frame]:
    for i in range(n):
        yield Frame(i, None, PICTURE, "scripted")
        time.sleep(period_s)


def wait_for(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def reading_ended() -> bool:
    return all(t.name != "edgecell-capture" for t in threading.enumerate())


def test_no_frame_of_a_file_is_lost_however_slow_the_taker() -> None:
    with open_source("demo") as source:
        expected = [f.index for f in source if f is not None]
    with Capture(open_source("demo")) as reader:
        got = []
        while not reader.ended:
            frame = reader.next(1.0)
            if frame is not None:
                got.append(frame.index)
                if len(got) % 20 == 0:
                    time.sleep(0.05)
    assert got == expected
    state = reader.state()
    assert (state.frames_in, state.dropped, state.lost) == (len(expected), 0, None)


def test_a_file_is_not_read_far_ahead() -> None:
    source = Scripted(lambda: frames(1000), live=False)
    with Capture(source) as reader:
        wait_for(lambda: reader.state().frames_in == BOUNDS.frames)
        time.sleep(0.02)
        assert reader.state().frames_in == BOUNDS.frames
    wait_for(reading_ended)
    assert source.closed == 1


def test_large_frames_of_a_file_are_read_ahead_by_their_bytes() -> None:
    two = Bounds(frame_bytes=2 * PICTURE.nbytes)
    decoded = 0

    def life() -> Iterator[Frame]:
        nonlocal decoded
        for frame in frames(10):
            decoded += 1
            yield frame

    with Capture(Scripted(life, live=False), two) as reader:
        for taken in range(9):
            wait_for(lambda n=taken: decoded == min(10, n + 2))  # type: ignore[misc]
            time.sleep(0.02)
            assert decoded == min(10, taken + 2), "nor is one more held in hand"
            assert reader.next(1) is not None


def test_of_a_live_source_the_newest_frame_is_given_and_the_rest_counted() -> None:
    end = threading.Event()

    def life() -> Iterator[Frame]:
        yield from frames(50)
        end.wait(60)

    source = Scripted(life, live=True)
    with Capture(source) as reader:
        wait_for(lambda: reader.state().frames_in == 50)
        frame = reader.next(0)
        assert frame is not None
        assert frame.index == 49
        assert reader.next(0) is None, "each frame is given once"
        assert reader.state().dropped == 49
        end.set()


def test_a_stale_frame_is_never_given() -> None:
    """The source's read hangs for ever, as a driver's may."""
    hang = threading.Event()
    later_s = 0.0

    def life() -> Iterator[Frame]:
        yield from frames(1)
        hang.wait(60)

    source = Scripted(life, live=True)
    with Capture(source, Bounds(join_s=0.01), lambda: now_s() + later_s) as reader:
        wait_for(lambda: reader.state().frames_in == 1)
        assert reader.state().lost is None
        later_s = STALL_S + 0.1
        assert reader.next(0) is None
        state = reader.state()
        assert state.dropped == 1
        assert state.lost == "scripted sends nothing"
    assert not reading_ended(), "a hanging read holds up no shutdown"
    hang.set()
    wait_for(reading_ended)
    assert source.closed == 1


QUICK = Bounds(first_pause_s=0.001, longest_pause_s=0.002)


def test_a_lost_source_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    def lost() -> Iterator[Frame]:
        yield from frames(2)
        raise SourceError("scripted stopped")

    def endless() -> Iterator[Frame]:
        yield from frames(10_000, 0.005)

    source = Scripted(lost, lost, endless, live=True)
    with caplog.at_level(logging.WARNING), Capture(source, QUICK) as reader:
        wait_for(lambda: reader.state().reconnects == 2)
        frame = reader.next(1)
        assert frame is not None
        assert frame.index >= 4, "numbers go on"
        assert frame.time_s is not None
        assert 0 < frame.time_s < 5
    assert source.opened == 3
    messages = [r.getMessage() for r in caplog.records]
    assert messages.count("scripted is back") == 2
    assert sum("trying again" in m for m in messages) == 2, "once a loss"


def test_the_pauses_grow_to_a_bound_and_stay_there() -> None:
    """A camera that is away for a weekend is tried some 100,000 times."""
    pauses_s = list(itertools.islice(BOUNDS.pauses_s(), 5000))
    for pause_s, longest_s in zip(pauses_s, (0.25, 0.5, 1.0, 2.0, 2.0), strict=False):
        assert longest_s / 2 <= pause_s <= longest_s
    assert max(pauses_s) <= 2.0
    assert min(pauses_s[3:]) >= 1.0
    assert len(set(pauses_s)) > 1000, "with jitter"


def test_a_source_that_stays_away_is_tried_again_and_again() -> None:
    source = Scripted(lambda: frames(1), live=True)
    with Capture(source, Bounds(first_pause_s=0, longest_pause_s=0)) as reader:
        wait_for(lambda: source.opened > 5000)
        assert reader.state().lost == "scripted does not answer"


def test_a_loss_drops_what_was_not_taken() -> None:
    def lost() -> Iterator[Frame]:
        yield from frames(3)
        raise SourceError("scripted stopped")

    with Capture(Scripted(lost, live=True), QUICK) as reader:
        wait_for(lambda: reader.state().lost is not None)
        assert reader.next(0) is None
        assert reader.state().dropped == 3
        wait_for(lambda: reader.state().lost == "scripted does not answer")


def test_what_was_never_there_is_an_error_at_once() -> None:
    with pytest.raises(SourceError, match="does not answer"):
        Capture(Scripted(live=True)).__enter__()


@pytest.mark.parametrize("live", [True, False])
def test_a_fault_in_the_reader_reaches_the_taker(live: bool) -> None:
    def fault() -> Iterator[Frame]:
        yield from frames(1)
        raise ZeroDivisionError

    with Capture(Scripted(fault, live=live)) as reader:
        if not live:
            assert reader.next(1) is not None
        with pytest.raises(ZeroDivisionError):
            [reader.next(5) for _ in range(3)]


def test_a_file_that_fails_is_an_error_after_its_frames() -> None:
    def fails() -> Iterator[Frame]:
        yield from frames(2)
        raise SourceError("damaged")

    with Capture(Scripted(fails, live=False)) as reader:
        assert [getattr(reader.next(1), "index", None) for _ in range(2)] == [0, 1]
        with pytest.raises(SourceError, match="damaged"):
            reader.next(1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [MjpegServer, RtspServer])
def test_a_server_that_stops_stalls_slows_and_sends_rubbish(kind: type[Server]) -> None:
    """No stale frame is given, and fresh ones are within 5 s of its return."""
    worst_ms = 0

    def watch(reader: Capture, seconds: float) -> int:
        nonlocal worst_ms
        given, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            frame = reader.next(0.05)
            if frame is not None:
                given += 1
                worst_ms = max(worst_ms, milliseconds() - stamp_of(frame.image))
        return given

    def back(reader: Capture) -> float:
        start = time.monotonic()
        while reader.next(0.05) is None:
            assert time.monotonic() - start < 5
        return time.monotonic() - start

    with (
        kind([PICTURE]) as server,
        Capture(open_source(server.address)) as reader,
    ):
        assert watch(reader, 0.5) > 5
        server.stop()
        watch(reader, 0.1)
        assert watch(reader, 1.0) == 0
        assert reader.state().lost
        server.start()
        back(reader)

        whole = server.send
        server.send = lambda _: b""  # it holds the connection and sends nothing
        watch(reader, 0.1)
        assert watch(reader, STALL_S) == 0
        assert reader.state().lost
        server.send = whole
        back(reader)

        server.period_s = 0.4
        watch(reader, 0.5)
        assert 1 <= watch(reader, 1.2) <= 4
        server.period_s = 0.03

        if kind is MjpegServer:
            parts = itertools.cycle([b"rubbish", bytes(3000), None, None])
            server.send = lambda data: next(parts) or data
            before = reader.state().broken
            assert watch(reader, 0.6) > 2
            assert reader.state().broken > before
            server.send = lambda _: b"--frame--frame\r\n\r\n\r\n--fra" * 50
            watch(reader, 0.1)
            assert watch(reader, STALL_S) == 0
            server.send = whole
            back(reader)
        assert watch(reader, 0.5) > 3
        assert reader.state().lost is None
        assert reader.state().reconnects >= 2
    assert worst_ms < STALL_S * 1000


def test_frames_that_the_source_left_out_are_counted_as_dropped() -> None:
    end = threading.Event()

    def life() -> Iterator[Frame]:
        for index in (0, 3, 4, 9):
            yield Frame(index, None, PICTURE, "scripted")
        end.wait(60)

    with Capture(Scripted(life, live=True)) as reader:
        wait_for(lambda: reader.state().frames_in == 10)
        frame = reader.next(0)
        assert frame is not None
        assert frame.index == 9
        assert reader.state().dropped == 9
        end.set()


def test_the_samples_end_cleanly() -> None:
    with Capture(open_source(str(SAMPLES / "frames" / "bccd_1.jpg"))) as reader:
        assert reader.next(5) is not None
        assert reader.next(5) is None
        assert reader.ended
