"""What a conversion cost in accuracy, and whether that is too much."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgecell.model.predict import Outputs
from edgecell.model.probabilities import softmax

_MOST_LOSERS = 5

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Comparison:
    """A converted model against the network that it was made from.

    Attributes:
        n: images.
        accuracy_before: share that the network classifies correctly.
        accuracy_after: share that the file classifies correctly.
        agreement: share on which both name the same class.
        drift_mean: mean over the images of the total variation distance between both
            probabilities, 0..1: half the sum of their absolute differences.
        drift_worst: the largest.
        map_similarity: mean Pearson correlation of both class activation maps of the
            class that the network names.
        recalls: recall before and after by class code, for the classes present.
    """

    n: int
    accuracy_before: float
    accuracy_after: float
    agreement: float
    drift_mean: float
    drift_worst: float
    map_similarity: float
    recalls: dict[str, tuple[float, float]]

    @property
    def drop(self) -> float:
        """Accuracy lost, percentage points; negative if some was won."""
        return 100 * (self.accuracy_before - self.accuracy_after)

    def losers(self) -> list[tuple[str, float, float]]:
        """Classes whose recall fell: (code, before, after), the worst first."""
        rows = [(code, *pair) for code, pair in self.recalls.items()]
        return sorted((r for r in rows if r[2] < r[1]), key=lambda r: r[2] - r[1])


def correlations(a: Floats, b: Floats) -> npt.NDArray[np.float64]:
    """Pearson correlation of each pair of maps; 1 where both are flat.

    Args:
        a: float (N, h, w).
        b: float (N, h, w).

    Returns:
        float64 (N,); 0 where one of a pair is flat.
    """
    x, y = (
        np.asarray(m, np.float64).reshape(len(m), -1)
        - np.asarray(m, np.float64).mean((1, 2))[:, None]
        for m in (a, b)
    )
    norms = np.linalg.norm(x, axis=1), np.linalg.norm(y, axis=1)
    product = norms[0] * norms[1]
    both_flat = (norms[0] == 0) & (norms[1] == 0)
    return np.asarray(
        np.where(
            product > 0,
            (x * y).sum(1) / np.maximum(product, 1e-300),
            both_flat.astype(np.float64),
        )
    )


def compare(
    before: Outputs,
    after: Outputs,
    y: npt.NDArray[np.int32],
    codes: tuple[str, ...],
    temperature: float,
) -> Comparison:
    """Compares a network's outputs with its converted file's.

    Args:
        before: the network's, for N images.
        after: the file's.
        y: int32 (N,), true class indices.
        codes: class codes.
        temperature: divides both logits.
    """
    p, q = (softmax(o.logits, temperature) for o in (before, after))
    named, renamed = p.argmax(1), q.argmax(1)
    drift = np.abs(p - q).sum(1) / 2
    rows = np.arange(len(y))
    similar = correlations(
        before.maps[rows, :, :, named], after.maps[rows, :, :, named]
    )
    recalls = {
        codes[c]: (
            float((named[y == c] == c).mean()),
            float((renamed[y == c] == c).mean()),
        )
        for c in np.unique(y)
    }
    return Comparison(
        n=len(y),
        accuracy_before=float((named == y).mean()),
        accuracy_after=float((renamed == y).mean()),
        agreement=float((named == renamed).mean()),
        drift_mean=float(drift.mean()),
        drift_worst=float(drift.max()),
        map_similarity=float(similar.mean()),
        recalls=recalls,
    )


def losers_table(comparison: Comparison) -> str:
    """The classes that lost most, as text."""
    rows = [f"{'class':<7}{'recall before':>14}{'after':>8}"]
    rows += [
        f"{code:<7}{100 * before:>14.1f}{100 * after:>8.1f}"
        for code, before, after in comparison.losers()[:_MOST_LOSERS]
    ]
    return "\n".join(rows)
