"""Stain densities of a picture, and the size of red cells by their outlines.

Everything here works on a picture made small (a *working image*), because colour and
size survive reduction. Lengths are in pixels of whatever image is passed in. In frames
`edgecell.edge.find` finds red cells; here they are measured in single-cell images.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecell.image.peaks import refined_peak
from edgecell.image.resizing import resized

WORK_SIDE_PX = 256
"""Long side of the first working image; in it usual red cells are 38-90 px across."""

_SURE_PX = (40.0, 80.0)
_BEST_PX = 55.0
"""Red cells that measure less or more in a working image are measured again in one
where they take `_BEST_PX`. On the train half 63 to 97 % of those of 22 to 30 px were
measured within 15 %, and 94 to 99 % of those between 38 and 80 px."""

_MOST_ENLARGED = 2.0
"""Red cells down to some 12 pixels are enlarged to be measured."""

FOREGROUND_DENSITY = 0.08
"""Green density (natural log) above which a pixel is not bare glass."""

STAIN_FLOOR = 0.22
"""Least stain of a nucleus: a fifth of the label box exceeds it in 99 % of the white
cells of the train half."""

SMALLEST_FRAME_PX = 16
"""Frames smaller than this on a side hold no cell that could be measured."""

STAIN_CEILING = 0.45
"""A heavily stained cell must not hide a pale one beside it."""

_BACKGROUND_PERCENTILE = 90.0
_DARKEST_LEVEL = 8
_KERNEL = (7, 7)
"""2.5 standard deviations to each side; OpenCV's default costs half as much again."""

STAIN = (-1.25, 1.0, -0.3)
_DENSITIES = np.array([STAIN, [0.5, 1.0, 0.0]], np.float32)
"""Rows: stain and cell density as sums of the B, G and R densities.

Nuclei are dark in green and bright in blue, red cells dark in both, and badly
lit red cells dark in red too; the weights part the two best on the train half
over all four microscopes."""

_STEP = 1.1
_RADII_PX = 4.0 * _STEP ** np.arange(18)
"""Radii tried, in pixels of the halved working image: diameters 16-80 px."""

_BIN_PX = 2
_BLUR_PER_RADIUS = 0.25
_RADIUS_EXPONENT = 0.95
"""Takes out the growth of chance agreement with the radius (train)."""

_BOX_PER_CIRCLE = 1.19
"""Side of a red cell's label box by twice the voted radius (train, median)."""

_LEAST_OUTLINE_POINTS = 30
_LEAST_RED_CONTRAST = 0.05
_LEAST_AGREEMENT = 0.4
"""Votes in the best place, about 1 for a full circle; at least 0.52 on the train
half. Below it there are no red cells."""

_SUPPORT = 0.3
_LEAST_SUPPORTED = 0.12
"""Least share of the outline that votes for a place with `_SUPPORT` more than the mean
place has, in the units of `_LEAST_AGREEMENT`. On the train half and on mosaics of it
the first percentile of right measurements was 0.18; of those in working
images that were too fine, which show parts of cells, 95 % lay below 0.11."""


@dataclass(frozen=True)
class StainMaps:
    """What the colours of a working image reveal.

    Attributes:
        stain: float32 (H, W), natural-log units; about 0 for glass and red
            cells, 0.25 to 1.5 for nuclei.
        density: float32 (H, W), natural-log units; 0 for glass, above 0 for any
            cell.
        stain_threshold: stain above which a pixel is nucleus.
    """

    stain: NDArray[np.float32]
    density: NDArray[np.float32]
    stain_threshold: float


def otsu_level(values: NDArray[np.float32], low: float, high: float) -> float:
    """Otsu's threshold of the values, searched in 255 steps from low to high."""
    if values.size == 0:
        return high
    steps = np.clip((values - low) * (255.0 / (high - low)), 0, 255).astype(np.uint8)
    level, _ = cv2.threshold(steps.reshape(1, -1), 0, 255, cv2.THRESH_OTSU)
    return low + float(level) * (high - low) / 255.0


def stain_maps(image: NDArray[np.uint8]) -> StainMaps:
    """Stain and density of each pixel, relative to the image's own bright glass.

    Args:
        image: uint8 BGR (H, W, 3).
    """
    densities = optical_density(image, glass_colour(image))
    sums = cv2.transform(densities, _DENSITIES)
    stain = np.asarray(cv2.GaussianBlur(sums[..., 0], _KERNEL, 1.2), np.float32)
    density = np.asarray(cv2.GaussianBlur(sums[..., 1], _KERNEL, 1.0), np.float32)
    sample = densities[::2, ::2, 1] > FOREGROUND_DENSITY
    level = 0.9 * otsu_level(stain[::2, ::2][sample], -0.2, 1.0)
    threshold = float(np.clip(level, STAIN_FLOOR, STAIN_CEILING))
    return StainMaps(stain, density, threshold)


def glass_colour(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Colour of the bare glass: median of the tenth that is brightest in green.

    Args:
        image: uint8 BGR (H, W, 3).

    Returns:
        float32 (3,), B, G, R; at least 8, so that it can be divided by.
    """
    sample = image[::4, ::4].reshape(-1, 3)
    bright = sample[:, 1] >= np.percentile(sample[:, 1], _BACKGROUND_PERCENTILE)
    colour = np.median(sample[bright], axis=0)
    return np.asarray(np.maximum(colour, _DARKEST_LEVEL), np.float32)


def optical_density(
    image: NDArray[np.uint8], glass: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Natural log of the glass's light by each pixel's, for each channel.

    Args:
        image: uint8 (H, W, 3).
        glass: (3,), the colour of bare glass, in the image's channel order.

    Returns:
        float32 (H, W, 3); 0 for glass.
    """
    levels = np.maximum(np.arange(256, dtype=np.float32), _DARKEST_LEVEL)
    table = np.log(glass)[None, None, :] - np.log(levels)[None, :, None]
    return np.asarray(cv2.LUT(image, np.ascontiguousarray(table, np.float32)))


def red_cell_diameter(frame: NDArray[np.uint8]) -> float | None:
    """Median diameter of the red cells of a small field, as around a single cell.

    The picture is first made small, then twice that size and so on, until its red cells
    are large enough to be measured.

    Args:
        frame: uint8 BGR (H, W, 3).

    Returns:
        Diameter in pixels of the frame, or None if no red cells were found.
    """
    longest = float(max(frame.shape[:2]))
    if min(frame.shape[:2]) < SMALLEST_FRAME_PX:
        return None
    side = WORK_SIDE_PX
    coarse: float | None = None
    while True:
        scale = min(_MOST_ENLARGED, side / longest)
        found = _measured(frame, scale)
        if found is not None:
            best = min(_MOST_ENLARGED, scale * _BEST_PX / found)
            if _SURE_PX[0] <= found <= _SURE_PX[1] or best == scale:
                return found / scale
            again = _measured(frame, best)
            if again is not None:
                return again / best
            coarse = found / scale
        if scale == _MOST_ENLARGED:
            return coarse
        side *= 2


def _measured(frame: NDArray[np.uint8], scale: float) -> float | None:
    """Median red cell diameter in a working image, in its pixels."""
    return measure_red_cells(stain_maps(resized(frame, scale)))


def measure_red_cells(maps: StainMaps) -> float | None:
    """Median red cell diameter in pixels of the working image.

    Each point on a cell's outline votes for centres along its inward normal, at
    a range of radii. At the red cells' own radius the votes of one outline meet
    in one place. Cells that overlap, have pale centres or are cut by the border
    still vote correctly with their visible arcs.
    """
    density, nuclei = _halved(maps)
    points, normals = _outline(density, nuclei)
    if len(points) < _LEAST_OUTLINE_POINTS:
        return None
    height, width = density.shape
    counts = _vote(points, normals, height, width)
    sharpness = np.empty(len(_RADII_PX))
    agreement = np.empty(len(_RADII_PX))
    for index, radius in enumerate(_RADII_PX):
        sigma = _blur(radius)
        votes = _blurred(counts[index], sigma)
        sharpness[index] = np.sqrt((votes * votes * votes).sum()) / sigma
        agreement[index] = votes.max() / radius
    curve = np.log(sharpness + 1e-9) - _RADIUS_EXPONENT * np.log(_RADII_PX)
    best = refined_peak(curve, int(np.argmax(curve)))
    at_an_end = not 0 < best < len(_RADII_PX) - 1
    if at_an_end or agreement[round(best)] < _LEAST_AGREEMENT:
        return None
    if _supported(points, normals, counts, round(best)) < _LEAST_SUPPORTED:
        return None
    return float(4.0 * _RADII_PX[0] * _STEP**best * _BOX_PER_CIRCLE)


def _blur(radius: float) -> float:
    """Sigma, in bins, within which votes for one centre are combined."""
    return max(0.5, _BLUR_PER_RADIUS * float(radius) / _BIN_PX)


def _blurred(counts: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Votes in and near each place, so that those of a full circle reach its radius."""
    return np.asarray(cv2.GaussianBlur(counts, (0, 0), sigma) * sigma**2, np.float32)


def _supported(
    points: NDArray[np.float32],
    normals: NDArray[np.float32],
    counts: NDArray[np.float32],
    index: int,
) -> float:
    """Share of the outline whose vote at a radius falls where many others do."""
    radius = float(_RADII_PX[index])
    votes = _blurred(counts[index], _blur(radius)) / radius
    x, y = _bins(points, normals, radius, votes.shape)
    return float(np.mean(votes[y, x] > _SUPPORT + votes[1:-1, 1:-1].mean()))


def _halved(maps: StainMaps) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Density and nuclei (with a margin) at half the working resolution."""
    height, width = maps.density.shape
    size = (max(1, width // 2), max(1, height // 2))
    density = cv2.resize(maps.density, size, interpolation=cv2.INTER_AREA)
    stain = cv2.resize(maps.stain, size, interpolation=cv2.INTER_AREA)
    nuclei = (stain > maps.stain_threshold).astype(np.uint8)
    widened = cv2.dilate(nuclei, np.ones((5, 5), np.uint8))
    return np.asarray(density, np.float32), np.asarray(widened, np.uint8) > 0


def _outline(
    density: NDArray[np.float32], nuclei: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Points on the edge of the red cells and unit normals into the cells.

    Returns:
        Two float32 arrays (N, 2), each row (x, y).
    """
    level = 0.8 * otsu_level(density[~nuclei], 0.0, 0.8)
    if level < _LEAST_RED_CONTRAST:
        return np.empty((0, 2), np.float32), np.empty((0, 2), np.float32)
    inside = (density > level).astype(np.uint8)
    edge = (inside > cv2.erode(inside, np.ones((3, 3), np.uint8))) & ~nuclei
    edge[[0, -1]] = False
    edge[:, [0, -1]] = False
    y, x = np.nonzero(edge)
    slope_x = cv2.Sobel(density, cv2.CV_32F, 1, 0, ksize=3)[y, x]
    slope_y = cv2.Sobel(density, cv2.CV_32F, 0, 1, ksize=3)[y, x]
    slopes = np.stack([slope_x, slope_y], axis=1)
    normals = slopes / (np.hypot(slope_x, slope_y)[:, None] + 1e-6)
    return np.stack([x, y], axis=1).astype(np.float32), normals.astype(np.float32)


def _vote(
    points: NDArray[np.float32], normals: NDArray[np.float32], height: int, width: int
) -> NDArray[np.float32]:
    """Counts, for each radius, how many outline points name each place as centre.

    Returns:
        float32 (radii, rows, columns), places in bins with a margin of one.
    """
    rows, columns = height // _BIN_PX + 3, width // _BIN_PX + 3
    radii = _RADII_PX.astype(np.float32)[:, None, None]
    x, y = _bins(points, normals, radii, (rows, columns))
    layer = np.arange(len(_RADII_PX), dtype=np.int32)[:, None]
    flat = ((layer * rows + y) * columns + x).ravel()
    counts = np.bincount(flat, minlength=len(_RADII_PX) * rows * columns)
    counts = counts.reshape(len(_RADII_PX), rows, columns).astype(np.float32)
    # the margin has gathered every vote from outside the image
    counts[:, [0, -1]] = 0.0
    counts[:, :, [0, -1]] = 0.0
    return np.asarray(counts, np.float32)


def _bins(
    points: NDArray[np.float32],
    normals: NDArray[np.float32],
    radius: float | NDArray[np.float32],
    shape: tuple[int, ...],
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Column and row of the bin that each outline point names as its centre."""
    bins = ((points + radius * normals) / _BIN_PX + 1.5).astype(np.int32)
    rows, columns = shape
    return (
        np.clip(bins[..., 0], 0, columns - 1),
        np.clip(bins[..., 1], 0, rows - 1),
    )
