"""Cells of a frame as a network sees them, in place of the rules of `localise`."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edgecell.edge.find.finder import KINDS, Finder, Points
from edgecell.edge.find.localise import Detection, in_tiles
from edgecell.image.preprocess import Bgr
from edgecell.image.records import Box
from edgecell.image.red_cells import SMALLEST_FRAME_PX, shrink

_RED = KINDS.index("red")

_SURE_PX = (24.0, 95.0)
_BEST_PX = 48.0
"""Red cells that measure less or more in a working image are looked at again in one
where they take `_BEST_PX`, as in the middle of what training saw."""

_MOST_LOOKS = 4
"""How often: red cells of a few pixels are first taken for far larger ones."""

_MIDDLE = 2
"""What of a frame is looked at to measure its red cells, in working images' sides."""

_MOST_ENLARGED = 2.0
_LEAST_REDS = 2
_BORDER_PX = 1.5
"""A cell whose box comes so near to the edge of the working image is cut by it."""


@dataclass(frozen=True)
class Seen:
    """The contents of a frame.

    Attributes:
        detections: white cells and platelets, by descending score.
        red_cell_px: median diameter of its red cells, pixels; None without any.
    """

    detections: list[Detection]
    red_cell_px: float | None


class NetworkLocaliser:
    """Finds cells and the scale of frames of any size."""

    def __init__(self, finder: Callable[[Bgr], Points], side: int) -> None:
        """Uses an open finder; `open` opens one.

        Args:
            finder: sees cells in working images.
            side: longest side of a working image, pixels.
        """
        self.finder, self.side = finder, side

    @classmethod
    def open(cls, path: Path) -> "NetworkLocaliser":
        """A localiser with the finder of a file.

        Raises:
            ModelError: it is not a finder, see `edgecell.edge.find.finder`.
            MissingPackageError: no runtime accepts it.
        """
        finder = Finder(path)
        return cls(finder, finder.record.side)

    def look(self, frame: Bgr) -> Seen:
        """Finds white cells, platelets and the red cells' size.

        Args:
            frame: uint8 BGR (H, W, 3).
        """
        if min(frame.shape[:2]) < SMALLEST_FRAME_PX:
            return Seen([], None)
        scale = min(_MOST_ENLARGED, self.side / max(frame.shape[:2]))
        points, diameter = self._measured(frame, scale)
        while diameter is None and scale < _MOST_ENLARGED:
            scale = min(_MOST_ENLARGED, 2 * scale)
            points, diameter = self._measured(frame, scale)
        if diameter is None:
            return Seen([], None)
        for _ in range(_MOST_LOOKS):
            if _SURE_PX[0] <= scale * diameter <= _SURE_PX[1]:
                break
            scale = min(_MOST_ENLARGED, _BEST_PX / diameter)
            points, again = self._measured(frame, scale)
            diameter = again or diameter
        if round(scale * max(frame.shape[:2])) <= self.side:
            place = Box(0, 0, frame.shape[1], frame.shape[0])
            return Seen(_detections(points, scale, place), diameter)

        def in_part(part: Bgr, diameter: float, place: Box) -> list[Detection]:
            scale = min(_MOST_ENLARGED, _BEST_PX / diameter)
            return _detections(self.finder(_resized(part, scale)), scale, place)

        return Seen(in_tiles(frame, diameter, in_part), diameter)

    def _measured(self, frame: Bgr, scale: float) -> tuple[Points, float | None]:
        """What the middle of a frame shows at a scale, and its red cells' diameter."""
        part = _middle(frame, round(_MIDDLE * self.side / scale))
        points = self.finder(_resized(part, scale))
        width, height = (scale * length for length in part.shape[1::-1])
        found = red_cell_px(points, width, height)
        return points, None if found is None else found / scale


def _middle(frame: Bgr, side: int) -> Bgr:
    """The middle of a frame, no longer than a side, or all of it."""
    height, width = frame.shape[:2]
    if max(height, width) <= side:
        return frame
    y, x = max(0, (height - side) // 2), max(0, (width - side) // 2)
    return Bgr(np.ascontiguousarray(frame[y : y + side, x : x + side]))


def _resized(frame: Bgr, scale: float) -> Bgr:
    if scale <= 1.0:
        return Bgr(shrink(frame, scale))
    return Bgr(np.asarray(cv2.resize(frame, None, fx=scale, fy=scale), np.uint8))


def red_cell_px(points: Points, width: float, height: float) -> float | None:
    """Median diameter of the red cells that the image's edge does not cut."""
    red = points.boxes[points.kinds == _RED]
    low, high = red[:, :2] - red[:, 2:] / 2, red[:, :2] + red[:, 2:] / 2
    whole = (low > _BORDER_PX).all(1) & (
        high < np.array([width, height]) - _BORDER_PX
    ).all(1)
    if whole.sum() < _LEAST_REDS:
        return None
    return float(np.median(np.sqrt(red[whole, 2] * red[whole, 3])))


def _detections(points: Points, scale: float, place: Box) -> list[Detection]:
    """White cells and platelets in pixels of the frame.

    Args:
        points: cells of a part's working image.
        scale: pixels of the working image a pixel of the frame.
        place: where in the frame the part lies.
    """
    found = []
    for kind, (x, y, width, height), score in zip(
        points.kinds, points.boxes.astype(float), points.scores, strict=True
    ):
        if kind == _RED:
            continue
        edges = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        right, bottom = scale * place.width, scale * place.height
        cut = (
            min(edges[:2]) <= _BORDER_PX
            or edges[2] >= right - _BORDER_PX
            or edges[3] >= bottom - _BORDER_PX
        )
        box = Box(
            place.x0 + max(0, math.floor(edges[0] / scale)),
            place.y0 + max(0, math.floor(edges[1] / scale)),
            min(place.x1, place.x0 + math.ceil(edges[2] / scale)),
            min(place.y1, place.y0 + math.ceil(edges[3] / scale)),
        )
        found.append(Detection(box, KINDS[kind], cut, float(score)))
    return found
