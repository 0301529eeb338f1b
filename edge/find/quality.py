"""Whether a frame, and each cell in it, is fit to be judged.

Thresholds were chosen on the *train* half of TXL-PBC's frames (every second one, 504),
those of cells on 235 cells in it and on training cells. What they do on the other half
stands in ARCHITECTURE.md.
"""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edgecell.image.preprocess import Image
from edgecell.image.red_cells import WORK_SIDE_PX, shrink

DARK = "too dark"
BRIGHT = "too bright"
EMPTY = "empty field"
BLURRED = "out of focus"
CAST = "colour cast"
NO_COLOUR = "no colour"
SWAPPED = "red and blue swapped"
NO_SCALE = "scale not found"
REASONS = (DARK, BRIGHT, EMPTY, BLURRED, CAST, NO_COLOUR, SWAPPED, NO_SCALE)

ADVICE = {
    NO_COLOUR: "stains are told by colour: use a colour camera, and neither a grey "
    "nor a raw (Bayer) format",
    SWAPPED: "set the camera or pipeline to BGR where it sends RGB, or the other way",
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

_LEAST_COLOUR = 0.02
"""Density of the stain in green beyond that in red or blue, whichever absorbs less; at
least 0.07 in train, and 0 in grey frames."""

_MOST_SWAPPED = 0.15
"""How much bluer light stain is than the darkest. Red cells absorb more blue than
nuclei do, so it is at most 0.11 in train; swapped, 82 % of its frames exceed this."""

_DARKEST = 0.98

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
    """Looks whether a frame is worth looking for cells.

    Args:
        frame: uint8 BGR (H, W, 3).

    Returns:
        One of `REASONS` for which it is not; None if it is.
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
    colour, blueness = stain_colours(sample, glass)
    if colour < _LEAST_COLOUR:
        return NO_COLOUR
    if blueness > _MOST_SWAPPED:
        return SWAPPED
    sharpness, detail = focus(green)
    if sharpness < _LEAST_FRAME_SHARPNESS or detail < _LEAST_FRAME_DETAIL:
        return BLURRED
    return None


def stain_colours(
    sample: npt.NDArray[np.uint8], glass: npt.NDArray[np.float64]
) -> tuple[float, float]:
    """Two measures of a stain's colours, whatever the lamp's.

    Args:
        sample: uint8 BGR (H, W, 3), some of it stained.
        glass: float64 (3,), B, G, R: bare glass.

    Returns:
        The mean density in green beyond that in red or blue, whichever is less, and how
        much the lighter half's density in red exceeds that in blue, compared with the
        darkest parts: below 0 where red cells are red and nuclei blue.
    """
    levels = np.arange(256, dtype=np.float32)
    tables = [-np.log(np.clip(levels / max(g, 1.0), 0.02, 1.2)) for g in glass]
    stained = sample[..., 1] < _STAINED_LEVEL * glass[1]
    blue, green, red = (tables[i][sample[..., i][stained]] for i in range(3))
    colour = green.mean() - min(red.mean(), blue.mean())
    darkest, middle = np.quantile(green, (_DARKEST, 0.5))
    excess = red - blue
    light, dark = excess[green <= middle].mean(), excess[green >= darkest].mean()
    return float(colour), float(light - dark)


def cell_gate(seen: Image) -> str | None:
    """Looks whether the network's view of a cell is worth classifying.

    Exposure and colour are the frame's, which `frame_gate` has looked at; the focus
    is the cell's own, since a smear is thicker here than there.

    Args:
        seen: uint8 RGB (S, S, 3), as `network_view` makes it.

    Returns:
        One of `REASONS` for which it is not; None if it is.
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
