"""Finds white cells and platelets in a camera frame, and its scale."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgecell.edge.find.finder import KINDS, Finder, Points
from edgecell.edge.find.tiles import Detection, in_tiles
from edgecell.image.preprocess import Bgr
from edgecell.image.records import Box
from edgecell.image.red_cells import SMALLEST_FRAME_PX
from edgecell.image.resizing import resized

FloatArray = npt.NDArray[np.floating]

_RED = KINDS.index("red")

_SURE_PX = (32.0, 80.0)
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
_ALIKE = 0.3
"""Natural log of how much more oblong or less than the others a red cell may be that
shows its diameter: another cell hides a part of it, or it is a part itself."""

_MOST_LEFT = 0.6
"""Shorter by longer side of a red cell that an edge leaves most of."""

_BORDER_PX = 1.5
"""A cell whose box comes so near to the edge of the working image is cut by it."""

_BORDER = 0.04
"""The same as a share of the box's longer side: boxes are no more exact. Of cells that
the edge of train frames cuts, 0.6 % are not called cut (12.8 % with `_BORDER_PX`
alone), of whole ones 4.2 % are (2.9 %)."""

_SLICE_PX = 5.0
"""The same for a box that is flat along the edge: what is left of a cell."""

_THINNEST = 0.21
"""Shorter by longer side of what an edge leaves of a cell: what is thinner may as well
be a stamp or a bar in the picture, and tells nothing of a cell."""


@dataclass(frozen=True)
class Seen:
    """The contents of a frame.

    Attributes:
        detections: white cells and platelets, by descending score.
        red_cell_px: diameter of its red cells, pixels; None without any.
    """

    detections: list[Detection]
    red_cell_px: float | None


class Localiser:
    """Finds cells and the scale of frames of any size."""

    def __init__(
        self, finder: Callable[[Bgr], Points], side: int, model_sha256: str = ""
    ) -> None:
        """Uses an open finder; `open` opens one.

        Args:
            finder: sees cells in working images.
            side: longest side of a working image, pixels.
            model_sha256: of the finder's network.
        """
        self.finder, self.side, self.model_sha256 = finder, side, model_sha256

    @classmethod
    def open(cls, path: Path) -> "Localiser":
        """A localiser with the finder of a file.

        Raises:
            ModelError: it is not a finder, see `edgecell.edge.find.finder`.
            MissingPackageError: no runtime accepts it.
        """
        finder = Finder(path)
        return cls(finder, finder.record.side, finder.record.model_sha256)

    def look(
        self, frame: Bgr, red_cell_px: float | None = None, small: Bgr | None = None
    ) -> Seen:
        """Finds white cells, platelets and the red cells' size.

        Args:
            frame: uint8 BGR (H, W, 3).
            red_cell_px: diameter of the red cells as far as it is known, pixels; None
                searches for it.
            small: the frame made small, see `Field.small`; where it has the size of a
                working image it need not be made again.

        Raises:
            ValueError: the frame is not uint8 (H, W, 3), or the diameter not above 0.
        """
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise ValueError("frame must be uint8 of shape (H, W, 3)")
        if red_cell_px is not None and not red_cell_px > 0:
            raise ValueError("red_cell_px must be above 0")
        if min(frame.shape[:2]) < SMALLEST_FRAME_PX:
            return Seen([], None)
        scale, given = self._whole(frame), red_cell_px
        if red_cell_px is None or _sure(scale * red_cell_px):
            if small is None or max(small.shape[:2]) != self.side:
                small = Bgr(resized(frame, scale))
            points = self.finder(small)
            found = _divided(_red_cell_px(points, small), scale)
            if red_cell_px is None:
                red_cell_px = found = self._searched(frame, scale, found)
            if red_cell_px is None:
                return Seen([], None)
            if _sure(scale * red_cell_px):
                place = Box(0, 0, frame.shape[1], frame.shape[0])
                return Seen(_detections(points, scale, place), found)
        seen = self._tile_by_tile(frame, red_cell_px)
        if given is None and seen.red_cell_px is None:
            return Seen(seen.detections, red_cell_px)
        return seen

    def _tile_by_tile(self, frame: Bgr, red_cell_px: float) -> Seen:
        """The contents of a frame at the scale that suits its red cells."""
        scale = min(_MOST_ENLARGED, _BEST_PX / red_cell_px)
        sizes: list[FloatArray] = []

        def in_part(part: Bgr, place: Box) -> list[Detection]:
            image = Bgr(resized(part, scale))
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
        """The red cells' diameter in a frame, from what a first look showed.

        Args:
            frame: the frame.
            scale: of the working image that was looked at.
            red_cell_px: what that showed.

        Returns:
            What a working image shows in which red cells have a size that training saw;
            in a wide frame another one, of another scale, agrees. None if none do.
        """
        wide = max(frame.shape[:2]) > _WIDE * self.side
        before: float | None = None
        for _ in range(_MOST_LOOKS):
            if red_cell_px is None:
                other = 2 * scale
            elif _sure(scale * red_cell_px):
                if not wide or (
                    before and abs(math.log(red_cell_px / before)) < _AGREE
                ):
                    return red_cell_px
                other = scale * _ASIDE[scale * red_cell_px < _BEST_PX]
            else:
                other = _BEST_PX / red_cell_px
            other = min(other, _MOST_ENLARGED)
            if scale <= other < _ANOTHER * scale:
                return None if wide else red_cell_px
            scale, before = other, red_cell_px
            red_cell_px = self._measured(frame, scale)
        return None

    def _measured(self, frame: Bgr, scale: float) -> float | None:
        """The red cells' diameter as a part of a frame shows it at a scale."""
        side = round(_PART * self.side / scale)
        whole = max(frame.shape[:2]) <= side
        for x, y in _PARTS[: 1 if whole else None]:
            image = Bgr(resized(_part(frame, side, x, y), scale))
            found = _red_cell_px(self.finder(image), image)
            if found is not None:
                return found / scale
        return None


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


def red_cell_px(points: Points, width: float, height: float) -> float | None:
    """Diameter of the red cells, pixels of the working image; None without any.

    The median of those that are shaped like most, each of which counts by its diameter.

    Args:
        points: what the image shows.
        width: of the image; what its edge cuts does not count.
        height: of the image.
    """
    return _median(_red_sizes(points, width, height))


def _red_cell_px(points: Points, image: Bgr) -> float | None:
    return red_cell_px(points, image.shape[1], image.shape[0])


def _red_sizes(points: Points, width: float, height: float) -> FloatArray:
    """Diameters of the red cells that show theirs, float (N,).

    Those are the ones that the image's edge does not cut. Where it cuts nearly all they
    are those of which it leaves most, since they show their diameter along the edge.
    """
    red = points.boxes[points.kinds == _RED]
    low, high = red[:, :2] - red[:, 2:] / 2, red[:, :2] + red[:, 2:] / 2
    whole = (low > _BORDER_PX).all(1) & (
        high < np.array([width, height]) - _BORDER_PX
    ).all(1)
    if whole.sum() < _LEAST_REDS:
        sides = red[:, 2:][whole | (red[:, 2:].min(1) > _MOST_LEFT * red[:, 2:].max(1))]
        return np.asarray(sides.max(1))
    shapes = np.log(red[whole, 2] / red[whole, 3])
    alike = np.abs(shapes - np.median(shapes)) < _ALIKE
    if alike.sum() < _LEAST_REDS:
        alike[:] = True
    return np.asarray(np.sqrt(red[whole, 2] * red[whole, 3])[alike])


def _median(sizes: FloatArray) -> float | None:
    """The median of diameters, each of which counts by itself."""
    if len(sizes) < _LEAST_REDS:
        return None
    sizes = np.sort(sizes)
    sums = np.cumsum(sizes)
    return float(sizes[np.searchsorted(sums, sums[-1] / 2)])


def _is_cut(free: float, deep: float, along: float) -> bool:
    """Whether the edge of the working image cuts a cell.

    Args:
        free: from the cell's box to the edge, pixels.
        deep: the box's side at right angles to the edge.
        along: the other one.
    """
    if deep <= _MOST_LEFT * along:
        return free <= _SLICE_PX
    return free <= max(_BORDER_PX, _BORDER * max(deep, along))


def _detections(points: Points, scale: float, place: Box) -> list[Detection]:
    """White cells and platelets in pixels of the frame.

    Args:
        points: cells of a part's working image.
        scale: pixels of the working image a pixel of the frame.
        place: where in the frame the part lies.
    """
    found = []
    for kind, (x, y, width, height), score in zip(
        points.kinds, points.boxes.tolist(), points.scores, strict=True
    ):
        if kind == _RED:
            continue
        edges = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        across = min(edges[0], scale * place.width - edges[2])
        down = min(edges[1], scale * place.height - edges[3])
        cut = _is_cut(across, width, height) or _is_cut(down, height, width)
        if cut and min(width, height) < _THINNEST * max(width, height):
            continue
        box = Box(
            place.x0 + max(0, math.floor(edges[0] / scale)),
            place.y0 + max(0, math.floor(edges[1] / scale)),
            min(place.x1, place.x0 + math.ceil(edges[2] / scale)),
            min(place.y1, place.y0 + math.ceil(edges[3] / scale)),
        )
        found.append(Detection(box, KINDS[kind], cut, float(score)))
    return found
