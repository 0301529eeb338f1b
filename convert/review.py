"""The review rule: which cells of an exported model can be taken as they are."""

import numpy as np
import numpy.typing as npt

from edgecell.model.decision import energy
from edgecell.model.modelfile import ReviewRule
from edgecell.model.probabilities import softmax

RIGHT = 0.975
"""Share of the accepted validation cells that has to be right: half a point above
the 97 % that is promised, as thresholds fit the split that they are chosen on."""

ALPHAS = tuple(round(0.005 * k, 3) for k in range(1, 61))
UNLIKE_SHARE = 0.005
"""Share of the validation cells that is called unlike the training data."""
NEVER = 1.0
"""The probability that a class which was never learned does not reach."""


def conformal_thresholds(
    probabilities: npt.NDArray[np.float64], y: npt.NDArray[np.int32], alpha: float
) -> npt.NDArray[np.float64]:
    """Class-conditional split-conformal thresholds.

    Vovk, Conditional Validity of Inductive Conformal Predictors, ACML 2012: of
    fresh cells of class c, at least 1 - alpha have a probability of c at or above
    c's threshold, the floor(alpha (n_c + 1))-th smallest among its n_c held-out
    cells.

    Args:
        probabilities: float64 (N, C), of held-out cells.
        y: int32 (N,), true classes.
        alpha: miss rate, 0..1.

    Returns:
        float64 (C,); 0 for a class with too few cells to exclude any probability.
    """
    thresholds = np.zeros(probabilities.shape[1])
    for c in range(len(thresholds)):
        scores = np.sort(probabilities[y == c, c])
        # The tolerance keeps 0.3 x 10 at three, whatever the product's last bit.
        k = int(np.floor(alpha * (len(scores) + 1) + 1e-9))
        if k:
            thresholds[c] = scores[k - 1]
    return thresholds


def accepted(
    probabilities: npt.NDArray[np.float64], thresholds: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """Whether the most probable class, and it alone, is possible: bool (N,)."""
    possible = probabilities >= thresholds
    best = np.take_along_axis(possible, probabilities.argmax(1)[:, None], 1)[:, 0]
    return np.asarray(best & (possible.sum(1) == 1))


def fit_review(
    logits: npt.NDArray[np.float32],
    y: npt.NDArray[np.int32],
    temperature: float,
    learned: npt.NDArray[np.bool_],
) -> ReviewRule:
    """Chooses the miss rate that accepts most cells while enough of them are right.

    Args:
        logits: float32 (N, C), of the exported model on the validation split.
        y: int32 (N,), true classes.
        temperature: the exported model's.
        learned: bool (C,), classes that it was trained on. The others are never
            possible: no held-out cell says from which probability on they were.

    Returns:
        The rule. If no miss rate makes enough of the accepted cells right, the one
        with the largest share right.
    """
    p = softmax(logits, temperature)
    energies = energy(logits)
    least_energy = float(np.quantile(energies, UNLIKE_SHARE))
    right = p.argmax(1) == y
    rules = []
    for alpha in ALPHAS:
        thresholds = np.where(learned, conformal_thresholds(p, y, alpha), NEVER)
        taken = accepted(p, thresholds) & (energies >= least_energy)
        share = float(right[taken].mean()) if taken.any() else 0.0
        rules.append((min(share, RIGHT), int(taken.sum()), alpha, thresholds))
    _, _, alpha, best = max(rules, key=lambda rule: rule[:2])
    return ReviewRule(alpha, tuple(float(t) for t in best), least_energy)
