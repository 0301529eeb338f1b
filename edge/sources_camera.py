"""A camera as a frame source, through OpenCV."""

import os
import sys
import time
from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt

from edgecell.edge.sources_base import Frame
from edgecell.edge.sources_video import quiet
from edgecell.errors import SourceError
from edgecell.preprocess import Image


class Camera:
    """A camera that OpenCV knows by its number."""

    live = True
    total: int | None = None

    def __init__(self, number: int) -> None:
        """Takes the number: 0 is /dev/video0."""
        self.name = f"camera-{number}"
        self.skipped: list[str] = []
        self._number = number
        self._capture: cv2.VideoCapture | None = None

    def __enter__(self) -> "Camera":
        """Opens the camera.

        Raises:
            SourceError: there is none of that number, or it is in use.
        """
        capture = open_camera(self._number)
        if capture is None:
            raise SourceError(
                f"camera {self._number} does not answer; see which do with "
                "'edgecell doctor', and whether another program uses it"
            )
        self._capture = capture
        return self

    def __exit__(self, *_: object) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def __iter__(self) -> Iterator[Frame]:
        """Yields frames for as long as the camera sends them.

        Raises:
            SourceError: it stopped.
        """
        assert self._capture is not None, "enter the source first"
        start = time.monotonic()
        index = 0
        while True:
            image = grab(self._capture)
            if image is None:
                raise SourceError(
                    f"camera {self._number} stopped sending frames after {index}; "
                    "check its cable and power, then start again"
                )
            now = time.monotonic() - start
            yield Frame(index, now, image, f"camera {self._number}")
            index += 1


def open_camera(number: int, wait_s: int = 5) -> cv2.VideoCapture | None:
    """Opens a camera.

    Args:
        number: 0 is /dev/video0.
        wait_s: seconds to wait for each frame, on Linux.

    Returns:
        The capture, or None if there is no such camera.
    """
    # Read by OpenCV whenever it opens a V4L2 device.
    os.environ["OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"] = str(wait_s)
    # On Linux the other back-ends only add messages about what they can't do.
    backend = cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY
    try:
        with quiet():
            capture = cv2.VideoCapture(number, backend)
    except cv2.error:  # a number beyond what the back-end can count
        return None
    if not capture.isOpened():
        return None
    # A long queue in the driver would show the past.
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return capture


def grab(capture: cv2.VideoCapture) -> Image | None:
    """The next frame, uint8 BGR (H, W, 3); None if none comes."""
    with quiet():
        ok, image = capture.read()
    if not ok:
        return None
    width = round(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
    height = round(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    return as_frame(np.asarray(image, np.uint8), width, height)


def as_frame(raw: npt.NDArray[np.uint8], width: int, height: int) -> Image:
    """Undoes OpenCV 4.11's way with BGR24 cameras: (1, w*h*3) in place of an image.

    Args:
        raw: uint8, as `cv2.VideoCapture.read` gave it.
        width: the camera's width, pixels.
        height: its height, pixels.

    Returns:
        uint8 BGR (H, W, 3).
    """
    if raw.shape[0] == 1 and raw.size == width * height * 3:
        return raw.reshape(height, width, 3)
    return raw
