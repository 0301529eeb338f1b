"""Searches a frame that is too large for one look tile by tile."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecell.image.preprocess import Bgr
from edgecell.image.records import Box

_TILE = 20.0
_TILE_MARGIN = 3.0
"""Longest side of a tile's core, and what it sees beyond, in red-cell diameters: memory
for a tile stays bounded, and the largest white cells are 2.4 across."""

_SEAM = 0.25
"""A cell whose centre lies no farther beyond the seam, in red-cell diameters, may be
missing from the other tile, which sees it with other surroundings."""

_SAME_CELL = 0.35
"""Two tiles' detections are one cell if their centres are no farther apart than this
part of the larger one's longer side."""


@dataclass(frozen=True)
class Detection:
    """A cell found in a frame.

    Attributes:
        box: the whole cell, in pixels of the frame.
        kind: "white" (white cells and erythroblasts) or "platelet".
        cut_by_border: touches the frame's edge; to be left out of counts.
        score: 0..1, the model's belief that this is what kind says.
    """

    box: Box
    kind: str
    cut_by_border: bool
    score: float


@dataclass(frozen=True)
class Tile:
    """A part of a frame.

    Attributes:
        core: the tile's own share; the cores of all tiles fill the frame.
        whole: the core and a margin around it that other tiles see, too, so that a cell
            on the seam is seen whole.
    """

    core: Box
    whole: Box

    def owns(self, centre: tuple[float, float], slack: float) -> bool:
        """Whether a point lies in the core or at most ``slack`` outside it."""
        (x, y), core = centre, self.core
        return (
            core.x0 - slack <= x < core.x1 + slack
            and core.y0 - slack <= y < core.y1 + slack
        )


def tiles(shape: tuple[int, ...], side: float, margin: float) -> list[Tile]:
    """Divides a frame into equal tiles.

    Args:
        shape: (H, W, ...) of the frame.
        side: longest side of a core, pixels.
        margin: what is added around a core, pixels.

    Returns:
        The tiles, row by row; one that is the whole frame where that is small enough.
    """
    rows, columns = _cuts(shape[0], side), _cuts(shape[1], side)
    reach = math.ceil(margin)
    return [
        Tile(
            Box(x0, y0, x1, y1),
            Box(
                max(0, x0 - reach),
                max(0, y0 - reach),
                min(shape[1], x1 + reach),
                min(shape[0], y1 + reach),
            ),
        )
        for y0, y1 in itertools.pairwise(rows)
        for x0, x1 in itertools.pairwise(columns)
    ]


def _cuts(length: int, side: float) -> list[int]:
    """Where a length is cut into equal parts of at most ``side``."""
    parts = max(1, math.ceil(length / side))
    return [round(i * length / parts) for i in range(parts + 1)]


def in_tiles(
    frame: NDArray[np.uint8],
    diameter: float,
    look: Callable[[Bgr, Box], list[Detection]],
) -> list[Detection]:
    """Searches a frame tile by tile, and returns each cell once.

    Args:
        frame: uint8 BGR (H, W, 3).
        diameter: of its red cells, pixels.
        look: finds the cells of a part, (h, w, 3), in pixels of the frame, given where
            in the frame the part lies.

    Returns:
        Detections by descending score.
    """
    found: list[Detection] = []
    for tile in tiles(frame.shape, _TILE * diameter, _TILE_MARGIN * diameter):
        part = frame[tile.whole.y0 : tile.whole.y1, tile.whole.x0 : tile.whole.x1]
        others = tuple(found)
        found += [
            detection
            for detection in look(Bgr(part), tile.whole)
            if tile.owns(detection.box.centre, _SEAM * diameter)
            and not any(_is_same(detection, other) for other in others)
        ]
    return sorted(found, key=lambda detection: detection.score, reverse=True)


def _is_same(one: Detection, other: Detection) -> bool:
    """Whether two tiles found the same cell."""
    longest = max(one.box.width, one.box.height, other.box.width, other.box.height)
    return math.dist(one.box.centre, other.box.centre) <= _SAME_CELL * longest
