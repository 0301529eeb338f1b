"""The annotated frames as a video file."""

from contextlib import suppress
from pathlib import Path
from shutil import disk_usage

import cv2
import numpy as np

from edgecell.edge.sources.base import STALL_S
from edgecell.errors import OutputError
from edgecell.image.preprocess import Image

FPS = 15.0
_STILL_S = 1.0
_LONGEST_GAP_S = 60.0
"""A camera may be away for a weekend."""

_NO_SIGNAL = "no signal"
_GREY = 60

_LEAST_FREE_BYTES = 8 << 20
"""OpenCV doesn't say that the disk is full. More than a second of film takes."""


class Film:
    """A Motion JPEG AVI with the pictures at their own times.

    A gap is filled with the last picture; where it is longer than a live source may
    be silent, with a card that says so, for a minute at most.
    """

    def __init__(self, path: Path) -> None:
        """Prepares the film; the first picture creates the file.

        Raises:
            OutputError: the name doesn't end in .avi, or the file exists.
        """
        if path.suffix.lower() != ".avi":
            raise OutputError(f"{path} must end in .avi; no other format is written")
        if path.exists():
            raise OutputError(f"{path} exists; name a file that doesn't")
        self._path = path
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._last: Image | None = None
        self._offset_s = 0.0
        self._time_s = 0.0
        self._written = 0

    def show(self, picture: Image, time_s: float | None) -> None:
        """Shows a picture from its time on.

        Args:
            picture: uint8 BGR (H, W, 3); if its size differs from the first one's, it
                is made to fit.
            time_s: seconds, ascending within a source; where they start again, another
                source begins. None for a still image, which stays for a second.

        Raises:
            OutputError: the file can't be written.
        """
        if self._writer is None:
            self._open(picture)
        if time_s is None:
            now = self._written / FPS + (_STILL_S if self._last is not None else 0.0)
            self._offset_s = now
        else:
            if time_s < self._time_s:
                self._offset_s = self._written / FPS
            self._time_s = time_s
            now = self._offset_s + time_s
            cut_s = now - self._written / FPS - _LONGEST_GAP_S
            if cut_s > 0:
                self._offset_s -= cut_s
                now -= cut_s
        self._fill(now)
        self._last = _fitted(picture, self._size)

    def close(self) -> None:
        """Writes the last picture and ends the file.

        Raises:
            OutputError: the disk is full.
        """
        if self._writer is not None:
            try:
                self._fill((self._written + 1) / FPS)
            finally:
                self._writer.release()
                self._writer = None

    def _open(self, picture: Image) -> None:
        # Motion JPEG wants even sides.
        self._size = (picture.shape[1] // 2 * 2, picture.shape[0] // 2 * 2)
        with suppress(OSError):  # the writer says that it can't be made
            self._path.parent.mkdir(parents=True, exist_ok=True)
        fourcc = cv2.VideoWriter.fourcc(*"MJPG")
        writer = cv2.VideoWriter(str(self._path), fourcc, FPS, self._size)
        if not writer.isOpened():
            raise OutputError(f"cannot write {self._path}; name another file")
        self._writer = writer

    def _fill(self, until_s: float) -> None:
        """Writes the last picture up to a time."""
        assert self._writer is not None
        if self._last is None:
            return
        slots = round(until_s * FPS) - self._written
        for slot in range(slots):
            if self._written % FPS == 0:
                self._look()
            silent = slots > STALL_S * FPS and slot > STALL_S * FPS / 2
            self._writer.write(self._card() if silent else self._last)
            self._written += 1

    def _look(self) -> None:
        """Ends the film before the disk fills up."""
        if disk_usage(self._path.parent).free < _LEAST_FREE_BYTES:
            raise OutputError(
                f"cannot write more to {self._path}: the disk is full; make room or "
                "name another file"
            )

    def _card(self) -> Image:
        width, height = self._size
        card = np.full((height, width, 3), _GREY, np.uint8)
        place = (width // 10, height // 2)
        cv2.putText(
            card, _NO_SIGNAL, place, cv2.FONT_HERSHEY_SIMPLEX, 1, (255, 255, 255), 2
        )
        return card


def _fitted(picture: Image, size: tuple[int, int]) -> Image:
    """The picture as large as it fits into (width, height), grey beside it."""
    height, width = picture.shape[:2]
    scale = min(size[0] / width, size[1] / height)
    w, h = min(size[0], round(scale * width)), min(size[1], round(scale * height))
    fitted = np.full((size[1], size[0], 3), _GREY, np.uint8)
    x, y = (size[0] - w) // 2, (size[1] - h) // 2
    fitted[y : y + h, x : x + w] = cv2.resize(
        picture, (w, h), interpolation=cv2.INTER_AREA
    )
    return fitted
