"""Live sources that OpenCV reads: V4L cameras, RTSP streams, GStreamer pipelines."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edgecell.edge.sources.base import STALL_S, Frame, Skipped, live_frames
from edgecell.edge.sources.secrets import stream_name
from edgecell.edge.sources.video import quiet_opencv
from edgecell.errors import SourceError
from edgecell.image.preprocess import Bgr

GST = "gst://"

# For a pipeline that doesn't end in a sink of its own. A queue would show the past.
_APPSINK = " ! videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1"
_WAITED_S = 0.005
_LARGEST_BACKLOG = 100
"""Frames that are there without a wait were queued: FFmpeg looks at some 20 of a
stream before it calls it open."""

_READ_TIMEOUT_MS = round(STALL_S * 1000)
_OPEN_TIMEOUT_MS = 4000
"""An H.264 camera's first whole frame may be some seconds away."""


class OpenCVStream:
    """A live source behind `cv2.VideoCapture`."""

    live = True
    total: int | None = None

    def __init__(
        self, name: str, open_capture: Callable[[], cv2.VideoCapture | None], hint: str
    ) -> None:
        """Takes how it is opened.

        Args:
            name: short name.
            open_capture: opens it, or returns None; called at every entering.
            hint: what to try when it doesn't open.
        """
        self.name = name
        self.skipped = Skipped()
        self._open_capture = open_capture
        self._hint = hint
        self._capture: cv2.VideoCapture | None = None

    def __enter__(self) -> "OpenCVStream":
        """Opens it.

        Raises:
            SourceError: it doesn't answer.
        """
        self._capture = self._open_capture()
        if self._capture is None:
            raise SourceError(f"{self.name} does not answer; {self._hint}")
        return self

    def __exit__(self, *_: object) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def __iter__(self) -> Iterator[Frame | None]:
        """Yields frames for as long as they come; None for each broken one.

        Raises:
            SourceError: none came for `STALL_S`, or the device is gone.
        """
        assert self._capture is not None, "enter the source first"
        return live_frames(self.name, self.skipped, self._reads(self._capture))

    def _reads(
        self, capture: cv2.VideoCapture
    ) -> Iterator[tuple[float, list[Bgr | None]]]:
        self._leave_out_backlog(capture)
        while True:
            captured_s = self._grab(capture)
            yield captured_s, [retrieve(capture)]

    def _grab(self, capture: cv2.VideoCapture) -> float:
        """Waits for a frame; when it came, on the monotonic clock."""
        if not capture.grab():
            raise SourceError(f"{self.name} stopped sending frames")
        return time.monotonic()

    def _leave_out_backlog(self, capture: cv2.VideoCapture) -> None:
        """Passes over what came while the source was opened: it is the past."""
        before = time.monotonic()
        for _ in range(_LARGEST_BACKLOG):
            now = self._grab(capture)
            if now - before > _WAITED_S:
                return
            before = now


def v4l_camera(address: str) -> OpenCVStream:
    """A camera by its number (0 is /dev/video0) or by its device file.

    A name below /dev/v4l/by-id stays the camera's own wherever it is plugged in, so
    what it points to is looked up whenever the camera is opened.
    """
    hint = (
        "see which cameras do with 'edgecell doctor', and whether another program "
        "uses this one"
    )
    if address.isdecimal():
        return OpenCVStream(f"camera-{address}", lambda: open_camera(address), hint)
    return OpenCVStream(Path(address).name, lambda: open_camera(address), hint)


def open_camera(address: str, wait_s: float = STALL_S) -> cv2.VideoCapture | None:
    """Opens a camera.

    Args:
        address: a number, or on Linux a device file or a link to one.
        wait_s: seconds to wait for each frame, on Linux.

    Returns:
        The capture, or None if there is no such camera.
    """
    device = os.path.realpath(address).removeprefix("/dev/video")
    number = address if address.isdecimal() else device
    if not number.isdecimal():
        return None
    # Read by OpenCV whenever it opens a V4L2 device; whole seconds.
    os.environ["OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"] = str(max(1, int(wait_s)))
    # On Linux the other back-ends only add messages about what they can't do.
    backend = cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY
    quiet_opencv()
    try:
        capture = cv2.VideoCapture(int(number), backend)
    except cv2.error:  # a number beyond what the back-end can count
        return None
    if not capture.isOpened():
        return None
    # A long queue in the driver would show the past.
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return capture


def rtsp_stream(url: str) -> OpenCVStream:
    """An RTSP camera, through FFmpeg, over TCP.

    FFmpeg patches up what is damaged in H.264, so broken pictures are not told from
    whole ones; over TCP they are rare.
    """

    def open_capture() -> cv2.VideoCapture | None:
        quiet_opencv()
        timeouts = [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
            _OPEN_TIMEOUT_MS,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC,
            _READ_TIMEOUT_MS,
        ]
        capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG, timeouts)
        return capture if capture.isOpened() else None

    hint = "check the address, the camera's power and its network"
    return OpenCVStream(stream_name(url), open_capture, hint)


def gstreamer_stream(address: str) -> OpenCVStream:
    """A GStreamer pipeline; 'gst://v4l2src' as well as one with its own appsink."""
    pipeline = address.removeprefix(GST)
    if "appsink" not in pipeline:
        pipeline += _APPSINK

    def open_capture() -> cv2.VideoCapture | None:
        # The list of back-ends names it even where only a plug-in could bring it.
        if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
            raise SourceError(
                "this OpenCV was built without GStreamer, as the wheels of PyPI are; "
                "use the system's own (python3-opencv, or JetPack's)"
            )
        quiet_opencv()
        capture = cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER)
        return capture if capture.isOpened() else None

    hint = "try the pipeline with gst-launch-1.0 first"
    return OpenCVStream("gstreamer", open_capture, hint)


def retrieve(capture: cv2.VideoCapture) -> Bgr | None:
    """The frame that was grabbed, uint8 BGR (H, W, 3); None if it is broken."""
    try:
        ok, image = capture.retrieve()
    except cv2.error:
        return None
    if not ok:
        return None
    width = round(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
    height = round(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    return as_frame(np.asarray(image, np.uint8), width, height)


def as_frame(raw: npt.NDArray[np.uint8], width: int, height: int) -> Bgr:
    """Undoes OpenCV 4.11's way with BGR24 cameras: (1, w*h*3) in place of an image.

    Args:
        raw: uint8, as `cv2.VideoCapture.read` gave it.
        width: the camera's width, pixels.
        height: its height, pixels.

    Returns:
        uint8 BGR (H, W, 3).
    """
    if raw.shape[0] == 1 and raw.size == width * height * 3:
        return Bgr(raw.reshape(height, width, 3))
    return Bgr(raw)
