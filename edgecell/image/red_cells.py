"""Stain densities of a frame and the size of its red cells.

Everything here works on a frame made small (a *working image*), because cells
are found by colour and size and both survive reduction. Lengths are in pixels of
whatever image is passed in.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

WORK_SIDE_PX = 256
"""Long side of the first working image; red cells were 38-80 px in it (train)."""

RED_CELL_WORK_PX = 48.0
"""Diameter that red cells are brought to when the frame's scale is known."""

SMALLEST_RED_CELL_PX = 22.0
"""Below this diameter the working image is too coarse and is doubled."""

LARGEST_WORK_SIDE_PX = 1024
"""The working image is never doubled beyond this: a blank frame must end."""

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
_DENSITIES = np.array([[-1.25, 1.0, -0.3], [0.5, 1.0, 0.0]], np.float32)
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


@dataclass(frozen=True)
class StainMaps:
    """What the colours of a working image say.

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


def shrink(frame: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    """Makes a frame smaller; never larger.

    Halving by 2x2 means and one bilinear step for the rest costs a fifth of area
    averaging in one go and is as free of aliasing.
    """
    height, width = frame.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    while frame.shape[0] >= 2 * size[1] and frame.shape[1] >= 2 * size[0]:
        half = (frame.shape[1] // 2, frame.shape[0] // 2)
        even = frame[: 2 * half[1], : 2 * half[0]]
        frame = np.asarray(cv2.resize(even, half, interpolation=cv2.INTER_AREA))
    if scale >= 1.0 or frame.shape[:2] == size[::-1]:
        return frame
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR))


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
    densities = cv2.LUT(image, _density_table(_glass_colour(image)))
    sums = cv2.transform(densities, _DENSITIES)
    stain = np.asarray(cv2.GaussianBlur(sums[..., 0], (0, 0), 1.2), np.float32)
    density = np.asarray(cv2.GaussianBlur(sums[..., 1], (0, 0), 1.0), np.float32)
    sample = densities[::2, ::2, 1] > FOREGROUND_DENSITY
    level = 0.9 * otsu_level(stain[::2, ::2][sample], -0.2, 1.0)
    threshold = float(np.clip(level, STAIN_FLOOR, STAIN_CEILING))
    return StainMaps(stain, density, threshold)


def _glass_colour(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Median BGR of the tenth of the pixels that is brightest in green."""
    sample = image[::4, ::4].reshape(-1, 3)
    bright = sample[:, 1] >= np.percentile(sample[:, 1], _BACKGROUND_PERCENTILE)
    colour = np.median(sample[bright], axis=0)
    return np.asarray(np.maximum(colour, _DARKEST_LEVEL), np.float32)


def _density_table(glass: NDArray[np.float32]) -> NDArray[np.float32]:
    """Optical density for each level and channel, float32 (1, 256, 3)."""
    levels = np.maximum(np.arange(256, dtype=np.float32), _DARKEST_LEVEL)
    table = np.log(glass)[None, None, :] - np.log(levels)[None, :, None]
    return np.ascontiguousarray(table, np.float32)


def red_cell_diameter(frame: NDArray[np.uint8]) -> float | None:
    """Median diameter of the red cells of a frame.

    Args:
        frame: uint8 BGR (H, W, 3).

    Returns:
        Diameter in pixels of the frame, or None if no red cells were found.
    """
    if min(frame.shape[:2]) < SMALLEST_FRAME_PX:
        return None
    _, scale, diameter = working_maps(frame)
    return None if diameter is None else diameter / scale


def working_maps(
    frame: NDArray[np.uint8],
) -> tuple[StainMaps, float, float | None]:
    """Finds the reduction at which red cells are large enough to measure.

    Returns:
        The maps of the working image, its scale (working pixels per frame pixel)
        and the red cell diameter in working pixels, None if not found.
    """
    side = WORK_SIDE_PX
    while True:
        scale = min(1.0, side / max(frame.shape[:2]))
        maps = stain_maps(shrink(frame, scale))
        diameter = measure_red_cells(maps)
        fine_enough = diameter is not None and diameter >= SMALLEST_RED_CELL_PX
        if fine_enough or scale == 1.0 or side >= LARGEST_WORK_SIDE_PX:
            return maps, scale, diameter
        side *= 2


def measure_red_cells(maps: StainMaps) -> float | None:
    """Median red cell diameter in pixels of the working image.

    Each point on a cell's outline votes for centres along its inward normal, at
    a range of radii. At the red cells' own radius the votes of one outline meet
    in one place. Cells that overlap, have pale centres or are cut by the border
    still vote rightly with the arcs that can be seen.
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
        sigma = max(0.5, _BLUR_PER_RADIUS * radius / _BIN_PX)
        votes = cv2.GaussianBlur(counts[index], (0, 0), sigma) * sigma**2
        sharpness[index] = np.sqrt((votes * votes * votes).sum()) / sigma
        agreement[index] = votes.max() / radius
    best = _peak(np.log(sharpness + 1e-9) - _RADIUS_EXPONENT * np.log(_RADII_PX))
    at_an_end = not 0 < best < len(_RADII_PX) - 1
    if at_an_end or agreement[round(best)] < _LEAST_AGREEMENT:
        return None
    return float(4.0 * _RADII_PX[0] * _STEP**best * _BOX_PER_CIRCLE)


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
    bins = ((points + radii * normals) / _BIN_PX + 1.5).astype(np.int32)
    x = np.clip(bins[..., 0], 0, columns - 1)
    y = np.clip(bins[..., 1], 0, rows - 1)
    layer = np.arange(len(_RADII_PX), dtype=np.int32)[:, None]
    flat = ((layer * rows + y) * columns + x).ravel()
    counts = np.bincount(flat, minlength=len(_RADII_PX) * rows * columns)
    counts = counts.reshape(len(_RADII_PX), rows, columns).astype(np.float32)
    # the margin has gathered every vote from outside the image
    counts[:, [0, -1]] = 0.0
    counts[:, :, [0, -1]] = 0.0
    return np.asarray(counts, np.float32)


def _peak(curve: NDArray[np.float64]) -> float:
    """Index of the maximum, refined by a parabola through its neighbours."""
    index = int(np.argmax(curve))
    if index in (0, len(curve) - 1):
        return float(index)
    before, here, after = curve[index - 1 : index + 2]
    bend = before - 2.0 * here + after
    return index + (0.5 * (before - after) / bend if bend < 0 else 0.0)
