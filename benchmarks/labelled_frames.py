"""Reads camera frames with their labels from a folder or a zip file.

Labels are YOLO text files, a line `class x y width height` for each cell with the
box's centre and size as shares of the frame: 0 white cell, 1 red cell, 2 platelet.
"""

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from edgecell.errors import InputError
from edgecell.image.decode import decode

WHITE, RED, PLATELET = 0, 1, 2
"""Classes of the labels."""

_IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png"}
_LAYOUT = "expected .../images/.../NAME.jpg beside .../labels/.../NAME.txt"


@dataclass(frozen=True)
class LabelBox:
    """A labelled cell, in pixels of its frame: class 0, 1 or 2 and edges."""

    label: int
    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def size(self) -> float:
        """Geometric mean of width and height, pixels."""
        return float(np.sqrt((self.x1 - self.x0) * (self.y1 - self.y0)))

    def contains(self, x: float, y: float) -> bool:
        """Whether a point lies in the box (half-open)."""
        return self.x0 <= x < self.x1 and self.y0 <= y < self.y1

    def distance(self, x: float, y: float) -> float:
        """Distance of a point from the centre, pixels."""
        return float(np.hypot(x - (self.x0 + self.x1) / 2, y - (self.y0 + self.y1) / 2))


@dataclass(frozen=True)
class LabelledFrame:
    """A frame with its labels.

    Attributes:
        name: path within the data.
        image: uint8 BGR (H, W, 3).
        boxes: the labelled cells.
    """

    name: str
    image: NDArray[np.uint8]
    boxes: tuple[LabelBox, ...]


def read_frames(data: Path, part: str | None = None) -> Iterator[LabelledFrame]:
    """Reads labelled frames one by one, in the order of their names.

    Raises:
        InputError: if there are no frames, or one cannot be read.
    """
    if data.is_dir():
        names = [
            path.relative_to(data).as_posix()
            for path in data.rglob("*")
            if path.is_file()
        ]
        yield from _read_named(data, _image_names(data, names, part), None)
        return
    try:
        archive = zipfile.ZipFile(data)
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{data} is neither a folder nor a zip file: {_LAYOUT}"
        ) from error
    with archive:
        names = _image_names(data, archive.namelist(), part)
        yield from _read_named(data, names, archive)


def _image_names(data: Path, names: Sequence[str], part: str | None) -> list[str]:
    chosen = sorted(
        name
        for name in names
        if PurePosixPath(name).suffix.lower() in _IMAGE_SUFFIXES
        and "images" in PurePosixPath(name).parts[:-1]
        and (part is None or part in PurePosixPath(name).parts[:-1])
    )
    if not chosen:
        within = "" if part is None else f" in a folder called {part}"
        raise InputError(f"{data} has no frames{within}: {_LAYOUT}")
    return chosen


def _read_named(
    data: Path, names: Sequence[str], archive: zipfile.ZipFile | None
) -> Iterator[LabelledFrame]:
    def read(name: str) -> bytes:
        try:
            return archive.read(name) if archive else (data / name).read_bytes()
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise InputError(f"cannot read {name} in {data}: {_LAYOUT}") from error

    for name in names:
        image = decode(read(name), f"{name} in {data}")
        height, width = image.shape[:2]
        label_name = label_path(name)
        boxes = parse_labels(read(label_name), width, height, label_name)
        yield LabelledFrame(name, image, boxes)


def label_path(image_name: str) -> str:
    """Path of a frame's labels: the last folder `images` becomes `labels`."""
    parts = list(PurePosixPath(image_name).with_suffix(".txt").parts)
    last = len(parts) - 1 - parts[::-1].index("images")
    parts[last] = "labels"
    return PurePosixPath(*parts).as_posix()


def parse_labels(
    text: bytes, width: int, height: int, name: str
) -> tuple[LabelBox, ...]:
    """Reads YOLO labels.

    Args:
        text: content of the file.
        width: of the frame, pixels.
        height: of the frame, pixels.
        name: for the error's message.

    Raises:
        InputError: if a line is not a class 0, 1 or 2 and four numbers.
    """
    boxes = []
    try:
        for line in text.decode("ascii").splitlines():
            if not line.strip():
                continue
            label, x, y, w, h = (float(word) for word in line.split())
            if label not in (WHITE, RED, PLATELET):
                raise ValueError("unknown class")
            left, top = (x - w / 2) * width, (y - h / 2) * height
            boxes.append(
                LabelBox(int(label), left, top, left + w * width, top + h * height)
            )
    except ValueError as error:
        raise InputError(
            f"{name} is not a YOLO label file: each line must be a class (0 white, "
            "1 red, 2 platelet) and four shares of the frame"
        ) from error
    return tuple(boxes)
