"""Cells of a frame as a network sees them, in place of the rules of `localise`."""

import math
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

_MOST_ENLARGED = 2.0
_LEAST_REDS = 2
_BORDER_PX = 1.5
"""A cell whose box comes so near to the edge of the working image is cut by it."""


@dataclass(frozen=True)
class Seen:
    """What is in a frame.

    Attributes:
        detections: white cells and platelets, by descending score.
        red_cell_px: median diameter of its red cells, pixels; None without any.
    """

    detections: list[Detection]
    red_cell_px: float | None


class NetworkLocaliser:
    """Finds cells and the scale of frames of any size."""

    def __init__(self, path: Path) -> None:
        """
        Args:
            path: a finder's file, see `edgecell.edge.find.finder`.

        Raises:
            ModelError: it is none.
            MissingPackageError: no runtime takes it.
        """
        self.finder = Finder(path)

    def look(self, frame: Bgr) -> Seen:
        """Finds white cells, platelets and the red cells' size.

        Args:
            frame: uint8 BGR (H, W, 3).
        """
        longest = max(frame.shape[:2])
        if min(frame.shape[:2]) < SMALLEST_FRAME_PX:
            return Seen([], None)
        side = float(self.finder.record.side)
        while True:
            scale = min(_MOST_ENLARGED, side / longest)
            # What a large frame shows at a fine scale, its middle shows, too.
            part = _middle(frame, round(2 * self.finder.record.side / scale))
            points = self.finder(_resized(part, scale))
            found = _red_cell_px(points, *(scale * n for n in part.shape[1::-1]))
            if found is not None or scale == _MOST_ENLARGED:
                break
            side *= 2
        if found is None:
            return Seen([], None)
        diameter = found / scale
        if part is frame and (_SURE_PX[0] <= found <= _SURE_PX[1]):
            place = Box(0, 0, frame.shape[1], frame.shape[0])
            return Seen(_detections(points, scale, place), diameter)
        scale = min(_MOST_ENLARGED, _BEST_PX / diameter)
        part = _middle(frame, round(2 * self.finder.record.side / scale))
        points = self.finder(_resized(part, scale))
        again = _red_cell_px(points, *(scale * n for n in part.shape[1::-1]))
        diameter = diameter if again is None else again / scale

        def in_part(part: Bgr, diameter: float, place: Box) -> list[Detection]:
            scale = min(_MOST_ENLARGED, _BEST_PX / diameter)
            return _detections(self.finder(_resized(part, scale)), scale, place)

        return Seen(in_tiles(frame, diameter, in_part), diameter)


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


def _red_cell_px(points: Points, width: float, height: float) -> float | None:
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
