"""Where the cell in the middle of an image lies, and its nucleus."""

import cv2
import numpy as np
import numpy.typing as npt

from edgecell.image.preprocess import Rgb, to_bgr
from edgecell.image.red_cells import FOREGROUND_DENSITY, StainMaps, stain_maps

_FAINT = 0.35
"""Stain of cytoplasm as a share of the nuclear threshold; red cells are below."""

_EDGE = 0.02
"""Width of the soft edge of a cell's mask, as a share of the image's side."""


def cell_mask(image: Rgb) -> npt.NDArray[np.float32]:
    """Where the cell in the middle of an image lies.

    Args:
        image: uint8 RGB (H, W, 3).

    Returns:
        float32 (H, W), 1 on the cell, 0 around it, soft in between.
    """
    return _cell(_maps(image))


def nucleus_and_cell(
    image: Rgb,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """The nucleus and the whole cell in the middle of an image.

    Args:
        image: uint8 RGB (H, W, 3).

    Returns:
        Two masks, bool (H, W); the nucleus lies within the cell. Either may be empty.
    """
    maps = _maps(image)
    cell = _cell(maps) > 0.5
    dark = (maps.stain > maps.stain_threshold) & cell
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    nucleus = cv2.morphologyEx(dark.astype(np.uint8), cv2.MORPH_OPEN, kernel)
    return np.asarray(nucleus, np.uint8) > 0, cell


def _maps(image: Rgb) -> StainMaps:
    return stain_maps(to_bgr(image))


def _cell(maps: StainMaps) -> npt.NDArray[np.float32]:
    stained = (maps.stain > _FAINT * maps.stain_threshold) & (
        maps.density > FOREGROUND_DENSITY
    )
    height, width = stained.shape
    side = min(height, width)
    step = max(3, round(0.03 * side)) | 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (step, step))
    joined = cv2.morphologyEx(stained.astype(np.uint8), cv2.MORPH_CLOSE, kernel)
    opened = cv2.morphologyEx(joined, cv2.MORPH_OPEN, kernel)
    n, labels, stats, centroids = cv2.connectedComponentsWithStats(opened)
    mask = np.zeros((height, width), np.uint8)
    if n > 1:
        # The cell is the piece that is large and near the middle.
        away = np.hypot(*(centroids[1:] - (width / 2, height / 2)).T) / side
        area = stats[1:, cv2.CC_STAT_AREA] / side**2
        best = 1 + int(np.argmax(area * np.exp(-((away / 0.15) ** 2))))
        mask[labels == best] = 1
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(mask, contours, -1, 1, cv2.FILLED)
    grown = cv2.dilate(mask, kernel).astype(np.float32)
    soft = cv2.GaussianBlur(grown, (0, 0), _EDGE * side / 2)
    return np.asarray(soft, np.float32)
