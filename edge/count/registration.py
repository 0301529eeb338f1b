"""Finds where a frame lies in a picture of a field that was seen before.

Stages move but don't turn, so a shift is all there is to find. Everything works on
miniatures, in their pixels.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import cv2
import numpy as np
import numpy.typing as npt

from edgecell.image.peaks import refined_peak
from edgecell.image.preprocess import Image
from edgecell.image.resizing import shrink

MINIATURE_SIDE = 160
"""Longer side of a miniature: a red cell of a usual frame spans 10 to 25 pixels."""

_Floats = npt.NDArray[np.float32]

_EMPTY = 128
"""Level of a miniature where there is nothing."""

_BROAD_PX = 33
"""Side of the square whose mean is taken for the lamp's light."""

_MOST_CONTRAST = 12
"""Grey levels off the surroundings; red cells have that much."""

LEAST_LIKENESS = 0.65
"""Correlation of the shared part above which two pictures show the same place. On
train frames of TXL-PBC, all under one vignette, it was at least 0.85 for shifted,
blurred, noisy and dimmed parts of one frame, and at most 0.45 for 1,500 pairs of
different frames laid so that white cells coincide (0.91 for two that do overlap)."""

_LEAST_OVERLAP = 0.25
"""Least part of the frame that both must show."""

_SEARCH_PX = 4
_MOST_SEARCHES = 3
"""A guess is corrected by up to so much, so many times."""

_LEAST_CONTRAST = 2.0
"""Standard deviation in grey levels below which a picture shows nothing to go by."""


@dataclass(frozen=True)
class Offset:
    """Where a miniature's upper left corner lies in another one.

    Attributes:
        x: to the right, pixels of the miniatures.
        y: downwards.
        likeness: correlation coefficient of the part that both show, -1..1.
    """

    x: float
    y: float
    likeness: float


def miniature(frame: Image) -> Image:
    """The green channel, in which red cells and stain are both dark, made small.

    What is broader than cells is taken out: the lamp's vignette stays where it is when
    the stage moves. Contrast is cut off, so that a nucleus weighs no more than a red
    cell: white cells look alike, the red cells around them don't.

    Args:
        frame: uint8 BGR (H, W, 3).

    Returns:
        uint8 (h, w), 128 where there is nothing, its longer side `MINIATURE_SIDE` or,
        if less, the frame's.
    """
    green = np.asarray(cv2.extractChannel(frame, 1), np.uint8)
    small = shrink(green, MINIATURE_SIDE / max(frame.shape[:2]))
    lamp = cv2.blur(small, (_BROAD_PX, _BROAD_PX))
    detail = np.asarray(cv2.addWeighted(small, 1, lamp, -1, _EMPTY), np.uint8)
    return np.clip(detail, _EMPTY - _MOST_CONTRAST, _EMPTY + _MOST_CONTRAST)


def register(
    field: Image, image: Image, guess: tuple[float, float] = (0, 0)
) -> Offset | None:
    """Finds a miniature in another one: near a guess, else by phase correlation.

    The correlation is cyclic, so that a shift to the right by most of the width looks
    like one to the left: each reading is checked on the part that both show.

    Args:
        field: uint8 (h, w).
        image: uint8 (h, w).
        guess: (x, y) of image's upper left corner in field.

    Returns:
        The offset of image in field; None if they don't show the same place.
    """
    first, second = _centred(field), _centred(image)
    near = _check(first, second, guess)
    if near is not None:
        return near
    height, width = field.shape
    # It multiplies what it is given by the window, in place.
    copies = first.copy(), second.copy()
    (x, y), _ = cv2.phaseCorrelate(*copies, _window(width, height))
    across = -x, -x - math.copysign(width, -x)
    down = -y, -y - math.copysign(height, -y)
    readings = (_check(first, second, guess) for guess in product(across, down))
    return next(filter(None, readings), None)


@lru_cache(maxsize=1)
def _window(width: int, height: int) -> np.ndarray:
    return cv2.createHanningWindow((width, height), cv2.CV_32F)


def check(field: Image, image: Image, guess: tuple[float, float]) -> Offset | None:
    """Corrects a guessed offset, and checks that the two overlap there.

    As long as the best place lies at the edge of what was searched, the search goes on
    from there.

    Args:
        field: uint8 (h, w).
        image: uint8 (h, w).
        guess: (x, y) of image's upper left corner in field.

    Returns:
        The offset; None if the two don't show the same place, or too little of it.
    """
    return _check(_centred(field), _centred(image), guess)


def _check(
    first: _Floats, second: _Floats, guess: tuple[float, float]
) -> Offset | None:
    """`check`, of centred miniatures."""
    for _ in range(_MOST_SEARCHES):
        found = _search(first, second, guess)
        if found is None:
            return None
        moved = abs(found.x - round(guess[0])), abs(found.y - round(guess[1]))
        if max(moved) < _SEARCH_PX:
            return found
        guess = found.x, found.y
    return None


def _centred(picture: Image) -> _Floats:
    """A miniature whose empty parts are 0: OpenCV correlates bytes in double precision,
    which takes twice as long, and off the middle it loses four digits."""
    return picture.astype(np.float32) - np.float32(_EMPTY)


def _search(
    field: _Floats, image: _Floats, guess: tuple[float, float]
) -> Offset | None:
    """The best place within `_SEARCH_PX` of a guess, if it is good enough."""
    height, width = field.shape
    gx, gy = round(guess[0]), round(guess[1])
    x0, x1 = max(0, -gx), min(width, width - gx)
    y0, y1 = max(0, -gy), min(height, height - gy)
    if max(0, x1 - x0) * max(0, y1 - y0) < _LEAST_OVERLAP * height * width:
        return None
    m = _SEARCH_PX
    inner = image[y0 + m : y1 - m, x0 + m : x1 - m]
    there = field[y0 + gy : y1 + gy, x0 + gx : x1 + gx]
    if min(inner.shape) <= 2 * m or cv2.meanStdDev(inner)[1] < _LEAST_CONTRAST:
        return None
    likeness = cv2.matchTemplate(there, inner, cv2.TM_CCOEFF_NORMED)
    _, best, _, (column, row) = cv2.minMaxLoc(likeness)
    if best < LEAST_LIKENESS:
        return None
    return Offset(
        gx + refined_peak(likeness[row], column) - m,
        gy + refined_peak(likeness[:, column], row) - m,
        best,
    )
