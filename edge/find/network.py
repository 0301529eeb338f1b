"""Cells of a frame as a network sees them, in place of the rules of `localise`."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edgecell.edge.find.finder import KINDS, Finder, Points
from edgecell.edge.find.localise import Detection, in_tiles
from edgecell.image.preprocess import Bgr
from edgecell.image.records import Box
from edgecell.image.red_cells import SMALLEST_FRAME_PX, shrink

FloatArray = npt.NDArray[np.floating]

_RED = KINDS.index("red")

_SURE_PX = (24.0, 80.0)
_BEST_PX = 48.0
"""Red cells that measure less or more in a working image are looked at again in one
where they take `_BEST_PX`, as in the middle of what training saw."""

_MOST_LOOKS = 8
"""How often: red cells of a few pixels are first taken for far larger ones."""

_WIDE = 5.0
"""A frame longer than so many working images is wide: its scale has to be found twice,
in working images of different scales."""

_ANOTHER = 1.3
"""Scales are different from this ratio on."""

_AGREE = 0.2
"""Two diameters agree that differ by no more than this, as a natural log."""

_ASIDE = (0.6, 1.7)
"""How much smaller, or larger where red cells are smaller than `_BEST_PX`, the working
image is that a plausible diameter is checked in."""

_PART = 2
"""What of a frame is looked at to measure its red cells, in working images' sides."""

_PARTS = ((0.5, 0.5), (0.2, 0.3), (0.8, 0.7))
"""Where, as shares of what the width and the height leave free: the first part with red
cells counts."""

_MOST_ENLARGED = 2.0
_LEAST_REDS = 2
_BORDER_PX = 1.5
"""A cell whose box comes so near to the edge of the working image is cut by it."""


@dataclass(frozen=True)
class Seen:
    """The contents of a frame.

    Attributes:
        detections: white cells and platelets, by descending score.
        red_cell_px: diameter of its red cells, pixels; None without any.
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

    def look(self, frame: Bgr, red_cell_px: float | None = None) -> Seen:
        """Finds white cells, platelets and the red cells' size.

        Args:
            frame: uint8 BGR (H, W, 3).
            red_cell_px: diameter of the red cells as far as it is known, pixels; None
                searches for it.
        """
        if min(frame.shape[:2]) < SMALLEST_FRAME_PX:
            return Seen([], None)
        scale = self._whole(frame)
        if red_cell_px is None:
            points, red_cell_px = self._measured(frame, scale)
            plain = red_cell_px is not None and _sure(scale * red_cell_px)
            if plain and not self._is_wide(frame):
                place = Box(0, 0, frame.shape[1], frame.shape[0])
                return Seen(_detections(points, scale, place), red_cell_px)
            red_cell_px = self._searched(frame, scale, red_cell_px)
            if red_cell_px is None:
                return Seen([], None)
        if not _sure(scale * red_cell_px):
            scale = min(_MOST_ENLARGED, _BEST_PX / red_cell_px)
        sizes: list[FloatArray] = []

        def in_part(part: Bgr, _: float, place: Box) -> list[Detection]:
            image = _resized(part, scale)
            points = self.finder(image)
            sizes.append(_red_sizes(points, image.shape[1], image.shape[0]))
            return _detections(points, scale, place)

        found = in_tiles(frame, red_cell_px, in_part)
        return Seen(found, _divided(_median(np.concatenate(sizes)), scale))

    def _whole(self, frame: Bgr) -> float:
        """Scale of the working image that shows all of a frame."""
        return float(min(_MOST_ENLARGED, self.side / max(frame.shape[:2])))

    def _searched(
        self, frame: Bgr, scale: float, red_cell_px: float | None
    ) -> float | None:
        """The red cells' diameter in a frame that does not give it at first sight.

        Args:
            frame: the frame.
            scale: of the working image that was looked at.
            red_cell_px: what that showed.

        Returns:
            What a working image shows in which red cells have a size that training saw;
            in a wide frame another one, of another scale, agrees. None if none do.
        """
        wide = self._is_wide(frame)
        for _ in range(_MOST_LOOKS):
            if red_cell_px is None:
                other = 2 * scale
            elif _sure(scale * red_cell_px):
                other = scale * _ASIDE[scale * red_cell_px < _BEST_PX]
            else:
                other = _BEST_PX / red_cell_px
            other = min(other, _MOST_ENLARGED)
            if scale <= other < _ANOTHER * scale:
                return None if wide else red_cell_px
            scale, before = other, red_cell_px
            _, red_cell_px = self._measured(frame, scale)
            if red_cell_px is not None and _sure(scale * red_cell_px):
                agree = before is not None and (
                    abs(math.log(red_cell_px / before)) < _AGREE
                )
                if agree or not wide:
                    return red_cell_px
        return None

    def _is_wide(self, frame: Bgr) -> bool:
        return bool(max(frame.shape[:2]) > _WIDE * self.side)

    def _measured(self, frame: Bgr, scale: float) -> tuple[Points, float | None]:
        """What a part of a frame shows at a scale, and its red cells' diameter."""
        side = round(_PART * self.side / scale)
        whole = max(frame.shape[:2]) <= side
        for x, y in _PARTS[: 1 if whole else None]:
            image = _resized(_part(frame, side, x, y), scale)
            points = self.finder(image)
            found = red_cell_px(points, image.shape[1], image.shape[0])
            if found is not None:
                break
        return points, _divided(found, scale)


def _sure(red_cell_px: float) -> bool:
    """Whether red cells of a size, in a working image, are measured well."""
    return _SURE_PX[0] <= red_cell_px <= _SURE_PX[1]


def _divided(px: float | None, scale: float) -> float | None:
    return None if px is None else px / scale


def _part(frame: Bgr, side: int, x: float, y: float) -> Bgr:
    """A part of a frame, no longer than a side, at shares of what it leaves free."""
    left = round(x * max(0, frame.shape[1] - side))
    top = round(y * max(0, frame.shape[0] - side))
    return Bgr(np.ascontiguousarray(frame[top : top + side, left : left + side]))


def _resized(frame: Bgr, scale: float) -> Bgr:
    if scale <= 1.0:
        return Bgr(shrink(frame, scale))
    return Bgr(np.asarray(cv2.resize(frame, None, fx=scale, fy=scale), np.uint8))


def red_cell_px(points: Points, width: float, height: float) -> float | None:
    """Diameter of the red cells, pixels of the working image; None without any.

    Half of the area that red cells cover lies in smaller ones: fragments and cells that
    others hide in part count little.

    Args:
        points: what the image shows.
        width: of the image; what its edge cuts does not count.
        height: of the image.
    """
    return _median(_red_sizes(points, width, height))


def _red_sizes(points: Points, width: float, height: float) -> FloatArray:
    """Diameters of the red cells that the image's edge does not cut, float (N,)."""
    red = points.boxes[points.kinds == _RED]
    low, high = red[:, :2] - red[:, 2:] / 2, red[:, :2] + red[:, 2:] / 2
    whole = (low > _BORDER_PX).all(1) & (
        high < np.array([width, height]) - _BORDER_PX
    ).all(1)
    return np.asarray(np.sqrt(red[whole, 2] * red[whole, 3]))


def _median(sizes: FloatArray) -> float | None:
    """The median of diameters, each of which counts by its area."""
    if len(sizes) < _LEAST_REDS:
        return None
    sizes = np.sort(sizes)
    covered = np.cumsum(sizes**2)
    return float(sizes[np.searchsorted(covered, covered[-1] / 2)])


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
