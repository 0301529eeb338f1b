"""From logits to probabilities, for every module that needs them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgecell.classes import ERYTHROBLAST, PLATELET

# Longer sides of the boxes of whole cells, in red-cell diameters: of 376 platelets and
# 900 white cells of frames of TXL-PBC (train), and of up to 200 cells each of PBC's
# platelets, erythroblasts, lymphocytes and neutrophils (train).
SMALLEST_ERYTHROBLAST = 0.65
"""The smallest of 200 measured 0.65, a quarter less than 0.96."""

SMALLEST_WHITE_CELL = 0.95
"""The smallest of 900 measured 1.05, of 200 lymphocytes 1.11; but red cells may be
measured a tenth too large."""

LARGEST_PLATELET = 1.4
"""98 % of PBC's platelets, which are large ones, are smaller; 99 % of TXL-PBC's measure
less than 0.71. Of white cells 93 % are larger."""


def softmax(
    logits: npt.NDArray[np.floating], temperature: float
) -> npt.NDArray[np.float64]:
    """softmax(logits / temperature) over the last axis, in float64.

    A class whose logit is minus infinity has a probability of 0.
    """
    scaled = logits.astype(np.float64) / temperature
    e = np.exp(scaled - scaled.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True), np.float64)


def can_be(code: str, size_red_cells: float) -> bool:
    """Whether a cell of some size can be of a class.

    Args:
        code: the class's.
        size_red_cells: longer side of the cell's box in red-cell diameters.
    """
    if code == PLATELET:
        return size_red_cells <= LARGEST_PLATELET
    smallest = SMALLEST_ERYTHROBLAST if code == ERYTHROBLAST else SMALLEST_WHITE_CELL
    return size_red_cells >= smallest


def possible_classes(
    codes: Sequence[str], size_red_cells: float
) -> npt.NDArray[np.bool_]:
    """Which classes a cell of some size can have.

    Args:
        codes: class codes.
        size_red_cells: longer side of the cell's box in red-cell diameters.

    Returns:
        bool (C,). If the model knows none of the classes that are possible, all are:
        `decision.size_reasons` then asks a person.
    """
    possible = np.array([can_be(code, size_red_cells) for code in codes])
    return possible if possible.any() else ~possible


def only(
    logits: npt.NDArray[np.float32], possible: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float32]:
    """Logits with minus infinity for each class that is not possible.

    Args:
        logits: float32 (C,).
        possible: bool (C,), at least one True.
    """
    return np.asarray(np.where(possible, logits, -np.inf), np.float32)


HOTTEST = 20.0
"""Bound of a temperature; its inverse is the other one."""


def fit_temperature(
    logits: npt.NDArray[np.floating], sets: npt.NDArray[np.bool_]
) -> float:
    """The temperature with the highest likelihood on held-out cells.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2. Where
    the derivative of the loss by 1 / T changes its sign, found by halving.

    Args:
        logits: float (N, C), of the exported model.
        sets: bool (N, C), the classes that each cell may belong to.

    Returns:
        Temperature, 1 / `HOTTEST` to `HOTTEST`.
    """
    x = np.asarray(logits, np.float64)
    inside = np.where(sets, x, -np.inf)

    def slope(log_t: float) -> float:
        inverse = np.exp(-log_t)
        p = softmax(x, 1 / inverse)
        q = np.exp(inverse * (inside - inside.max(1, keepdims=True)))
        q /= q.sum(1, keepdims=True)
        return float(((p - q) * x).sum())

    low, high = -np.log(HOTTEST), np.log(HOTTEST)
    for _ in range(50):
        middle = (low + high) / 2
        # A positive slope in 1 / T: colder makes it worse.
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return float(np.exp((low + high) / 2))
