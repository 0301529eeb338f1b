"""What a finder should output for a view, and its distance from that."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from edgecell.edge.find.finder import CELL, SIZE_UNIT

_SPREAD = 0.13
_LEAST_SPREAD = 0.65
"""Deviation of the heat around a centre, as a share of the cell's size and the least,
in entries of the map."""

_SIZED = 0.45
"""Heat from which an entry gives the cell's size."""

_WEIGHTS = (2.0, 0.6, 2.0)
"""Of white cells, red cells and platelets: red cells are many."""

_SIZE_WEIGHT = 0.5

Maps = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Target:
    """What a finder should output for one view.

    Attributes:
        heat: float32 (3, h, w), 1 at centres and falling around them.
        centres: float32 (3, h, w), 1 at centres alone.
        size: float32 (2, h, w), logs of width and height.
        sized: float32 (h, w), 1 where the size is known.
        known: float32 (3, h, w), 0 where nobody labelled what is there.
    """

    heat: Maps
    centres: Maps
    size: Maps
    sized: Maps
    known: Maps


def target(boxes: npt.NDArray[np.float32], known: Maps) -> Target:
    """Draws the maps of a view.

    Args:
        boxes: (N, 5), label and edges in pixels of the view.
        known: see `Target`.
    """
    _, rows, columns = known.shape
    heat, centres = np.zeros_like(known), np.zeros_like(known)
    size = np.zeros((2, rows, columns), np.float32)
    nearest = np.zeros((rows, columns), np.float32)
    for label, x0, y0, x1, y1 in boxes:
        kind, width, height = int(label), x1 - x0, y1 - y0
        x, y = (x0 + x1) / 2 / CELL, (y0 + y1) / 2 / CELL
        spread_x = max(width / CELL * _SPREAD, _LEAST_SPREAD)
        spread_y = max(height / CELL * _SPREAD, _LEAST_SPREAD)
        column, row = min(int(x), columns - 1), min(int(y), rows - 1)
        reach = int(3 * max(spread_x, spread_y)) + 1
        across = np.arange(max(0, column - reach), min(columns, column + reach + 1))
        down = np.arange(max(0, row - reach), min(rows, row + reach + 1))
        here = np.ix_(down, across)
        bump = np.exp(
            -((across + 0.5 - x) ** 2)[None] / (2 * spread_x**2)
            - ((down + 0.5 - y) ** 2)[:, None] / (2 * spread_y**2)
        ).astype(np.float32)
        heat[kind][here] = np.maximum(heat[kind][here], bump)
        centres[kind, row, column] = 1
        mine = (bump > _SIZED) & (nearest[here] < bump)
        nearest[here] = np.where(mine, bump, nearest[here])
        for axis, length in enumerate((width, height)):
            log = np.log(length / SIZE_UNIT)
            size[axis][here] = np.where(mine, log, size[axis][here])
    return Target(np.maximum(heat, centres), centres, size, np.sign(nearest), known)


def finder_loss(
    heat: torch.Tensor, size: torch.Tensor, targets: Sequence[Target]
) -> torch.Tensor:
    """Penalty-reduced focal loss of the heat (CenterNet, eq. 1) and L1 of the sizes.

    Args:
        heat: float32 (N, 3, h, w), logits.
        size: float32 (N, 2, h, w).
        targets: N of them.

    Returns:
        float32 ().
    """

    def stacked(name: str) -> torch.Tensor:
        maps = np.stack([getattr(one, name) for one in targets])
        return torch.from_numpy(maps).to(heat.device)

    centres, known = stacked("centres"), stacked("known")
    p = torch.sigmoid(heat).clamp(1e-4, 1 - 1e-4)
    hit = centres * (1 - p) ** 2 * torch.log(p)
    miss = (1 - centres) * (1 - stacked("heat")) ** 4 * p**2 * torch.log(1 - p)
    weights = known * torch.tensor(_WEIGHTS, device=heat.device).view(1, 3, 1, 1)
    places = -((hit + miss) * weights).sum() / (centres * weights).sum().clamp(min=4)
    sized = stacked("sized")
    away = (size - stacked("size")).abs().sum(1) * sized
    return places + _SIZE_WEIGHT * away.sum() / sized.sum().clamp(min=1)
