"""What cameras and streams do beside the contract of `test_sources`."""

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from edgecell.edge.sources.address import open_source
from edgecell.edge.sources.base import STALL_S
from edgecell.edge.sources.camera import as_frame, v4l_camera
from edgecell.errors import InputError, MissingPackageError, SourceError
from tests.edge.sources.servers import (
    MjpegServer,
    RtspServer,
    Server,
)
from tests.edge.sources.stand_ins import Device, picamera2
from tests.edge.sources.test_sources import PICTURE, take


@pytest.mark.parametrize("kind", [MjpegServer, RtspServer])
def test_a_stalled_stream_is_noticed(kind: type[Server]) -> None:
    with kind([PICTURE]) as server, open_source(server.address) as source:
        take(source, 3)
        server.send = lambda _: b""
        start = time.monotonic()
        with pytest.raises(SourceError):
            take(source, None)
        assert time.monotonic() - start < STALL_S + 1


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


def test_a_flat_camera_frame_gets_its_shape_back() -> None:
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    assert np.array_equal(as_frame(image.reshape(1, -1), 3, 2), image)
    assert np.array_equal(as_frame(image, 3, 2), image)


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
    with pytest.raises(InputError, match="is no kind of source"):
        open_source(address)


@pytest.mark.parametrize("address", ["http://", "rtsp:///x", "http://host:99999/x"])
def test_a_url_needs_a_host(address: str) -> None:
    with pytest.raises(InputError, match="followed by a host"):
        open_source(address)
