"""Removes what the camera and the lamp add to a picture: surrounds and bands.

An eyepiece adapter shows a round field in black, a stream of another shape has bars at
its sides: neither is glass or cell, and its edge is sharper than any. A dimmed lamp and
a rolling shutter draw bright and dark bands across the picture, which wander over it.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from edgecell.image.preprocess import Bgr
from edgecell.image.records import Box
from edgecell.image.red_cells import SMALLEST_FRAME_PX, WORK_SIDE_PX, glass_colour
from edgecell.image.resizing import shrink

_BLACK = 36
"""Brightest channel below which a pixel may be surround. Hardly a nucleus of the train
half of TXL-PBC is as dark, since nuclei are blue."""

_LEAST_SHARE = 0.01
"""Of the picture; what is black and smaller in a corner is a cell's."""

_LEAST_BAR_PX = 3
_LEAST_FILLED = 0.9
"""Thickness, in pixels of the small picture, of a black bar at its edge, such as a
camera's stamp, and how much of its box it fills; a cut nucleus is round."""

_RIM = 0.012
"""Width, as a part of the picture's longer side, of the field's blurred edge."""

_NEAR = 3
"""A cell is cut that comes so near to the surround, in pixels of the small picture, as
boxes are exact."""

_GLASS_OF_ROW = 0.98
"""Share of a row's pixels that are no brighter than its glass."""

_LEAST_BANDS = 0.03
_LEAST_AGREEMENT = 0.5
"""Relative amplitude of a lamp's bands, and correlation of those of the picture's left
and right halves, from which on they are taken out: of all but 1 % of frames with bands
of 5 %, and of 4 % of the train half, which rows of many cells make alike."""

_SMOOTH_ROWS = 5

_ROWS_AT_ONCE = 256
"""A large frame as a whole would take twelve bytes a pixel twice."""


@dataclass(frozen=True, eq=False)
class Field:
    """A picture reduced to what belongs to the slide.

    Attributes:
        image: uint8 BGR (H, W, 3), glass where the surround was, rows as bright as
            each other; the very picture if there was nothing to take out.
        small: the same, its longer side `WORK_SIDE_PX` or less.
        surround: bool (h, w), True on the surround and its blurred edge, in the size of
            `small`; None without one.
    """

    image: Bgr
    small: Bgr
    surround: npt.NDArray[np.bool_] | None = None

    def cuts(self, box: Box) -> bool:
        """Whether a cell reaches into the surround, or nearly.

        Args:
            box: of the cell, in the image. The cell is the ellipse that fills it: the
                corners of a box may lie outside a round field with a whole cell inside.
        """
        if self.surround is None:
            return False
        scale = self.surround.shape[1] / self.image.shape[1]
        x0, y0 = (max(0, int(edge * scale) - _NEAR) for edge in (box.x0, box.y0))
        x1, y1 = (int(np.ceil(edge * scale)) + _NEAR for edge in (box.x1, box.y1))
        rows, columns = np.nonzero(self.surround[y0:y1, x0:x1])
        x, y = (scale * middle for middle in box.centre)
        half_width = scale * (box.x1 - box.x0) / 2 + _NEAR
        half_height = scale * (box.y1 - box.y0) / 2 + _NEAR
        across = (x0 + columns + 0.5 - x) / half_width
        down = (y0 + rows + 0.5 - y) / half_height
        return bool((np.hypot(across, down) < 1).any())


def field_of(frame: Bgr) -> Field:
    """Removes from a picture what doesn't belong to the slide.

    Args:
        frame: uint8 BGR (H, W, 3).
    """
    scale = min(1.0, WORK_SIDE_PX / max(frame.shape[:2]))
    field = Field(frame, Bgr(shrink(frame, scale)))
    return _without_bands(_without_surround(field))


def _without_surround(field: Field) -> Field:
    """Lays glass over black surrounds and bars."""
    small = field.small
    edge = np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]])
    if (edge.max(axis=1) >= _BLACK).all():
        return field
    black = (small.max(axis=2) < _BLACK).astype(np.uint8)
    _, pieces, boxes, _ = cv2.connectedComponentsWithStats(black)
    at_corners = pieces[[0, 0, -1, -1], [0, -1, 0, -1]]
    outside = np.isin(pieces, at_corners[at_corners > 0])
    if outside.mean() < _LEAST_SHARE:
        outside[:] = False
    outside |= np.isin(pieces, _black_bars(boxes, small.shape[:2]))
    width = 1 + 2 * max(1, round(_RIM * max(small.shape[:2])))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    mask = np.asarray(cv2.dilate(outside.astype(np.uint8), disc), np.uint8)
    if not mask.any() or mask.all():
        return field
    glass = glass_colour(small[mask == 0][None])
    size = (field.image.shape[1], field.image.shape[0])
    whole = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
    return Field(
        _painted(field.image, whole > 0, glass),
        _painted(small, mask > 0, glass),
        mask > 0,
    )


def _black_bars(
    boxes: npt.NDArray[np.int32], size: tuple[int, int]
) -> npt.NDArray[np.intp]:
    """Numbers of the black pieces that are bars at the edge of the picture.

    Args:
        boxes: OpenCV's statistics of the pieces: x, y, width, height and area; the
            first piece is all that is not black.
        size: height and width of the picture.
    """
    x, y, width, height, area = boxes.T
    right, bottom = x + width == size[1], y + height == size[0]
    ends = (x == 0) | (y == 0) | right | bottom
    thick = np.minimum(width, height) >= _LEAST_BAR_PX
    bars = ends & thick & (area >= _LEAST_FILLED * width * height)
    return np.flatnonzero(bars[1:]) + 1


def _painted(
    image: Bgr, where: npt.NDArray[np.bool_], colour: npt.NDArray[np.float32]
) -> Bgr:
    painted = image.copy()
    painted[where] = np.rint(colour)
    return Bgr(painted)


def _without_bands(field: Field) -> Field:
    """Makes the rows as bright as each other, if bands cross the picture."""
    green = field.small[..., 1]
    if min(green.shape) < SMALLEST_FRAME_PX:
        return field
    bands = _bands(green)
    if np.sqrt(2) * bands.std() < _LEAST_BANDS:
        return field
    middle = green.shape[1] // 2
    left, right = _bands(green[:, :middle]), _bands(green[:, middle:])
    if np.corrcoef(left, right)[0, 1] < _LEAST_AGREEMENT:
        return field
    return replace(
        field,
        image=_evened(field.image, bands),
        small=_evened(field.small, bands),
    )


def _bands(green: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """How much brighter or darker the glass of each row is than a lamp alone makes it.

    Args:
        green: uint8 (h, w).

    Returns:
        float32 (h,), natural log; slow changes from top to bottom, up to the third
        degree, are left out: they are the lamp's own.
    """
    height, width = green.shape
    rank = min(width - 1, int(_GLASS_OF_ROW * width))
    glass = np.partition(green, rank, axis=1)[:, rank]
    level = np.log(np.maximum(glass, 1).astype(np.float32))
    smooth = cv2.blur(level[:, None], (1, _SMOOTH_ROWS)).ravel()
    slow = _slow_changes(height)
    return np.asarray(smooth - slow @ (slow.T @ smooth), np.float32)


@lru_cache(maxsize=4)
def _slow_changes(height: int) -> npt.NDArray[np.float32]:
    """Orthonormal polynomials up to the third degree, float32 (height, 4)."""
    powers = np.vander(np.linspace(-1.0, 1.0, height), 4)
    return np.asarray(np.linalg.qr(powers)[0], np.float32)


def _evened(image: Bgr, bands: npt.NDArray[np.float32]) -> Bgr:
    """An image whose rows are divided by the bands' brightness."""
    size = (1, image.shape[0])
    gains = np.exp(-cv2.resize(bands[:, None], size, interpolation=cv2.INTER_LINEAR))
    evened = Bgr(np.empty_like(image))
    for rows in range(0, len(image), _ROWS_AT_ONCE):
        part = slice(rows, rows + _ROWS_AT_ONCE)
        levels = image[part] * np.asarray(gains[part], np.float32)[..., None]
        evened[part] = np.clip(np.rint(levels), 0, 255)
    return evened
