"""Live sources that OpenCV reads: V4L cameras, RTSP streams, GStreamer pipelines."""

import logging
import os
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edgecell.edge.sources.base import (
    STALL_S,
    LiveSource,
    Pace,
    Read,
    Skipped,
    now_s,
)
from edgecell.edge.sources.secrets import stream_name
from edgecell.edge.sources.video import check_frame_size
from edgecell.errors import SourceError
from edgecell.files import printable
from edgecell.image.preprocess import Bgr
from edgecell.quiet import quiet_opencv

logger = logging.getLogger(__name__)

GST = "gst://"

# For a pipeline that doesn't end in a sink of its own. A queue would show the past.
_BGR = "videoconvert ! video/x-raw,format=BGR ! appsink"
_APPSINK = f" ! {_BGR} drop=true max-buffers=1"

_WAITED_S = 0.005
_LARGEST_BACKLOG = 500
"""Frames that are there without a wait were queued: FFmpeg looks at some 20 of a
stream before it calls it open."""

_STEADY_FRAMES = 3
_STEADY_S = 0.3
_STEADY_SHARE = 0.75
"""A queue is at its end when so many frames of a stream, or frames for so long, took so
much of the time that their timestamps are apart."""

_SLOW_SHARE = 1.2
"""Nobody waits longer for frames than they are apart: what takes longer is decoding."""

_TRIES = 2
_PAUSE_FRAMES = 4
_LONGEST_PAUSE_S = 2.0
"""Where no queue was seen, one of a few frames is made on purpose: either it is seen,
or the decoder is so slow that none would be."""

_BEHIND_S = 1.0
"""A stream that lags so far behind its timestamps is reopened: frames queue up
somewhere, and a new connection begins with the present."""

_OPEN_TIMEOUT_MS = 4000
"""An H.264 camera's first whole frame may be some seconds away."""


class OpenCVStream(LiveSource):
    """A live source behind `cv2.VideoCapture`."""

    def __init__(
        self,
        name: str,
        open_capture: Callable[[], cv2.VideoCapture | None],
        hint: str,
        behind_s: float = _BEHIND_S,
        queues: bool = False,
    ) -> None:
        """Prepares to read frames, each with the time of its capture.

        Args:
            name: short name.
            open_capture: opens it, or returns None; called at each entering.
            hint: what to try when it doesn't open.
            behind_s: the lag behind its timestamps at which it is reopened, seconds.
            queues: whether frames that it sends while it is being opened are queued.
        """
        self.name = name
        self.skipped = Skipped()
        self._open_capture = open_capture
        self._hint = hint
        self._behind_s = behind_s
        self._queues = queues
        self._asked_s = 0.0
        self._capture: cv2.VideoCapture | None = None
        self._warned = False

    def __enter__(self) -> "OpenCVStream":
        """Opens it.

        Raises:
            SourceError: it doesn't answer, or its pictures are too large to decode.
        """
        self._asked_s = now_s()
        capture = self._open_capture()
        if capture is None:
            raise SourceError(f"{self.name} does not answer; {self._hint}")
        try:
            check_frame_size(capture, self.name)
        except SourceError:
            capture.release()
            raise
        self._capture = capture
        return self

    def __exit__(self, *_: object) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _reads(self) -> Iterator[Read]:
        while True:
            assert self._capture is not None, "enter the source first"
            yield from self._until_behind(self._capture)
            if not self._warned:
                self._warned = True
                logger.warning(
                    "%s sends more than this machine can decode, and is reopened "
                    "whenever it is %g s behind; choose a smaller picture or a lower "
                    "frame rate",
                    self.name,
                    self._behind_s,
                )
            self.__exit__()
            yield Read(now_s(), None)
            self.__enter__()

    def _until_behind(self, capture: cv2.VideoCapture) -> Iterator[Read]:
        """Reads until frames are found to queue up somewhere."""
        pace = Pace()
        unsure_s = yield from self._leave_out_backlog(capture, pace)
        while True:
            came_s, stamp_s = self._grab(capture)
            captured_s = pace.captured_s(came_s, stamp_s)
            if came_s - captured_s > self._behind_s + unsure_s:
                return
            yield Read.of(captured_s, retrieve(capture))

    def _grab(self, capture: cv2.VideoCapture) -> tuple[float, float]:
        """Waits for a frame; when it came, and its timestamp, seconds."""
        before = now_s()
        try:
            grabbed = capture.grab()
        except cv2.error:
            grabbed = False
        came_s = now_s()
        # This program may have been stopped meanwhile: frames from that time are old.
        if not grabbed or came_s - before > STALL_S:
            raise SourceError(f"{self.name} stopped sending frames")
        return came_s, capture.get(cv2.CAP_PROP_POS_MSEC) / 1000

    def _leave_out_backlog(
        self, capture: cv2.VideoCapture, pace: Pace
    ) -> Generator[Read, None, float]:
        """Skips frames that came while the source was being opened: they are old.

        Where its end does not show, each frame counts as old as it can be, as if the
        first one had been captured when the source was asked for it: this program may
        have been stopped since.

        Args:
            capture: it was just opened.
            pace: is given its frames.

        Yields:
            Reads of nothing, so that whoever reads may stop.

        Returns:
            Seconds by which frames may be younger than ``pace`` says.
        """
        came_s, first_s = self._grab(capture)
        pace.captured_s(came_s, first_s)
        for _ in range(_TRIES):
            ended, pause_s = yield from self._pass_over(capture, pace)
            if ended or not self._queues:
                return 0.0
            if not pause_s:
                break
            time.sleep(min(pause_s, _LONGEST_PAUSE_S))
        pace.not_before(self._asked_s, first_s)
        return came_s - self._asked_s

    def _pass_over(
        self, capture: cv2.VideoCapture, pace: Pace
    ) -> Generator[Read, None, tuple[bool, float]]:
        """Skips frames that come faster than they were captured: they were queued.

        Yields:
            See `_leave_out_backlog`.

        Returns:
            Whether some came so fast, and then no more: the last one is of the present.
            If not, for how many seconds not to read, so that a few frames wait whose
            end can be seen; 0 if the decoder is so slow that it never catches up.
        """
        steady = _STEADY_FRAMES if self._queues else 1
        marks: list[tuple[float, float]] = []
        while len(marks) < _LARGEST_BACKLOG:
            marks.append(self._grab(capture))
            pace.captured_s(*marks[-1])
            yield Read(self._asked_s, None)
            recent = marks[-1 - steady :]
            clock_s, stamps_s = _between(recent)
            if len(recent) <= steady and clock_s < _STEADY_S:
                continue
            frames = len(recent) - 1
            if clock_s > max(frames * _WAITED_S, _STEADY_SHARE * stamps_s):
                came_s, taken_s = _between(marks[: len(marks) - frames])
                slow = clock_s > _SLOW_SHARE * stamps_s
                pause_s = 0.0 if slow else _PAUSE_FRAMES * stamps_s / frames
                return taken_s - came_s > stamps_s / frames / 2, pause_s
        return False, 0.0


def _between(marks: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Seconds from the first to the last of frames, by the clock and by timestamps."""
    (came_s, stamp_s), (last_came_s, last_stamp_s) = marks[0], marks[-1]
    return last_came_s - came_s, last_stamp_s - stamp_s


def v4l_camera(address: str) -> OpenCVStream:
    """A camera by its number (0 is /dev/video0) or by its device file.

    A name below /dev/v4l/by-id stays the camera's own wherever it is plugged in, so
    what it points to is looked up whenever the camera is opened.
    """
    hint = (
        "run 'edgecell doctor' to see which cameras do, and check whether another "
        "program uses this one"
    )
    if address.isdecimal():
        return OpenCVStream(f"camera-{address}", lambda: open_camera(address), hint)
    return OpenCVStream(
        printable(Path(address).name), lambda: open_camera(address), hint
    )


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


def rtsp_stream(url: str, wait_s: float = STALL_S) -> OpenCVStream:
    """An RTSP camera, through FFmpeg, over TCP.

    FFmpeg conceals damage in H.264, so broken pictures cannot be told from whole ones;
    over TCP they are rare.

    Args:
        url: the stream's address.
        wait_s: seconds to wait for each frame.
    """

    def open_capture() -> cv2.VideoCapture | None:
        quiet_opencv()
        timeouts = [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
            _OPEN_TIMEOUT_MS,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC,
            round(wait_s * 1000),
        ]
        capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG, timeouts)
        return capture if capture.isOpened() else None

    hint = "check the address, the camera's power and its network"
    return OpenCVStream(stream_name(url), open_capture, hint, queues=True)


def gstreamer_stream(address: str) -> OpenCVStream:
    """A GStreamer pipeline; 'gst://v4l2src' as well as one with its own appsink."""
    pipeline = address.removeprefix(GST)
    if "appsink" not in pipeline:
        pipeline += _APPSINK

    def open_capture() -> cv2.VideoCapture | None:
        # The list of back-ends includes it even where it needs a plug-in.
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


def retrieve(capture: cv2.VideoCapture) -> Bgr | str:
    """The grabbed frame, uint8 BGR (H, W, 3), or why there is none."""
    try:
        ok, raw = capture.retrieve()
    except cv2.error:
        ok, raw = False, None
    if not ok or raw is None:
        return "a frame cannot be decoded"
    width = round(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
    height = round(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    return as_frame(np.asarray(raw), width, height)


def as_frame(raw: npt.NDArray[Any], width: int, height: int) -> Bgr | str:
    """A frame in whatever form a camera or pipeline hands it out, as BGR.

    OpenCV 4.11 gives BGR24 cameras' frames as (1, w*h*3). A GStreamer pipeline with an
    appsink of its own gives what its caps say.

    Args:
        raw: as `cv2.VideoCapture.retrieve` gave it.
        width: the camera's width, pixels.
        height: its height, pixels.

    Returns:
        uint8 BGR (H, W, 3), or why it can't be made: grey, with 8 or 16 bits, and an
        unused fourth channel are understood, YUV cannot be told from grey by its shape.
    """
    image, area = raw, width * height
    if area and image.shape[:1] == (1,) and image.size in (area, 3 * area):
        image = image.reshape(height, width, -1)
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if image.ndim == 2:
        image = image[..., np.newaxis]
    rows = image.shape[0] if image.ndim == 3 else 0
    is_packed = height > 1 and (rows == 1 or rows * 2 == height * 3)
    if image.dtype == np.uint8 and rows and image.size and not is_packed:
        channels = image.shape[2]
        if channels == 1:
            return Bgr(np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), np.uint8))
        if channels in (3, 4):
            return Bgr(np.ascontiguousarray(image[..., :3]))
    return (
        f"frames of shape {raw.shape}, {raw.dtype} are not BGR; end the pipeline in "
        f"{_BGR}"
    )
