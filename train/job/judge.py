"""Accuracy of a network on packed cells, by source."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecell.classes import CODES, GROUPS
from edgecell.train.order import set_keys


@dataclass(frozen=True)
class SourceFigures:
    """Figures of one source.

    Attributes:
        n: cells.
        accuracy: share that is assigned to a class of the cell's set.
        grouped: the same with the classes of each of `GROUPS` as one.
        macro_recall: mean over the sets that occur of the share that is right.
        loss: mean of -log of the probability of the set.
    """

    n: int
    accuracy: float
    grouped: float
    macro_recall: float
    loss: float

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready copy."""
        return asdict(self)


def grouped(sets: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Widens sets (N, C) to whole groups: {BNE} becomes {BNE, SNE}."""
    wide = sets.copy()
    for codes in GROUPS.values():
        members = [CODES.index(code) for code in codes]
        wide[:, members] |= sets[:, members].any(1, keepdims=True)
    return wide


def judge(
    logits: npt.NDArray[np.float32],
    sets: npt.NDArray[np.bool_],
    sources: Sequence[str],
) -> dict[str, SourceFigures]:
    """Figures by source.

    Args:
        logits: float32 (N, C).
        sets: bool (N, C).
        sources: N names.
    """
    called = logits.argmax(1)
    every = np.arange(len(logits))
    right, group_right = sets[every, called], grouped(sets)[every, called]
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    p = np.exp(shifted)
    loss = -np.log(np.maximum((p * sets).sum(1) / p.sum(1), 1e-12))
    keys = set_keys(sets)
    figures = {}
    for source in sorted(set(sources)):
        own = np.asarray(sources) == source
        recall = [right[own & (keys == k)].mean() for k in np.unique(keys[own])]
        figures[source] = SourceFigures(
            n=int(own.sum()),
            accuracy=float(right[own].mean()),
            grouped=float(group_right[own].mean()),
            macro_recall=float(np.mean(recall)),
            loss=float(loss[own].mean()),
        )
    return figures


def attribute_accuracy(
    logits: npt.NDArray[np.float32],
    values: npt.NDArray[np.int8],
    sizes: Sequence[int],
) -> list[float]:
    """Share of the cells whose attribute is right, of those for which it is known.

    Args:
        logits: float32 (N, V), the attributes' logits side by side.
        values: int8 (N, A), indices of their values, -1 where unknown.
        sizes: A numbers of values, V together.

    Returns:
        A shares; NaN for an attribute that no cell has.
    """
    found = []
    for i, end in enumerate(np.cumsum(sizes).astype(int)):
        known = values[:, i] >= 0
        called = logits[known, end - sizes[i] : end].argmax(1)
        right = called == values[known, i]
        found.append(float(right.mean()) if known.any() else float("nan"))
    return found
