"""Splits a frame that is too large into tiles."""

import itertools
import math
from dataclasses import dataclass

from edgecell.image.records import Box


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
