"""Connected pieces of a mask: finding, splitting, joining.

Pure geometry; lengths are in pixels of the mask's image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import cv2
import numpy as np
from numpy.typing import NDArray

_SEED_DEPTHS = (0.4, 0.55, 0.7, 0.85)
"""Shares of the greatest depth at which a blob is looked at for separate cores."""


@dataclass(frozen=True, eq=False)
class Blob:
    """A piece of a mask.

    Attributes:
        mask: bool (h, w), True on the piece; its bounding box, so that every
            side is touched.
        x: left edge of the bounding box in the image.
        y: upper edge of the bounding box in the image.
    """

    mask: NDArray[np.bool_]
    x: int
    y: int

    @property
    def width(self) -> int:
        """Width of the bounding box."""
        return int(self.mask.shape[1])

    @property
    def height(self) -> int:
        """Height of the bounding box."""
        return int(self.mask.shape[0])

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int(np.count_nonzero(self.mask))

    @property
    def centroid(self) -> tuple[float, float]:
        """Mean (x, y) of the pixels, in the image."""
        rows, columns = np.nonzero(self.mask)
        return self.x + float(columns.mean()), self.y + float(rows.mean())

    @property
    def window(self) -> tuple[slice, slice]:
        """Index of the bounding box in the image."""
        return (
            slice(self.y, self.y + self.height),
            slice(self.x, self.x + self.width),
        )

    def window_with(self, margin: int) -> tuple[slice, slice]:
        """Index of the bounding box with a margin; stops at the image's start."""
        return (
            slice(max(0, self.y - margin), self.y + self.height + margin),
            slice(max(0, self.x - margin), self.x + self.width + margin),
        )

    def touches_border(self, shape: tuple[int, ...], margin: int = 1) -> bool:
        """Whether the piece comes within a margin of the image's edge."""
        rows, columns = shape[:2]
        return (
            self.x <= margin
            or self.y <= margin
            or self.x + self.width >= columns - margin
            or self.y + self.height >= rows - margin
        )


def find_blobs(mask: NDArray[np.uint8], least_area: float) -> list[Blob]:
    """The 8-connected pieces of at least the given area."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    blobs = []
    for index in range(1, count):
        x, y, width, height, area = (int(value) for value in stats[index])
        if area >= least_area:
            piece = labels[y : y + height, x : x + width] == index
            blobs.append(Blob(piece, x, y))
    return blobs


def morph(mask: NDArray[np.uint8], operation: int, size: int) -> NDArray[np.uint8]:
    """Opens or closes a mask with a disc.

    Beyond the image a closing sees nothing, so that it sticks no blob to the
    border, and an opening sees the border's own pixels repeated, so that it
    doesn't eat a cell that the border cuts.

    Args:
        mask: uint8 (H, W) of 0 and 1.
        operation: cv2.MORPH_OPEN or cv2.MORPH_CLOSE.
        size: diameter of the disc.
    """
    size = max(3, size | 1)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    opening = operation == cv2.MORPH_OPEN
    beyond = cv2.BORDER_REPLICATE if opening else cv2.BORDER_CONSTANT
    padded = cv2.copyMakeBorder(mask, size, size, size, size, beyond, value=0)
    changed = cv2.morphologyEx(padded, operation, disc)
    return np.asarray(changed[size:-size, size:-size], np.uint8)


def split_blob(blob: Blob, apart: float) -> list[Blob]:
    """Splits a blob at its necks if it has cores as far apart as two cells are.

    Args:
        apart: least distance between the centres of two cells; the lobes of one
            nucleus are nearer.

    Returns:
        The parts, each pixel with its nearest core; [blob] if it is one cell.
    """
    depth = cv2.distanceTransform(
        np.pad(blob.mask.astype(np.uint8), 1), cv2.DIST_L2, 3
    )[1:-1, 1:-1]
    for share in _SEED_DEPTHS:
        cores = find_blobs((depth > share * depth.max()).astype(np.uint8), 1)
        cores = _well_apart(cores, apart)
        if len(cores) > 1:
            return _nearest_core(blob, cores)
    return [blob]


def _well_apart(cores: Sequence[Blob], apart: float) -> list[Blob]:
    """The largest cores, leaving out those too near to a larger one."""
    kept: list[Blob] = []
    for core in sorted(cores, key=lambda core: core.area, reverse=True):
        if all(distance(core, other) >= apart for other in kept):
            kept.append(core)
    return kept


def _nearest_core(blob: Blob, cores: Sequence[Blob]) -> list[Blob]:
    distances = []
    for core in cores:
        away = np.ones(blob.mask.shape, np.uint8)
        away[core.window][core.mask] = 0
        distances.append(cv2.distanceTransform(away, cv2.DIST_L2, 3))
    nearest = np.argmin(np.stack(distances), axis=0)
    return [
        _trimmed(blob.mask & (nearest == index), blob.x, blob.y)
        for index in range(len(cores))
    ]


def _trimmed(mask: NDArray[np.bool_], x: int, y: int) -> Blob:
    rows = np.flatnonzero(mask.any(axis=1))
    columns = np.flatnonzero(mask.any(axis=0))
    piece = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Blob(piece, x + int(columns[0]), y + int(rows[0]))


def distance(first: Blob, second: Blob) -> float:
    """Distance between the centroids."""
    (x, y), (u, v) = first.centroid, second.centroid
    return float(np.hypot(x - u, y - v))


def span(first: Blob, second: Blob) -> float:
    """Length of two blobs together, taken as discs of their areas."""
    radii = np.sqrt(first.area / np.pi) + np.sqrt(second.area / np.pi)
    return distance(first, second) + float(radii)


def join_blobs(blobs: Sequence[Blob], within: float, least_area: float) -> list[Blob]:
    """Joins the lobes of one nucleus: blobs that together fit into one cell.

    Args:
        within: span below which two blobs are joined; two whole nuclei that
            touch span more.
        least_area: smaller blobs (platelets, debris) are left alone.
    """
    joined = list(blobs)
    while True:
        pair = next(
            (
                (first, second)
                for first, second in combinations(joined, 2)
                if min(first.area, second.area) >= least_area
                and span(first, second) < within
            ),
            None,
        )
        if pair is None:
            return joined
        joined = [blob for blob in joined if blob not in pair] + [unite(*pair)]


def unite(first: Blob, second: Blob) -> Blob:
    """Both blobs as one."""
    x, y = min(first.x, second.x), min(first.y, second.y)
    right = max(first.x + first.width, second.x + second.width)
    bottom = max(first.y + first.height, second.y + second.height)
    mask = np.zeros((bottom - y, right - x), np.bool_)
    for blob in (first, second):
        rows = slice(blob.y - y, blob.y - y + blob.height)
        columns = slice(blob.x - x, blob.x - x + blob.width)
        mask[rows, columns] |= blob.mask
    return Blob(mask, x, y)
