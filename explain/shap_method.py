"""SHAP by the shap package: on LIME's segments, and on the image's own partition."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecell.explain.perturb import Hider, log_odds
from edgecell.explain.segments import cell_segments
from edgecell.image.preprocess import Rgb
from edgecell.model.classifier import Classifier
from edgecell.optional import require

_EVALUATIONS = 256
"""As many as LIME takes at most."""

_BLUR = 4
"""Hidden parts are blurred over the image's side divided by this."""


def kernel_shap(
    classifier: Classifier, seen: Rgb, index: int, seed: int
) -> tuple[npt.NDArray[np.float32], dict[str, float]]:
    """Kernel SHAP (Lundberg and Lee, NeurIPS 2017) on the segments that LIME uses.

    Args:
        classifier: the model.
        seen: uint8 RGB (S, S, 3), the cell.
        index: the class to explain, by its log-odds.
        seed: of the coalitions.

    Returns:
        float32 (S, S), the Shapley value of each pixel's segment; and scores:
        evaluations, segments, and efficiency (see `_efficiency`).

    Raises:
        MissingPackageError: shap or scikit-image is not installed.
    """
    shap = require("shap", "shap")
    segments = cell_segments(seen)
    hider = Hider(classifier, seen, segments, index)

    def value(kept: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        return hider(kept > 0.5)

    with _seeded(seed):
        explainer = shap.KernelExplainer(value, np.zeros((1, hider.count)))
        values = explainer.shap_values(
            np.ones((1, hider.count)),
            nsamples=_EVALUATIONS,
            l1_reg=0,
            silent=True,
        )[0]
    both = hider(np.array([[True], [False]]).repeat(hider.count, 1))
    scores = {
        "evaluations": float(hider.evaluations),
        "segments": float(hider.count),
        "efficiency": _efficiency(values, both),
    }
    return np.asarray(values[segments], np.float32), scores


def partition_shap(
    classifier: Classifier, seen: Rgb, index: int, seed: int
) -> tuple[npt.NDArray[np.float32], dict[str, float]]:
    """Owen values of the image, halved again and again (shap's Partition explainer).

    Args:
        classifier: the model.
        seen: uint8 RGB (S, S, 3), the cell.
        index: the class to explain, by its log-odds.
        seed: of the order among equals.

    Returns:
        float32 (S, S), the value of each pixel; and scores: evaluations, and
        efficiency (see `_efficiency`).

    Raises:
        MissingPackageError: shap is not installed.
    """
    shap = require("shap", "shap")
    evaluations = 0

    def value(images: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        nonlocal evaluations
        evaluations += len(images)
        pixels = np.asarray(np.rint(images), np.uint8)
        return log_odds(classifier.fine_logits(pixels), index)

    blur = len(seen) // _BLUR
    masker = shap.maskers.Image(f"blur({blur},{blur})", seen.shape)
    explainer = shap.PartitionExplainer(value, masker)
    with _seeded(seed):
        found = explainer(
            seen[None],
            max_evals=_EVALUATIONS,
            batch_size=64,
            silent=True,
        )
    values = found.values[0].reshape(*seen.shape).sum(-1)
    both = np.array([found.base_values[0] + values.sum(), found.base_values[0]])
    both[0] = value(seen[None])[0]
    scores = {
        "evaluations": float(evaluations),
        "efficiency": _efficiency(values, both),
    }
    return np.asarray(values, np.float32), scores


def _efficiency(
    values: npt.NDArray[np.float64], outputs: npt.NDArray[np.float64]
) -> float:
    """Shapley's axiom: values sum to the output with all less that with nothing.

    Returns:
        |sum - difference|, in log-odds: 0 but for rounding.
    """
    return float(abs(values.sum() - (outputs[0] - outputs[1])))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seeds numpy's global generator, the one that shap draws from, for a while."""
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)
