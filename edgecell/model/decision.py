"""What is decided about a cell, and every reason for a person to look at it."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgecell.model.modelfile import ModelRecord
from edgecell.model.probabilities import can_be, softmax

LOW_CONFIDENCE = "low confidence"
SEVERAL = "several classes possible"
UNLIKE = "out of distribution"

WRONG_SIZE = "its size fits no class of the model"


@dataclass(frozen=True, eq=False)
class Decision:
    """What is decided about one cell at present; a later decision replaces it.

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

    That is left where the model knows no class that a cell of this size can have: else
    `possible_classes` has taken the others out.

    Args:
        code: the class that the network names.
        size_red_cells: longer side of the cell's box in red-cell diameters.
    """
    return () if can_be(code, size_red_cells) else (WRONG_SIZE,)
