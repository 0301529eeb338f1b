"""The contract of all frame sources: files, servers on 127.0.0.1, and stand-ins for
cameras that need hardware."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgecell.edge.sources import SAMPLES
from edgecell.edge.sources.address import open_source
from edgecell.edge.sources.base import STALL_S, Frame, FrameSource
from edgecell.edge.sources.capture import Capture
from edgecell.errors import SourceError
from tests.edge.sources.servers import (
    MjpegServer,
    RtspServer,
    Server,
    milliseconds,
    stamp_of,
)
from tests.edge.sources.stand_ins import Device, picamera2, video_capture

PICTURE = np.full((64, 256, 3), (90, 120, 200), np.uint8)
"""B, G, R; wide enough for a stamp."""

PATIENCE_S = 10.0


@dataclass
class Place:
    """Where a source finds its frames, and what may happen there.

    Attributes:
        address: what a user names.
        count: frames that it has; None for one that goes on.
        watch: whether to wait for more of them.
        moving: whether a frame has a time of its own; None for some of them.
        harm: makes one of its pictures undecodable; None where that isn't told.
        camera: what can be stopped and started; None for files.
    """

    address: str
    count: int | None = None
    watch: bool = False
    moving: bool | None = False
    harm: Callable[[], None] | None = None
    camera: Server | Device | None = None

    def open(self) -> FrameSource:
        return open_source(self.address, self.watch)


def write_video(path: Path, frames: int, fourcc: str = "MJPG") -> Path:
    """Frame i is grey of level 10 i; 12.5 frames/s."""
    writer = cv2.VideoWriter(
        str(path), cv2.VideoWriter.fourcc(*fourcc), 12.5, (160, 120)
    )
    for i in range(frames):
        writer.write(np.full((120, 160, 3), 10 * i, np.uint8))
    writer.release()
    return path


def broken(path: Path, kind: str) -> Path:
    """A file that isn't what its name says."""
    whole = (SAMPLES / "frames" / "bccd_1.jpg").read_bytes()
    content = {
        "empty": b"",
        "text": b"not an image\n" * 50,
        "cut": whole[: len(whole) // 2],
    }
    path.write_bytes(content[kind])
    return path


def take(source: FrameSource, n: int | None) -> list[Frame]:
    """The first frames of a source; all of them for None."""
    frames: list[Frame] = []
    start = time.monotonic()
    for frame in source:
        if frame is not None:
            frames.append(frame)
        if len(frames) == n:
            break
        assert time.monotonic() - start < PATIENCE_S
    return frames


def _folder(path: Path, suffix: str = "", watch: bool = False) -> Place:
    for name in ("f10.png", "f2.png"):
        cv2.imwrite(str(path / name), PICTURE)
    (path / "notes.txt").write_text("no frame")

    def harm() -> None:
        file = broken(path / "f1.jpg", "cut")
        os.utime(file, (1, 1))  # nobody is writing it any more

    return Place(f"{path}{suffix}", None if watch else 2, watch, harm=harm)


def _image(path: Path) -> Place:
    cv2.imwrite(str(path / "x.png"), PICTURE)
    return Place(str(path / "x.png"), 1)


def _server(server: Server) -> Place:
    def harm() -> None:
        def send(data: bytes) -> bytes:
            server.send = lambda data: data
            return data[: len(data) // 2]

        server.send = send

    # FFmpeg patches up what comes over RTSP.
    tells = isinstance(server, MjpegServer)
    return Place(server.address, harm=harm if tells else None, camera=server)


def _camera(address: str, device: Device, tells: bool) -> Place:
    def harm() -> None:
        device.broken = 1

    return Place(address, harm=harm if tells else None, camera=device)


@contextmanager
def place(kind: str, path: Path, patch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A place of each kind, with its server running."""
    files: dict[str, Callable[[], Place]] = {
        "image": lambda: _image(path),
        "folder": lambda: _folder(path),
        "glob": lambda: _folder(path, "/f*"),
        "watched folder": lambda: _folder(path, watch=True),
        "watched glob": lambda: _folder(path, "/f*", watch=True),
        "avi": lambda: Place(str(write_video(path / "v.avi", 6)), 6, moving=True),
        "mp4": lambda: Place(
            str(write_video(path / "v.mp4", 6, "mp4v")), 6, moving=True
        ),
        "demo": lambda: Place("demo", 68, moving=None),
    }
    if kind in files:
        yield files[kind]()
        return
    if kind in ("http", "rtsp"):
        server = MjpegServer if kind == "http" else RtspServer
        with server([PICTURE]) as running:
            yield _server(running)
        return
    device = Device(PICTURE)
    patch.setattr(cv2.videoio_registry, "hasBackend", lambda _: True)
    patch.setattr(cv2, "VideoCapture", video_capture(device))
    patch.setitem(sys.modules, "picamera2", picamera2(device))
    address = {"v4l": "0", "csi": "csi://0", "gst": "gst://v4l2src"}[kind]
    yield _camera(address, device, tells=kind != "csi")


FILES = (
    *("image", "folder", "glob", "watched folder", "watched glob"),
    *("avi", "mp4", "demo"),
)
CAMERAS = ("http", "rtsp", "v4l", "csi", "gst")


@pytest.fixture
def here(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    with place(request.param, tmp_path, monkeypatch) as found:
        yield found


def at(*kinds: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("here", kinds, indirect=True)


@at(*FILES, *CAMERAS)
def test_frames_are_numbered_bgr_and_know_their_age(here: Place) -> None:
    source = here.open()
    for _ in range(2):  # a source may be entered again
        with source:
            enough = 2 if here.camera is None else 10
            frames = take(source, None if here.count else enough)
        assert len(frames) == (here.count or enough)
        assert source.total == here.count
        assert source.live is (here.camera is not None)
        assert (source.skipped.count, "/" in source.name) == (0, False)
        assert [f.index for f in frames] == list(range(len(frames)))
        times = [f.captured_s for f in frames]
        assert times == sorted(times)
        for frame in frames:
            assert frame.image.dtype == np.uint8
            assert frame.image.shape[2:] == (3,)
            assert 0 <= frame.age_s < PATIENCE_S
            if here.moving is not None:
                assert (frame.time_s is not None) is here.moving
            if here.moving is False:
                away = np.abs(frame.image[40:].astype(int) - PICTURE[40:])
                assert away.max() < 12
            if here.camera is not None:
                # As old as it says: no queue shows the past.
                assert abs(frame.captured_s * 1000 - stamp_of(frame.image)) < 400
                assert frame.name == source.name


@at("folder", "glob", "watched folder", "watched glob", "http", "v4l", "gst")
def test_a_broken_picture_is_left_out_and_counted(here: Place) -> None:
    assert here.harm is not None
    here.harm()
    with here.open() as source:
        frames = take(source, 2)
    assert source.skipped.count == 1
    assert len(source.skipped.names) == (here.camera is None)
    assert [f.index for f in frames] == [0, 1]
    for frame in frames:
        assert np.abs(frame.image[40:].astype(int) - PICTURE[40:]).max() < 12


@at(*CAMERAS)
def test_a_camera_that_goes_is_an_error_and_can_come_back(here: Place) -> None:
    source, camera = here.open(), here.camera
    assert camera is not None
    with source:
        take(source, 3)
        camera.stop()
        with pytest.raises(SourceError, match=source.name):
            take(source, None)
    with pytest.raises(SourceError, match="does not answer"):
        source.__enter__()
    source.__exit__(None, None, None)
    camera.start()
    with source:
        assert [f.index for f in take(source, 2)] == [0, 1]


@at(*FILES, *CAMERAS)
def test_the_reader_thread_gives_every_file_and_a_camera_s_newest(here: Place) -> None:
    frames: list[Frame] = []
    deadline = time.monotonic() + PATIENCE_S
    with Capture(here.open()) as reader:
        while not reader.ended and len(frames) < (here.count or 2):
            assert time.monotonic() < deadline
            frame = reader.next(0.2)
            if frame is not None:
                frames.append(frame)
        if here.camera is None:
            assert reader.next(0.2) is None, "no more than there are"
            assert [f.index for f in frames] == list(range(here.count or 2))
            assert reader.state().dropped == 0
        else:
            assert stamp_of(frames[0].image) < stamp_of(frames[1].image)
            assert milliseconds() - stamp_of(frames[1].image) < STALL_S * 1000
        assert reader.state().lost is None
    while any(t.name == "edgecell-capture" for t in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
