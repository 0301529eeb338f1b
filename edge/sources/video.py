"""A video file as a frame source, through OpenCV."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgecell.edge.sources.base import Frame, Skipped
from edgecell.errors import SourceError
from edgecell.image.preprocess import Bgr

logger = logging.getLogger(__name__)

_SHARE_LOST = 0.1
"""A video that ends this much before its header says was cut short."""


def quiet_opencv() -> None:
    """Keeps OpenCV's and FFmpeg's own messages off stderr: ours say more."""
    # FFmpeg's level is read once, when OpenCV first opens a video.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    # OpenCV 4 has this function in a module of its own, OpenCV 5 at its top.
    opencv_log: Any = getattr(cv2.utils, "logging", cv2)
    opencv_log.setLogLevel(0)


class VideoFile:
    """A video file; no frame is dropped, times are the file's own."""

    live = False

    def __init__(self, path: Path) -> None:
        """Takes the path; opens nothing yet."""
        self.name = path.stem
        self.total: int | None = None
        self.skipped = Skipped()
        self._path = path
        self._capture: cv2.VideoCapture | None = None

    def __enter__(self) -> "VideoFile":
        """Opens the file.

        Raises:
            SourceError: it is damaged, or of a format that OpenCV lacks.
        """
        quiet_opencv()
        capture = cv2.VideoCapture(str(self._path))
        if not capture.isOpened():
            raise SourceError(
                f"{self._path} cannot be opened as a video; it may be damaged or in "
                "a format that this OpenCV lacks: convert it to Motion JPEG or MPEG-4"
            )
        self._capture = capture
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.total = int(count) if count > 0 else None
        return self

    def __exit__(self, *_: object) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def __iter__(self) -> Iterator[Frame]:
        """Yields the frames.

        Raises:
            SourceError: not one can be decoded.
        """
        assert self._capture is not None, "enter the source first"
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        index, last = 0, -1.0
        while True:
            ok, image = self._capture.read()
            if not ok:
                break
            time_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            if time_s <= last:  # a file without timestamps
                time_s = last + 1 / fps if fps > 0 else float(index)
            last = time_s
            frame = Bgr(np.asarray(image, np.uint8))
            yield Frame(index, time_s, frame, self._path.name)
            index += 1
        if not index:
            raise SourceError(
                f"{self._path} holds no frame that can be decoded; copy it again"
            )
        if self.total and index < self.total * (1 - _SHARE_LOST):
            logger.warning(
                "%s ended after %d of %d frames; the file may be damaged",
                self._path,
                index,
                self.total,
            )
