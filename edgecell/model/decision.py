"""The decision on a cell, and every reason for a person to look at it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgecell.model.microscopes.microscope import Verdict
from edgecell.model.modelfile import ModelRecord, ReviewRule
from edgecell.model.probabilities import can_be, softmax
from edgecell.morphology.words import Words, describe

LOW_CONFIDENCE = "low confidence"
SEVERAL = "several classes possible"
UNLIKE = "out of distribution"

WRONG_SIZE = "its size fits no class of the model"


RIGHT = 0.975
"""Share of the accepted validation cells that has to be right: half a point above
the 97 % that is promised, as thresholds fit the split that they are chosen on."""

ALPHAS = tuple(round(0.005 * k, 3) for k in range(1, 61))
UNLIKE_SHARE = 0.005
"""Share of the validation cells that is called unlike the training data."""
_PASSED_OVER = 0.05
"""Probability below which a class without attributes is not a rival, see `_rival`."""

NEVER = 1.0
"""The probability that a class which was never learned does not reach."""


@dataclass(frozen=True, eq=False)
class Decision:
    """The present decision on one cell; a later decision replaces it.

    Attributes:
        cell: the cell's number within the session, from 1.
        code: its class; None if no sighting of it could be classified.
        probability: of that class, 0..1; None likewise.
        reasons: why a person has to look at it; empty if it is accepted.
        votes: sightings whose logits were averaged.
        logits: float32 (C,), their mean, with minus infinity for the classes that the
            cell's size excludes; None without votes.
        same_as: the cell that this one turned out to be; it no longer counts.
    """

    cell: int
    code: str | None
    probability: float | None
    reasons: tuple[str, ...]
    votes: int
    logits: npt.NDArray[np.float32] | None
    same_as: int | None = None


def energy(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """log sum exp of the logits: low where the network has seen nothing alike.

    Liu et al., Energy-based Out-of-distribution Detection, NeurIPS 2020, eq. 4,
    negated, temperature 1.

    Args:
        logits: float (..., C).

    Returns:
        float64 (...).
    """
    x = np.asarray(logits, np.float64)
    peak = x.max(-1, keepdims=True)
    return np.asarray(np.log(np.exp(x - peak).sum(-1)) + peak[..., 0], np.float64)


def review_reasons(
    logits: npt.NDArray[np.floating], record: ModelRecord
) -> tuple[str, ...]:
    """Why a person should look at a cell.

    Args:
        logits: float (C,), of one cell; of a cell seen in several frames their mean.
        record: the model's, with its `ReviewRule`.

    Returns:
        Reasons, each of which starts with one of this module's constants; none if
        the cell is accepted. Without a rule in the model file nothing is accepted.
    """
    rule = record.review
    if rule is None:
        return (f"{LOW_CONFIDENCE} (the model file has no thresholds)",)
    reasons = []
    if float(energy(logits)) < rule.least_energy:
        reasons.append(UNLIKE)
    probabilities = softmax(np.asarray(logits, np.float32), record.temperature)
    possible = probabilities >= np.array(rule.least_probability)
    best = int(probabilities.argmax())
    others = [i for i in np.argsort(-probabilities) if possible[i] and i != best]
    if others:
        codes = ", ".join(record.codes[i] for i in (best, *others))
        reasons.append(f"{SEVERAL}: {codes}")
    elif not possible[best]:
        reasons.append(_too_low(record, best, float(probabilities[best])))
    return tuple(reasons)


def cell_words(
    record: ModelRecord,
    logits: npt.NDArray[np.floating],
    attributes: npt.NDArray[np.floating] | None,
    verdicts: Sequence[Verdict],
) -> Words | None:
    """Describes a cell in words.

    Args:
        record: the model's.
        logits: float (C,), of the cell; minus infinity for classes that its size
            excludes.
        attributes: float (V,), logits of the attributes, see `AttributeHeads.logits`;
            None if they were not computed.
        verdicts: on the microscopes that the cell may come from.

    Returns:
        The words; None where there is no ground for any, see `describe`, or if the
        cell is unlike the training data.
    """
    rule = record.review
    if rule is not None and float(energy(logits)) < rule.least_energy:
        return None
    known = [v.name if v.kind == "known" else None for v in verdicts]
    probabilities = softmax(logits, record.temperature)
    best, *others = np.argsort(-probabilities, kind="stable")
    code = record.codes[best]
    return describe(
        record.attributes,
        attributes,
        code,
        _rival(record, probabilities, others),
        known,
    )


def _rival(
    record: ModelRecord, probabilities: npt.NDArray[np.float64], others: Sequence[int]
) -> str | None:
    """The class that a cell's class is compared with in words.

    It is the most probable of the others; one without attributes is passed over if it
    is improbable, since there is nothing to compare with.
    """
    told = record.attributes.classes if record.attributes else ()
    for i in others:
        code = record.codes[i]
        if code in told or probabilities[i] >= _PASSED_OVER:
            return code
    return None


def _too_low(record: ModelRecord, best: int, probability: float) -> str:
    """Both figures, since 99 % can be too little for a class that is easily mistaken.

    Rounded apart, so that they never look equal.
    """
    assert record.review is not None
    had = math.floor(1000 * probability) / 10
    needed = math.ceil(1000 * record.review.least_probability[best]) / 10
    code = record.codes[best]
    return f"{LOW_CONFIDENCE}: {code} at {had:g} %, accepted from {needed:g} %"


def size_reasons(code: str, size_red_cells: float) -> tuple[str, ...]:
    """Why a person should look at a cell whose class and size don't go together.

    This remains only where the model knows no class that a cell of this size can have;
    otherwise `possible_classes` has removed the others.

    Args:
        code: the class that the network names.
        size_red_cells: longer side of the cell's box in red-cell diameters.
    """
    return () if can_be(code, size_red_cells) else (WRONG_SIZE,)


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
    pooled: bool = False,
) -> ReviewRule:
    """Chooses the miss rate that accepts most cells while enough of them are right.

    Args:
        logits: float32 (N, C), of the exported model on the validation split.
        y: int32 (N,), true classes.
        temperature: the exported model's.
        learned: bool (C,), classes that it was trained on. The others are never
            possible: no held-out cell shows which probability would make them possible.
        pooled: use one threshold for all classes, as if they were one class; for when
            there are too few cells for a threshold each.

    Returns:
        The rule. If no miss rate makes enough of the accepted cells right, the one
        with the largest share right.
    """
    p = softmax(logits, temperature)
    energies = energy(logits)
    least_energy = float(np.quantile(energies, UNLIKE_SHARE))
    right = p.argmax(1) == y
    own = np.take_along_axis(p, y[:, None].astype(np.intp), 1)
    rules = []
    for alpha in ALPHAS:
        each = own if pooled else p
        of = np.zeros_like(y) if pooled else y
        thresholds = conformal_thresholds(each, of, alpha)
        thresholds = np.where(learned, thresholds, NEVER)
        taken = accepted(p, thresholds) & (energies >= least_energy)
        share = float(right[taken].mean()) if taken.any() else 0.0
        rules.append((min(share, RIGHT), int(taken.sum()), alpha, thresholds))
    _, _, alpha, best = max(rules, key=lambda rule: rule[:2])
    return ReviewRule(alpha, tuple(float(t) for t in best), least_energy)
