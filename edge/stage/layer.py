"""Distinguishes the monolayer of a smear from parts that are too thick or thin.

In the monolayer red cells lie side by side and glass shows between them. Where the
smear is thick they lie on one another, and no glass is left. The camera's exposure has
to be fixed: earlier fields show what glass looks like.
"""

from collections import deque

import cv2
import numpy as np
import numpy.typing as npt

from edgecell.image.preprocess import Bgr
from edgecell.image.red_cells import (
    FOREGROUND_DENSITY,
    WORK_SIDE_PX,
    glass_colour,
    optical_density,
)
from edgecell.image.resizing import shrink

MONOLAYER, THICK, THIN = "monolayer", "too thick", "too thin"

_MOST_COVERED = 0.85
_LEAST_COVERED = 0.1
"""Share of a quarter of the field that cells cover, with what their outlines enclose.
Where two quarters are covered more the field is thick, and thin where their median is
covered less.

Of 150 frames of TXL-PBC's train half, which are of the monolayer, 4 are called thick.
With one more layer of cells multiplied onto them 101 are, with three more layers all.
"""

_REMEMBERED = 15
"""Fields of the monolayer whose glass is remembered: a lamp drifts."""

_SPECK = np.ones((3, 3), np.uint8)


class Layers:
    """Judges the fields of a slide by their glass and that of the fields before."""

    def __init__(self) -> None:
        self._glass: deque[float] = deque(maxlen=_REMEMBERED)

    def look(self, frame: Bgr) -> str:
        """Where in the smear a field lies: `MONOLAYER`, `THICK` or `THIN`.

        Args:
            frame: uint8 BGR (H, W, 3).
        """
        small = shrink(frame, min(1.0, WORK_SIDE_PX / max(frame.shape[:2])))
        glass = glass_colour(small)
        darker = float(np.exp(-FOREGROUND_DENSITY))
        if self._glass and glass[1] < darker * np.median(self._glass):
            return THICK
        shares = [covered(part, glass) for part in _quarters(small)]
        if sum(share > _MOST_COVERED for share in shares) >= 2:
            return THICK
        if np.median(shares) < _LEAST_COVERED:
            return THIN
        self._glass.append(float(glass[1]))
        return MONOLAYER


def _quarters(image: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.uint8]]:
    height, width = image.shape[0] // 2, image.shape[1] // 2
    return [
        np.ascontiguousarray(image[y : y + height, x : x + width])
        for y in (0, height)
        for x in (0, width)
    ]


def covered(image: npt.NDArray[np.uint8], glass: npt.NDArray[np.floating]) -> float:
    """Share of an image that lies within the outline of a cell or clump of cells.

    Args:
        image: uint8 BGR (h, w, 3), some 40 pixels to a red cell.
        glass: (3,), the colour of bare glass.
    """
    density = optical_density(image, glass)[..., 1]
    stained = (cv2.blur(density, (3, 3)) > FOREGROUND_DENSITY).astype(np.uint8)
    cells = np.asarray(cv2.morphologyEx(stained, cv2.MORPH_OPEN, _SPECK), np.uint8)
    outlines, _ = cv2.findContours(cells, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(cells, outlines, -1, 1, cv2.FILLED)
    return float(cells.mean())
