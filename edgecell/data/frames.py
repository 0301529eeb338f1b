"""Camera frames with labelled cells, from a folder or a ZIP file.

Labels are YOLO text files, a line `class x y width height` for each cell with the
box's centre and size as shares of the frame: 0 white cell, 1 red cell, 2 platelet.
"""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from edgecell.errors import InputError
from edgecell.files import printable

logger = logging.getLogger(__name__)

WHITE, RED, PLATELET = 0, 1, 2
"""Classes of the labels."""

_BORDER_PX = 2.0

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

    def shows_whole(self, box: LabelBox) -> bool:
        """Whether a cell is not cut by the frame's edge, as far as its box tells."""
        height, width = self.image.shape[:2]
        return (
            min(box.x0, box.y0) > _BORDER_PX
            and box.x1 < width - _BORDER_PX
            and box.y1 < height - _BORDER_PX
        )


def read_frames(data: Path, part: str | None = None) -> Iterator[LabelledFrame]:
    """Reads labelled frames one by one, in the order of their names.

    As in YOLO, a frame without a label file has no cells. The number of such frames is
    logged, since a forgotten file looks the same.

    Args:
        data: folder or ZIP file with .../images/.../*.jpg and .../labels/.../*.txt.
        part: name of a folder (such as "val") that the frames must lie in; all
            frames if None.

    Raises:
        InputError: there are no frames or no labels, or one cannot be read.
    """
    # Training machines, which need the rest of this module, have no decoders.
    from edgecell.data.members import open_files
    from edgecell.image.decode import decode

    with open_files(data) as files:
        names = [path for path in files if _is_frame(path, part)]
        if not names:
            within = "" if part is None else f" in a folder called {part}"
            raise InputError(f"{data} has no frames{within}: {_LAYOUT}")
        labels = {name: label_path(name) for name in names}
        bare = sum(label not in files for label in labels.values())
        if bare == len(names):
            raise InputError(f"{data} has frames and no labels: {_LAYOUT}")
        if bare:
            logger.warning(
                "frames without a label file: %d of %d; they are taken as frames "
                "without cells",
                bare,
                len(names),
            )
        for name, label in labels.items():
            shown = printable(f"{name} in {data}")
            image = decode(files[name](), shown)
            height, width = image.shape[:2]
            boxes: tuple[LabelBox, ...] = ()
            if label in files:
                text = files[label]()
                boxes = parse_labels(text, width, height, printable(str(label)))
            yield LabelledFrame(printable(str(name)), image, boxes)


def _is_frame(path: PurePosixPath, part: str | None) -> bool:
    from edgecell.data.dataset import IMAGE_SUFFIXES

    folders = path.parts[:-1]
    return (
        path.suffix.lower() in IMAGE_SUFFIXES
        and "images" in folders
        and (part is None or part in folders)
    )


def label_path(image: PurePosixPath) -> PurePosixPath:
    """Path of a frame's labels: the last folder `images` becomes `labels`."""
    parts = list(image.with_suffix(".txt").parts)
    last = len(parts) - 1 - parts[::-1].index("images")
    parts[last] = "labels"
    return PurePosixPath(*parts)


def _no_labels(name: str, at: str = "") -> str:
    return (
        f"{name} is not a YOLO label file{at}: each line must be a class (0 white, "
        "1 red, 2 platelet) and four shares of the frame"
    )


def parse_labels(
    text: bytes, width: int, height: int, name: str
) -> tuple[LabelBox, ...]:
    """Reads YOLO labels.

    Duplicate lines count once. Boxes whose centre is outside of the frame, or
    without an area, are left out with a warning: nothing can be found there.

    Args:
        text: content of the file, UTF-8 with or without a byte-order mark.
        width: of the frame, pixels.
        height: of the frame, pixels.
        name: for messages.

    Returns:
        The boxes.

    Raises:
        InputError: a line is not a class 0, 1 or 2 and four finite numbers, of which
            the sizes are not negative.
    """
    rows: dict[tuple[float, ...], None] = {}
    try:
        lines = text.decode("utf-8-sig").splitlines()
    except ValueError as error:
        raise InputError(_no_labels(name)) from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            label, x, y, w, h = numbers = tuple(float(word) for word in line.split())
        except ValueError as error:
            raise InputError(_no_labels(name, f" (line {number})")) from error
        if label not in (WHITE, RED, PLATELET) or not (
            all(map(math.isfinite, numbers)) and min(w, h) >= 0
        ):
            raise InputError(_no_labels(name, f" (line {number})"))
        rows[numbers] = None
    boxes = []
    for label, x, y, w, h in rows:
        if not (0 <= x <= 1 and 0 <= y <= 1 and w and h):
            continue
        left, top = (x - w / 2) * width, (y - h / 2) * height
        boxes.append(
            LabelBox(int(label), left, top, left + w * width, top + h * height)
        )
    if len(boxes) < len(rows):
        logger.warning(
            "%s: left out %d boxes outside of the frame or without an area",
            name,
            len(rows) - len(boxes),
        )
    return tuple(boxes)


def claim(
    centres: Sequence[tuple[float, float]], boxes: Sequence[LabelBox]
) -> list[tuple[int, LabelBox]]:
    """Matches found cells with labels.

    A cell claims the box that its centre lies in; if there are several, the one with
    the nearest centre. A box is claimed only once.

    Args:
        centres: x and y of the cells, the surest first.
        boxes: labels of their kind.

    Returns:
        Indices of cells and their boxes.
    """
    free = list(boxes)
    pairs = []
    for index, (x, y) in enumerate(centres):
        holding = [box for box in free if box.contains(x, y)]
        if holding:
            nearest = min(holding, key=lambda box: box.distance(x, y))
            free.remove(nearest)
            pairs.append((index, nearest))
    return pairs
