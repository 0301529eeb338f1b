"""Which cells a person has to look at: the conformal rule of the model file."""

import numpy as np
import numpy.typing as npt

from edgecell.model.modelfile import ModelRecord
from edgecell.model.probabilities import softmax

LOW_CONFIDENCE = "low confidence"
SEVERAL = "several classes possible"
UNLIKE = "out of distribution"


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
        reasons.append(LOW_CONFIDENCE)
    return tuple(reasons)
