"""What a finder should output for a view, and its distance from that."""

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

HEAT, KNOWN, SIZE, SIZED = slice(0, 3), slice(3, 6), slice(6, 8), 8
"""Where the maps of a target lie. Heat is 1 at centres, and there alone, and falls
around them; known is 0 where nobody labelled what is there; size has logs of width and
height; sized is 1 where the size is known."""

MAPS = 9


def target(
    boxes: npt.NDArray[np.float32], known: npt.NDArray[np.float32]
) -> npt.NDArray[np.float16]:
    """Draws the maps of a view.

    Args:
        boxes: (N, 5), label and edges in pixels of the view.
        known: (3, h, w), see `KNOWN`.

    Returns:
        float16 (MAPS, h, w).
    """
    _, rows, columns = known.shape
    maps = np.zeros((MAPS, rows, columns), np.float32)
    heat, size, nearest = maps[HEAT], maps[SIZE], maps[SIZED]
    maps[KNOWN] = known
    for label, x0, y0, x1, y1 in boxes.tolist():
        width, height = x1 - x0, y1 - y0
        x, y = (x0 + x1) / 2 / CELL, (y0 + y1) / 2 / CELL
        spread_x = max(width / CELL * _SPREAD, _LEAST_SPREAD)
        spread_y = max(height / CELL * _SPREAD, _LEAST_SPREAD)
        column, row = min(int(x), columns - 1), min(int(y), rows - 1)
        left, right = _reach(column, spread_x, columns)
        top, bottom = _reach(row, spread_y, rows)
        across = (np.arange(left, right) + (0.5 - x)) / spread_x
        down = (np.arange(top, bottom) + (0.5 - y)) / spread_y
        bump = np.exp(-0.5 * (across**2 + down[:, None] ** 2)).astype(np.float32)
        own = heat[int(label), top:bottom, left:right]
        np.maximum(own, np.minimum(bump, 0.99), out=own)
        heat[int(label), row, column] = 1
        close = nearest[top:bottom, left:right]
        mine = (bump > _SIZED) & (close < bump)
        close[mine] = bump[mine]
        size[0, top:bottom, left:right][mine] = np.log(width / SIZE_UNIT)
        size[1, top:bottom, left:right][mine] = np.log(height / SIZE_UNIT)
    np.sign(nearest, out=nearest)
    return maps.astype(np.float16)


def _reach(middle: int, spread: float, length: int) -> tuple[int, int]:
    """First entry that a bump reaches, and the one after the last."""
    reach = int(3 * spread) + 1
    return max(0, middle - reach), min(length, middle + reach + 1)


def finder_loss(
    heat: torch.Tensor, size: torch.Tensor, maps: torch.Tensor
) -> torch.Tensor:
    """Penalty-reduced focal loss of the heat (CenterNet, eq. 1) and L1 of the sizes.

    Args:
        heat: float32 (N, 3, h, w), logits.
        size: float32 (N, 2, h, w).
        maps: (N, MAPS, h, w), their targets, on the same device.

    Returns:
        float32 ().
    """
    maps = maps.float()
    near, known = maps[:, HEAT], maps[:, KNOWN]
    centres = (near == 1).float()
    p = torch.sigmoid(heat).clamp(1e-4, 1 - 1e-4)
    hit = centres * (1 - p) ** 2 * torch.log(p)
    miss = (1 - centres) * (1 - near) ** 4 * p**2 * torch.log(1 - p)
    weights = known * torch.tensor(_WEIGHTS, device=heat.device).view(1, 3, 1, 1)
    places = -((hit + miss) * weights).sum() / (centres * weights).sum().clamp(min=4)
    sized = maps[:, SIZED]
    away = (size - maps[:, SIZE]).abs().sum(1) * sized
    return places + _SIZE_WEIGHT * away.sum() / sized.sum().clamp(min=1)
