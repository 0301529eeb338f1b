"""A video file as a frame source, through OpenCV."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from edgecell.edge.sources.base import Frame, Skipped
from edgecell.errors import SourceError
from edgecell.files import printable
from edgecell.image.decode import LARGEST_PIXELS
from edgecell.image.preprocess import Bgr
from edgecell.quiet import quiet_opencv

logger = logging.getLogger(__name__)

_SHARE_LOST = 0.1
"""A video that ends this much before its header says was cut short."""

_MOST_FAILURES = 10_000
"""Frames in a row that can't be decoded; a damaged header may claim any number."""

_FAILURES_AT_END = 30
"""How often to try beyond the last frame where the header doesn't say how many."""


def check_frame_size(capture: cv2.VideoCapture, name: str) -> None:
    """Refuses frames that are too large, before one is decoded.

    Raises:
        SourceError: they have more than `LARGEST_PIXELS`.
    """
    width = capture.get(cv2.CAP_PROP_FRAME_WIDTH)
    height = capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
    if width * height > LARGEST_PIXELS:
        raise SourceError(
            f"{name} has frames of {width:.0f} x {height:.0f} pixels, too many to be "
            "decoded; scale it down"
        )


class VideoFile:
    """A video file; times are the file's own, and no frame that can be read is lost."""

    live = False

    def __init__(self, path: Path) -> None:
        """Prepares to read; entering it opens the file."""
        self.name = printable(path.stem)
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
        with _named_in_ascii(self._path) as path:
            capture = cv2.VideoCapture(str(path))
        if not capture.isOpened():
            raise SourceError(
                f"{self._path} cannot be opened as a video; it may be damaged or in "
                "a format that this OpenCV lacks: convert it to Motion JPEG or MPEG-4"
            )
        check_frame_size(capture, str(self._path))
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
        index, last, lost = 0, -1.0, 0
        for failed, image in self._images(self._capture):
            time_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            if time_s <= last:  # a file without timestamps
                time_s = last + 1 / fps if fps > 0 else float(index)
            last, lost = time_s, lost + failed
            yield Frame(index, time_s, image, printable(self._path.name))
            index += 1
        if not index:
            raise SourceError(
                f"{self._path} holds no frame that can be decoded; copy it again"
            )
        self._tell(index, lost)

    def _images(self, capture: cv2.VideoCapture) -> Iterator[tuple[int, Bgr]]:
        """Each frame, with the number of undecodable frames before it."""
        done = failed = 0
        while True:
            try:
                ok, image = capture.read()
            except cv2.error:
                ok = False
            if ok:
                yield failed, Bgr(np.asarray(image, np.uint8))
                done, failed = done + failed + 1, 0
                continue
            failed += 1
            # OpenCV reports the end like a damaged frame.
            left = self.total - done if self.total else _FAILURES_AT_END
            if failed >= min(left, _MOST_FAILURES):
                return

    def _tell(self, frames: int, lost: int) -> None:
        """Counts and names what was left out."""
        if lost:
            self.skipped.add(printable(self._path.name), lost)
            logger.warning(
                "%s: %d damaged frames were left out, %d were read",
                self._path,
                lost,
                frames,
            )
        elif self.total and frames < self.total * (1 - _SHARE_LOST):
            logger.warning(
                "%s ended after %d of %d frames; the file may be damaged",
                self._path,
                frames,
                self.total,
            )


@contextmanager
def _named_in_ascii(path: Path) -> Iterator[Path]:
    """A path to the same file that OpenCV can be given.

    Some releases crash on names that aren't UTF-8.
    """
    if printable(str(path)) == str(path):
        yield path
        return
    with TemporaryDirectory(prefix="edgecell-") as folder:
        link = Path(folder) / f"video{path.suffix.encode('ascii', 'ignore').decode()}"
        link.symlink_to(path.resolve())
        yield link
