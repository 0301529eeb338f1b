"""How sure is sure: the temperature that makes confidences honest."""

import numpy as np
import numpy.typing as npt

from edgecell.model.probabilities import softmax
from edgecell.optional import require


def fit_temperature(logits: npt.NDArray[np.float32], y: npt.NDArray[np.int32]) -> float:
    """The temperature with the highest likelihood on held-out images.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2.

    Args:
        logits: float32 (N, C), of the exported model on the validation split.
        y: int32 (N,), true classes.

    Returns:
        Temperature, 0.05..20.
    """
    optimize = require("scipy.optimize", "train")
    rows = np.arange(len(y))

    def loss(log_t: float) -> float:
        p = softmax(logits, float(np.exp(log_t)))[rows, y]
        return float(-np.log(np.maximum(p, 1e-12)).mean())

    limit = float(np.log(20))
    found = optimize.minimize_scalar(loss, bounds=(-limit, limit), method="bounded")
    return float(np.exp(found.x))
