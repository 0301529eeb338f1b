"""Chooses the cells of a batch."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from edgecell.errors import InputError
from edgecell.train.order import set_keys


def draw_weights(
    sources: Sequence[str],
    sets: npt.NDArray[np.bool_],
    shares: Mapping[str, float],
    balance: float,
) -> npt.NDArray[np.float64]:
    """The probability with which each cell is drawn.

    Args:
        sources: N names of sources.
        sets: bool (N, C), the cells' sets of classes; within a source each set that
            occurs counts as one class.
        shares: share of the draws by source, in per cent if not all sources are named.
            Those that aren't get their share of all cells; 0 leaves a source out.
        balance: classes are drawn in proportion to their size to the power of
            1 - balance: 0 as they come, 1 equally often.

    Returns:
        float64 (N,), sum 1.

    Raises:
        InputError: a share is negative, names a source that has no cell, or leaves
            nothing to draw.
    """
    names = np.asarray(sources)
    present = set(sources)
    for source, share in shares.items():
        if share < 0 or source not in present:
            raise InputError(
                f"cannot draw {share:g} from {source}; sources with cells to train on "
                f"are {', '.join(sorted(present))}"
            )
    weights = np.zeros(len(names))
    keys = set_keys(sets)
    for source in present:
        own = names == source
        sizes = np.bincount(keys[own])
        each = sizes[keys[own]] ** -float(balance)
        share = shares.get(source, 100.0 * own.mean())
        weights[own] = share * each / each.sum()
    if not weights.sum() > 0:
        raise InputError("no source is left to draw cells from")
    return np.asarray(weights / weights.sum())
