"""Grad-CAM in closed form, from the maps that the graph itself puts out."""

import numpy as np
import numpy.typing as npt


def class_activation(
    maps: npt.NDArray[np.float32], index: int
) -> npt.NDArray[np.float32]:
    """Grad-CAM of one class.

    Behind global average pooling and one linear layer, the gradient of a logit
    with respect to the last feature map is W[k, c] / Z at every position, so
    Grad-CAM (Selvaraju et al., ICCV 2017, eq. 1-2) is the class's activation map
    (Zhou et al., CVPR 2016) up to a factor, which the normalisation removes.

    Args:
        maps: float32 (h, w, C), without biases.
        index: the class.

    Returns:
        float32 (h, w) in [0, 1], its largest value 1; all 0 where no position
        speaks for the class.
    """
    positive = np.maximum(maps[..., index], 0.0)
    peak = float(positive.max())
    if peak <= 0:
        return np.zeros_like(positive)
    return np.asarray(positive / peak, np.float32)
