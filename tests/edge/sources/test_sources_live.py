"""What cameras and streams do beside the contract of `test_sources`."""

import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from edgecell.edge.sources import camera, mjpeg
from edgecell.edge.sources.address import open_source
from edgecell.edge.sources.base import (
    STALL_S,
    Pace,
    Read,
    Skipped,
    live_frames,
    now_s,
)
from edgecell.edge.sources.camera import (
    OpenCVStream,
    as_frame,
    retrieve,
    rtsp_stream,
    v4l_camera,
)
from edgecell.errors import InputError, MissingPackageError, SourceError
from tests.edge.sources.servers import (
    MjpegServer,
    RtspServer,
    stamp,
    stamp_of,
)
from tests.edge.sources.stand_ins import Device, picamera2, video_capture
from tests.edge.sources.test_sources import PICTURE, take


def test_a_stalled_mjpeg_stream_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    with MjpegServer([PICTURE]) as server, open_source(server.address) as source:
        take(source, 3)
        server.send = lambda _: b""
        monkeypatch.setattr(mjpeg, "now_s", lambda: now_s() + STALL_S)
        with pytest.raises(SourceError, match="no longer sends whole frames"):
            take(source, None)


def test_a_stalled_rtsp_stream_is_noticed() -> None:
    """FFmpeg waits by a clock of its own."""
    with RtspServer([PICTURE]) as server, rtsp_stream(server.address, 0.3) as source:
        take(source, 3)
        server.send = lambda _: b""
        with pytest.raises(SourceError, match="stopped sending frames"):
            take(source, None)


def test_passwords_are_in_no_name() -> None:
    for scheme in ("http", "rtsp"):
        source = open_source(f"{scheme}://anna:secret@127.0.0.1:9/live/1")
        assert source.name == "127.0.0.1-live-1"
        with pytest.raises(SourceError) as error:
            source.__enter__()
        assert "secret" not in str(error.value)


@pytest.mark.parametrize("sizes", [True, False], ids=["sizes", "boundaries"])
def test_broken_pictures_are_skipped_and_counted(sizes: bool) -> None:
    broken = iter([0, 1, 0, 2, 0, 3] + [0] * 1000)

    def harm(data: bytes) -> bytes:
        half = len(data) // 2
        return [data, data[:half], b"rubbish", data[:half] + bytes(40) + data[half:]][
            next(broken)
        ]

    with MjpegServer([PICTURE]) as server:
        server.sizes, server.send = sizes, harm
        with open_source(server.address) as source:
            frames = take(source, 6)
    assert [f.index for f in frames] == list(range(6))
    assert source.skipped.count == 3
    assert all((f.image[32:] - PICTURE[32:].astype(int) < 12).all() for f in frames)


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        ("404 Not Found", "text/html", "Not Found"),
        ("401 Unauthorized", "text/html", "Unauthorized"),
        ("200 OK", "text/html", "text/html, not a Motion JPEG stream"),
        ("200 OK", "image/jpeg", "image/jpeg, not a Motion JPEG stream"),
        ("rubbish", "", "does not answer"),
    ],
)
def test_an_answer_that_is_no_stream_is_one_error(
    status: str, kind: str, message: str
) -> None:
    with MjpegServer([PICTURE]) as server:
        server.status, server.kind = status, kind
        with pytest.raises(SourceError, match=message):
            open_source(server.address).__enter__()


def test_a_camera_that_is_not_there() -> None:
    with pytest.raises(SourceError, match="camera-97 does not answer"):
        open_source("97").__enter__()
    for address in ("9" * 30, "/dev/v4l/by-id/none", "/dev/video97", "/dev/null"):
        with pytest.raises(SourceError, match="does not answer"):
            open_source(address).__enter__()


def test_a_camera_is_looked_up_by_its_link_at_every_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    class Closed:
        def __init__(self, number: int, _: int) -> None:
            tried.append(number)

        def isOpened(self) -> bool:
            return False

    monkeypatch.setattr(cv2, "VideoCapture", Closed)
    link = tmp_path / "usb-Microscope-index0"
    source = v4l_camera(str(link))
    assert source.name == "usb-Microscope-index0"
    for number in (0, 12):
        link.unlink(missing_ok=True)
        link.symlink_to(f"/dev/video{number}")
        with pytest.raises(SourceError, match="usb-Microscope-index0 does not answer"):
            source.__enter__()
    link.unlink()
    with pytest.raises(SourceError):
        source.__enter__()
    assert tried == [0, 12]


COLOURS = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3)
GREY = COLOURS[..., 1]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (COLOURS, COLOURS),
        (COLOURS.reshape(1, -1), COLOURS),
        (np.dstack([COLOURS, GREY]), COLOURS),
        (COLOURS.astype(np.uint16) * 257, COLOURS),
        (GREY, np.dstack([GREY] * 3)),
        (GREY.reshape(1, -1), np.dstack([GREY] * 3)),
        (GREY[..., np.newaxis], np.dstack([GREY] * 3)),
        (GREY.astype(np.uint16) * 257, np.dstack([GREY] * 3)),
        (np.zeros((3, 4), np.uint8), None),
        (np.zeros((2, 4, 2), np.uint8), None),
        (np.zeros((2, 4, 3), np.float32), None),
        (np.zeros((0, 0, 3), np.uint8), None),
        (np.zeros((1, 77), np.uint8), None),
        (np.array(None), None),
    ],
    ids=[
        *("BGR", "flat", "BGRx", "16 bits", "grey", "flat grey", "grey in 3D"),
        *("grey, 16 bits", "NV12", "YUYV", "float", "empty", "compressed", "none"),
    ],
)
def test_frames_of_any_form_become_bgr_or_say_why_not(
    raw: npt.NDArray[Any], expected: npt.NDArray[np.uint8] | None
) -> None:
    frame = as_frame(raw, 4, 2)
    if expected is None:
        assert isinstance(frame, str)
        assert "format=BGR" in frame
    else:
        assert np.array_equal(frame, expected)


def test_frames_of_another_form_are_lost_frames_with_their_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = Device(PICTURE)
    monkeypatch.setattr(device, "look", lambda: np.zeros((96, 256), np.uint8))
    reason = retrieve(video_capture(device)())
    start_s = now_s()
    reads = [Read.of(start_s + s, reason) for s in (0, 1, STALL_S + 1)]
    frames = live_frames("gstreamer", Skipped(), reads)
    assert [next(frames), next(frames)] == [None, None]
    with pytest.raises(
        SourceError, match=r"no longer sends whole frames: .*\(1, 24576\)"
    ):
        next(frames)


def test_a_stream_s_timestamps_tell_how_long_its_frames_waited() -> None:
    pace = Pace()
    live = [pace.captured_s(100 + i / 10, 7 + i / 10) for i in range(20)]
    assert live == pytest.approx([100 + i / 10 for i in range(20)])
    # Stopped for three seconds; then what waited comes at once.
    late = [pace.captured_s(105 + i / 100, 9 + i / 10) for i in range(20)]
    assert late == pytest.approx([102 + i / 10 for i in range(20)], abs=0.01)


def test_a_backlog_at_the_beginning_is_known_once_it_is_read() -> None:
    pace = Pace()
    first = pace.captured_s(100, 5)
    assert first == 100, "nothing tells yet"
    for i in range(1, 11):
        pace.captured_s(100 + i / 100, 5 + i / 10)
    assert pace.captured_s(102, 6.1) == pytest.approx(100.2, abs=0.01)


def test_clocks_that_drift_apart_make_no_frame_old() -> None:
    pace = Pace()
    for minute in range(600):
        came = 60.0 * minute
        for second in range(3):
            now = came + second
            age = now - pace.captured_s(now, now * (1 - 1e-4))
            assert age < 0.02


@pytest.mark.parametrize("stamps", [[0] * 9, [5, 9, 4, 8, 3, 7], [1, 50, 99, 148]])
def test_timestamps_that_make_no_sense_are_left_alone(stamps: list[float]) -> None:
    pace = Pace()
    for i, stamped in enumerate(stamps):
        came = pace.captured_s(i, stamped)
    assert came == len(stamps) - 1


def test_a_stream_that_falls_behind_is_opened_anew(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A driver's queue: a frame comes each 10 ms, and grabbing one takes 40."""
    clock_s, opened = now_s(), []
    monkeypatch.setattr(camera, "now_s", lambda: clock_s)
    kind = video_capture(Device(PICTURE))

    class Slow(kind):  # type: ignore[misc, valid-type]
        def __init__(self, *_: Any) -> None:
            opened.append(self)
            self.taken_s = clock_s

        def grab(self) -> bool:
            nonlocal clock_s
            clock_s += 0.04
            self.taken_s += 0.01
            return True

        def get(self, key: int) -> float:
            if key == cv2.CAP_PROP_POS_MSEC:
                return self.taken_s * 1000
            return float(super().get(key))

        def retrieve(self) -> tuple[bool, np.ndarray]:
            return True, stamp(PICTURE, round(self.taken_s * 1000))

    stream = OpenCVStream("camera-0", Slow, "", behind_s=0.2)
    with caplog.at_level("WARNING"), stream as source:
        frames = take(source, 40)
    assert len(opened) > 2
    assert sum("more than this machine can decode" in m for m in caplog.messages) == 1
    for frame in frames:
        assert abs(frame.captured_s * 1000 - stamp_of(frame.image)) < 100


class Queued:
    """A camera's frames, which wait in a connection while its decoder works.

    It has a clock of its own: a decoder takes ``decode_s`` for each frame, and
    ``away_s`` go by before the first one is read.
    """

    def __init__(self, period_s: float, decode_s: float, away_s: float) -> None:
        self.now = now_s()
        self.sleep = self.pass_time
        self._period_s, self._decode_s, self._away_s = period_s, decode_s, away_s

    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    def open(self) -> Any:
        self._first_s, self._number = self.now + 0.1, 0
        self.now += self._away_s
        return self

    def grab(self) -> bool:
        self._number += 1
        self.now = max(self.now, self.taken_s) + self._decode_s
        return True

    @property
    def taken_s(self) -> float:
        return self._first_s + self._number * self._period_s

    def get(self, key: int) -> float:
        return 5e3 + 1e3 * self._number * self._period_s

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, PICTURE

    def release(self) -> None: ...


@pytest.mark.parametrize(
    "away_s", [0.2, 0.9, 8.0], ids=["at once", "probed", "stopped"]
)
@pytest.mark.parametrize("decode_s", [0.001, 0.01, 0.02, 0.03, 0.05, 0.6])
@pytest.mark.parametrize("period_s", [0.04, 0.2, 1.0])
def test_what_waited_while_a_stream_was_opened_is_never_called_fresh(
    monkeypatch: pytest.MonkeyPatch, period_s: float, decode_s: float, away_s: float
) -> None:
    queued = Queued(period_s, decode_s, away_s)
    monkeypatch.setattr(camera, "now_s", lambda: queued.now)
    monkeypatch.setattr(camera, "time", queued)
    stream = OpenCVStream("rtsp", queued.open, "", queues=True)
    frames = 0
    with suppress(SourceError), stream as source:  # what is too slow is lost at last
        for frame in source:
            if frame is None:
                continue
            frames += 1
            late_s = frame.captured_s - queued.taken_s - decode_s
            assert late_s < period_s + 0.01, "as if it had come later"
            if decode_s < period_s / 2:
                assert late_s == pytest.approx(0, abs=0.01), "the present was reached"
            if frames == 40:
                break
    assert frames or decode_s > period_s


def test_gstreamer_is_refused_where_opencv_lacks_it_and_gets_a_sink(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = open_source("gst://videotestsrc")
    monkeypatch.setattr(cv2.videoio_registry, "hasBackend", lambda _: False)
    with pytest.raises(SourceError, match="built without GStreamer"):
        source.__enter__()
    opened: list[str] = []

    def capture(pipeline: str, _: int) -> Any:
        opened.append(pipeline)
        return SimpleNamespace(isOpened=lambda: False)

    monkeypatch.setattr(cv2.videoio_registry, "hasBackend", lambda _: True)
    own_sink = open_source("gst://a ! appsink name=mine")
    monkeypatch.setattr(cv2, "VideoCapture", capture)
    for pipeline in (source, own_sink):
        with pytest.raises(SourceError, match="gstreamer does not answer"):
            pipeline.__enter__()
    assert "appsink drop=true" in opened[0]
    assert opened[1] == "a ! appsink name=mine"


def test_csi_needs_picamera2_and_a_camera_of_that_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(MissingPackageError, match="python3-picamera2"):
        open_source("csi://0").__enter__()
    monkeypatch.setitem(sys.modules, "picamera2", picamera2(Device(PICTURE)))
    with pytest.raises(SourceError, match="csi-1 does not answer"):
        open_source("csi://1").__enter__()


@pytest.mark.parametrize("address", ["ftp://host/x", "csi://front"])
def test_other_schemes_are_refused(address: str) -> None:
    with pytest.raises(InputError, match="is not a supported kind of source"):
        open_source(address)


@pytest.mark.parametrize("address", ["http://", "rtsp:///x", "http://host:99999/x"])
def test_a_url_needs_a_host(address: str) -> None:
    with pytest.raises(InputError, match="followed by a host"):
        open_source(address)
