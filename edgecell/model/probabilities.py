"""From logits to probabilities, for all who read them."""

import numpy as np
import numpy.typing as npt


def softmax(
    logits: npt.NDArray[np.float32], temperature: float
) -> npt.NDArray[np.float64]:
    """softmax(logits / temperature) over the last axis, in float64."""
    scaled = logits.astype(np.float64) / temperature
    e = np.exp(scaled - scaled.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True), np.float64)
