"""Results on disk: one JSON line a cell, and annotated pictures."""

import json
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import cv2

from edgecell.edge.pipeline import CellRecord
from edgecell.errors import OutputError
from edgecell.files import write_atomically
from edgecell.preprocess import Image

logger = logging.getLogger(__name__)

CELLS = "cells.jsonl"
PICTURES = "frames"
RESULTS = "edgecell-out"
_JPEG_QUALITY = 90


def default_folder(source_name: str, now: datetime) -> Path:
    """Where results go unless told: a new edgecell-out/<source>-<date>-<time>."""
    path = Path(RESULTS) / f"{source_name}-{now:%Y%m%d-%H%M%S}"
    n = 1
    while path.exists():
        n += 1
        path = path.with_name(f"{source_name}-{now:%Y%m%d-%H%M%S}-{n}")
    return path


class ResultFolder:
    """A new folder with ``cells.jsonl`` and ``frames/<frame>.jpg``.

    Whatever ends the program, the file holds whole lines and the pictures are
    whole: a frame's lines are handed to the system in one piece, and what a full
    disk cuts off is taken back. A power cut may still take the last seconds' lines.
    """

    def __init__(self, path: Path) -> None:
        """Takes the folder's path; makes nothing yet."""
        self.path = path
        self._fd = -1
        self._size = 0
        self._made_folder = False

    def __enter__(self) -> "ResultFolder":
        """Makes the folder.

        Raises:
            OutputError: it can't be made, or has something in it already.
        """
        self._made_folder = not self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            occupied = any(self.path.iterdir())
            if not occupied:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
                self._fd = os.open(self.path / CELLS, flags, 0o644)
        except OSError as e:
            raise self._refused(e) from e
        if occupied:
            raise OutputError(
                f"{self.path} is not empty; name another folder, so that no result "
                "is overwritten"
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Closes the file; takes the folder back if a failure left it empty."""
        os.close(self._fd)
        pictures = self.path / PICTURES
        if kind is None:
            return
        if self._size or (pictures.exists() and any(pictures.iterdir())):
            logger.warning("what was found until then is in %s", self.path)
            return
        (self.path / CELLS).unlink()
        if pictures.exists():
            pictures.rmdir()
        if self._made_folder:
            self.path.rmdir()

    def write_cells(self, records: Sequence[CellRecord]) -> None:
        """Appends a frame's cells, one JSON line each: all of them or none.

        Raises:
            OutputError: the disk doesn't take them.
        """
        lines = "".join(json.dumps(record.to_dict()) + "\n" for record in records)
        rest = lines.encode()
        whole = self._size + len(rest)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
            self._size = whole
        except OSError as e:
            raise self._refused(e) from e
        finally:
            if self._size != whole:
                os.ftruncate(self._fd, self._size)

    def _refused(self, error: OSError) -> OutputError:
        return OutputError(
            f"cannot write to {self.path}: {error.strerror}; make room or name "
            "another folder with --out"
        )

    def write_picture(self, frame: int, picture: Image) -> Path:
        """Writes an annotated frame.

        Args:
            frame: the frame's number, which names the file.
            picture: uint8 BGR (H, W, 3).

        Returns:
            The file.

        Raises:
            OutputError: the disk doesn't take it.
        """
        path = self.path / PICTURES / f"{frame:06d}.jpg"
        quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
        encoded = None
        with suppress(cv2.error):  # OpenCV 4 throws where OpenCV 5 returns False
            ok, data = cv2.imencode(".jpg", picture, quality)
            encoded = data if ok else None
        if encoded is None:
            height, width = picture.shape[:2]
            raise OutputError(
                f"a picture of {width}x{height} is too large for JPEG; cut the image "
                "into smaller ones"
            )
        write_atomically(path, encoded.tobytes())
        return path
