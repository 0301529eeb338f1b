"""Every explanation of a cell, by name: which pixels speak for a class.

The device's own (class activation maps) need numpy and OpenCV; LIME and SHAP import
their packages when they are called.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgecell.errors import InputError, ModelError
from edgecell.explain.lime_method import lime
from edgecell.explain.shap_method import kernel_shap, partition_shap
from edgecell.image.preprocess import Rgb
from edgecell.model import cam
from edgecell.model.classifier import Classifier, Prediction, map_residuals
from edgecell.model.graph import head_weights

Heat = npt.NDArray[np.float32]
Scores = dict[str, float]
Method = Callable[[Classifier, Rgb, int, int], tuple[Heat, Scores]]


_RESIDUAL_STEPS = 8
"""Quantisation steps of the logits by which a class's map and logit may differ. In the
test split it was 5.6 at most for the class that the model named (2.5 in all but one of
3,258 cells): an int8 map is cut off where a cell exceeds the calibration set."""

_LEAST_RESIDUAL = 0.05
"""The same in logits, for float outputs: float16 weights."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a model assigns a cell to a class.

    Attributes:
        method: one of `EXPLAINERS`.
        index: the class that is explained.
        heat: float32 (S, S), S the side of the network's view: above 0 where a pixel
            speaks for the class, below 0 where against it. All 0 if it is empty.
        scores: what the method says of itself, and ``seconds``.
    """

    method: str
    index: int
    heat: Heat
    scores: Scores

    @property
    def empty(self) -> bool:
        """Whether nothing speaks for the class."""
        return not (self.heat > 0).any()


def explain(
    method: str, classifier: Classifier, seen: Rgb, index: int, seed: int
) -> Explanation:
    """Explains one cell.

    Args:
        method: one of `EXPLAINERS`.
        classifier: the model.
        seen: uint8 RGB (S, S, 3), the cell as the network sees it.
        index: the class to explain.
        seed: of whatever the method draws; the same seed gives the same result.

    Raises:
        InputError: no such method, class or size of image.
        ModelError: the model lacks an output that the method needs, or its maps are
            not those of its logits.
        MissingPackageError: a package that the method needs is not installed.
    """
    if method not in METHODS:
        raise InputError(
            f"'{method}' is not a method; choose from {', '.join(METHODS)}"
        )
    size, classes = classifier.record.preprocessing.input_size, classifier.record.codes
    if seen.shape != (size, size, 3) or seen.dtype != np.uint8:
        raise InputError(f"the model takes cells of {size}x{size} pixels, uint8 RGB")
    if not 0 <= index < len(classes):
        raise InputError(f"there is no class {index}; the last is {len(classes) - 1}")
    start = time.perf_counter()
    heat, scores = METHODS[method](classifier, seen, index, seed)
    seconds = time.perf_counter() - start
    return Explanation(method, index, heat, scores | {"seconds": seconds})


def _checked(
    classifier: Classifier, seen: Rgb, index: int, features: bool
) -> Prediction:
    """A prediction whose map of a class is that of its logit: mean + bias = logit."""
    prediction = classifier.classify(seen, features)
    residual = abs(map_residuals(prediction, classifier.record.head_bias)[index])
    allowed = max(_RESIDUAL_STEPS * classifier.logit_step, _LEAST_RESIDUAL)
    if not residual <= allowed:
        raise ModelError(
            f"the map of {prediction.codes[index]} does not add up to its logit (off "
            f"by {residual:.3g}, allowed is {allowed:.3g}): the model file is not what "
            "it claims to be, or the image is outside the range that it was quantised "
            "for"
        )
    return prediction


def _from_maps(
    heat_of: Callable[[Prediction, int], tuple[cam.Map, Scores]],
) -> Method:
    def method(
        classifier: Classifier, seen: Rgb, index: int, seed: int
    ) -> tuple[Heat, Scores]:
        heat, scores = heat_of(_checked(classifier, seen, index, features=False), index)
        return cam.enlarge(heat, len(seen)), scores | {"evaluations": 1.0}

    return method


def _from_features(
    heat_of: Callable[[npt.NDArray[np.float32], npt.NDArray[np.float32], int], cam.Map],
) -> Method:
    def method(
        classifier: Classifier, seen: Rgb, index: int, seed: int
    ) -> tuple[Heat, Scores]:
        features = _checked(classifier, seen, index, features=True).features
        assert features is not None
        heat = heat_of(features, head_weights(classifier.flatbuffer), index)
        return cam.enlarge(heat, len(seen)), {"evaluations": 1.0}

    return method


def _grad_cam(prediction: Prediction, index: int) -> tuple[cam.Map, Scores]:
    return cam.class_activation(prediction.maps, index), {}


def _finer_cam(prediction: Prediction, index: int) -> tuple[cam.Map, Scores]:
    against = runner_up(prediction.probabilities, index)
    heat = cam.finer_cam(prediction.maps, index, against)
    return heat, {"against": float(against)}


def runner_up(probabilities: npt.NDArray[np.float64], index: int) -> int:
    """The most probable class other than ``index``."""
    return next(int(i) for i in np.argsort(-probabilities) if i != index)


METHODS: dict[str, Method] = {
    "grad-cam": _from_maps(_grad_cam),
    "finer-cam": _from_maps(_finer_cam),
    "grad-cam++": _from_features(cam.grad_cam_plus_plus),
    "layer-cam": _from_features(cam.layer_cam),
    "lime": lime,
    "kernel-shap": kernel_shap,
    "partition-shap": partition_shap,
}
