"""Class activation maps without a gradient: the head is pooling and one linear layer.

Behind global average pooling over Z positions and one linear layer with weights W, the
gradient of logit c with respect to feature k is W[k, c] / Z at every position. That
turns the methods below, which are defined by gradients, into closed forms. Each is
scaled to a largest value of 1, so factors that all positions share are left out; if
nothing in a map supports its class, the map stays empty instead of being stretched.
"""

import cv2
import numpy as np
import numpy.typing as npt

Map = npt.NDArray[np.float32]
"""float32 (h, w) in [0, 1], its largest value 1; all 0 if it is empty."""


def class_activation(maps: npt.NDArray[np.float32], index: int) -> Map:
    """Grad-CAM (Selvaraju et al., ICCV 2017, eq. 1-2) of one class.

    Its weights are the mean gradients W[k, c] / Z, so it is the rectified class
    activation map (Zhou et al., CVPR 2016).

    Args:
        maps: float32 (h, w, C), without biases.
        index: the class.
    """
    return _scaled(maps[..., index])


def finer_cam(maps: npt.NDArray[np.float32], index: int, other: int) -> Map:
    """Finer-CAM (Zhang et al., CVPR 2025): what speaks for a class and not another.

    Grad-CAM of the difference of two logits, with the comparison at full strength: so
    its mean before rectification is that difference, apart from the biases.

    Args:
        maps: float32 (h, w, C), without biases.
        index: the class.
        other: the class that it is compared with, such as the runner-up.
    """
    return _scaled(maps[..., index] - maps[..., other])


def grad_cam_plus_plus(
    features: npt.NDArray[np.float32], weights: npt.NDArray[np.float32], index: int
) -> Map:
    """Grad-CAM++ (Chattopadhay et al., WACV 2018, eq. 5 and 19) of exp(logit).

    With the constant gradient g = W / Z, eq. 19 is 1 / (2 + g * sum(A)) where g is not
    0, and sum(A) / Z is the feature's mean.

    Args:
        features: float32 (h, w, K), the last feature map A.
        weights: float32 (K, C), the head's W.
        index: the class.
    """
    g = np.maximum(weights[:, index], 0.0)
    alpha = 1.0 / (2.0 + g * features.mean((0, 1)))
    return _scaled(features @ (alpha * g))


def layer_cam(
    features: npt.NDArray[np.float32], weights: npt.NDArray[np.float32], index: int
) -> Map:
    """LayerCAM (Jiang et al., IEEE TIP 2021, eq. 5-7): positive gradients alone.

    Args:
        features: float32 (h, w, K), the last feature map.
        weights: float32 (K, C), the head's.
        index: the class.
    """
    return _scaled(features @ np.maximum(weights[:, index], 0.0))


def enlarge(heat: Map, size: int) -> npt.NDArray[np.float32]:
    """A map at the size of the image: float32 (size, size), interpolated."""
    sides = (size, size)
    return np.asarray(cv2.resize(heat, sides, interpolation=cv2.INTER_LINEAR))


def _scaled(heat: npt.NDArray[np.float32]) -> Map:
    positive = np.maximum(heat, 0.0)
    peak = float(positive.max())
    if peak <= 0:
        return np.zeros_like(positive)
    return np.asarray(positive / peak, np.float32)
