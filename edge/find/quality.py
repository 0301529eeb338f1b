"""Checks whether a frame, and each cell in it, is good enough to be classified.

Thresholds were chosen on the *train* half of TXL-PBC's frames (every second one, 504),
those of cells on 235 cells in it and on training cells. What they do on the other half
is in ARCHITECTURE.md.
"""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edgecell.image.preprocess import Image
from edgecell.image.red_cells import STAIN, WORK_SIDE_PX, optical_density
from edgecell.image.resizing import shrink

DARK = "too dark"
BRIGHT = "too bright"
EMPTY = "empty field"
BLURRED = "out of focus"
CAST = "colour cast"
NO_COLOUR = "no colour"
SWAPPED = "red and blue swapped"
NO_SCALE = "scale not found"

ADVICE = {
    NO_COLOUR: "cells are recognised by their stain: use a colour camera, and convert "
    "raw (Bayer) frames",
    SWAPPED: "set the camera or the converter to deliver the channels in the right "
    "order",
    NO_SCALE: "measure a red cell in a frame and give its diameter with --red-cell-px",
}
"""What to do where a reason's name doesn't say it."""

_GLASS_PERCENTILE = 90.0

_LEAST_GLASS = 100.0
"""Green level of bare glass, 0..255; at least 133 in train."""

_CLIPPED_LEVEL = 250
_MOST_CLIPPED = 0.5
"""Share of the picture whose green is clipped; at most 0.001 in train, and 0.5 or more
in frames of train made twice as bright."""

_STAINED_LEVEL = 0.92
"""Darker than this part of the glass's green is stained: 0.08 in density."""

_LEAST_STAINED = 0.01
"""Share of the picture, less than one white cell; at least 0.30 in train."""

_MOST_CAST = 1.8
"""Brightest by darkest channel of the glass; at most 1.46 in train. The network is
given a balanced picture, but a channel that is nearly gone can't be balanced."""

_LEAST_COLOUR = 0.05
"""How far the channels of the most colourful hundredth of the picture are apart, by
their glass; at least 0.29 in train, and 0 in a grey or raw frame."""

_MOST_SWAPPED = 0.12
"""How much more stain the picture shows with red and blue exchanged than as it is. At
most 0.087 in train; more in 94 % of the same frames with their channels exchanged, in
which no white cell is found as one. In the others no nucleus is dark enough to tell."""

_COLOURS = np.array([STAIN, STAIN[::-1], [1, -1, 0], [0, -1, 1]], np.float32)
"""Rows: stain, stain with red and blue exchanged, and two channels less the third, as
sums of the B, G and R densities."""

# None of train's frames lies below either; of the same frames blurred by 2 pixels of
# the working image (4 % of a red cell) 95 % do, by 3 pixels 99.8 %.
_LEAST_FRAME_SHARPNESS = 0.06
_LEAST_FRAME_DETAIL = 0.06

# Lower, since one of the two microscopes that the network learned from is softer: none
# of train's cells lies below either, nor of Barcelona's, and 1 % of Munich's (1 in 85);
# of train's cells blurred by 6 % of a red cell 79 % do, by 8 % 92 %.
_LEAST_CELL_SHARPNESS = 0.056
_LEAST_CELL_DETAIL = 0.058


def frame_gate(frame: Image) -> str | None:
    """Checks whether a frame is good enough to search for cells.

    Args:
        frame: uint8 BGR (H, W, 3).

    Returns:
        The reason for which it is not, such as `BLURRED`; None if it is.
    """
    image = shrink(frame, min(1.0, WORK_SIDE_PX / max(frame.shape[:2])))
    green = image[..., 1]
    (level,) = _percentiles(green, _GLASS_PERCENTILE)
    sample = image[::2, ::2]
    glass = np.median(sample[sample[..., 1] >= level], axis=0)
    if glass[1] < _LEAST_GLASS:
        return DARK
    if _share(green >= _CLIPPED_LEVEL) > _MOST_CLIPPED:
        return BRIGHT
    if _share(green < _STAINED_LEVEL * glass[1]) < _LEAST_STAINED:
        return EMPTY
    if glass.max() > _MOST_CAST * max(glass.min(), 1.0):
        return CAST
    reason = _colour_gate(sample, glass)
    if reason is not None:
        return reason
    sharpness, detail = focus(green)
    if sharpness < _LEAST_FRAME_SHARPNESS or detail < _LEAST_FRAME_DETAIL:
        return BLURRED
    return None


def _colour_gate(sample: Image, glass: npt.NDArray[np.floating]) -> str | None:
    """Whether the channels are those of a stained film, in their order.

    Args:
        sample: uint8 BGR (h, w, 3).
        glass: (3,), B, G, R of the bare glass.
    """
    densities = optical_density(sample[::2, ::2], np.maximum(glass, 8.0))
    says = cv2.transform(densities, _COLOURS).reshape(-1, len(_COLOURS)).T
    if _high(np.abs(says[2:]).max(axis=0), 99) < _LEAST_COLOUR:
        return NO_COLOUR
    as_is, swapped = (_high(stain, 99.5) for stain in says[:2])
    return SWAPPED if swapped - as_is > _MOST_SWAPPED else None


def _high(values: npt.NDArray[np.float32], percent: float) -> float:
    """A percentile, by a partial sort."""
    rank = int(percent / 100 * (values.size - 1))
    return float(np.partition(values, rank)[rank])


def cell_gate(seen: Image) -> str | None:
    """Checks whether the network's view of a cell is good enough to classify.

    Exposure and colour are the frame's, which `frame_gate` has checked; the focus
    is the cell's own, since a smear is thicker here than there.

    Args:
        seen: uint8 RGB (S, S, 3), as `network_view` makes it.

    Returns:
        The reason for which it is not, such as `BLURRED`; None if it is.
    """
    sharpness, detail = focus(seen[..., 1])
    if sharpness < _LEAST_CELL_SHARPNESS or detail < _LEAST_CELL_DETAIL:
        return BLURRED
    return None


def focus(green: npt.NDArray[np.uint8]) -> tuple[float, float]:
    """Two measures of focus that don't depend on exposure.

    Args:
        green: uint8 (H, W), at a scale where a red cell takes some 50 pixels: finer
            detail the network doesn't see.

    Returns:
        Sharpness, the steepest second derivatives by the steepest first ones (98th
        percentiles of Laplacian and Sobel gradient), and detail, the steepest second
        derivatives (99th percentile) by the range of levels (2nd to 98th).
    """
    green = np.ascontiguousarray(green)
    second = np.abs(cv2.Laplacian(green, cv2.CV_16S))
    first = cv2.magnitude(
        cv2.Sobel(green, cv2.CV_32F, 1, 0), cv2.Sobel(green, cv2.CV_32F, 0, 1)
    )
    steep, steepest = _percentiles(second, 98, 99)
    (slope,) = _percentiles(first.astype(np.int16), 98)
    low, high = _percentiles(green, 2, 98)
    return steep / max(slope, 1), steepest / max(high - low, 1)


def _percentiles(values: npt.NDArray[np.integer[Any]], *percents: float) -> list[int]:
    """Percentiles of integers >= 0, by counting: ten times as fast as by sorting."""
    shares = np.cumsum(np.bincount(values.ravel())) / values.size
    return [int(np.searchsorted(shares, percent / 100)) for percent in percents]


def _share(mask: npt.NDArray[np.bool_]) -> float:
    return float(np.count_nonzero(mask)) / mask.size
