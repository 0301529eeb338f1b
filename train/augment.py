"""Random views of a batch of cells: geometry, stain, lamp and focus.

All draws are stateless functions of (seed, step): a run that is resumed sees the
images that the uninterrupted run would have seen.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class AugmentConfig:
    """How far a view may stray from the image.

    Attributes:
        zoom: scale is drawn log-uniformly from [1/(1+zoom), 1+zoom].
        shift: largest shift, as a share of the view's side.
        density: optical density is scaled by up to (1+density) or its inverse, and
            so is each channel's on its own: another stain, film or camera. The empty
            background stays as it is.
        gain: each channel is multiplied by 1 +- gain (lamp).
        offset: all channels are shifted by +- offset, pixel units.
        saturation: colour difference from grey is scaled by 1 +- saturation.
        blur: share of images that are put out of focus, half of them more so.
    """

    zoom: float = 0.2
    shift: float = 0.06
    density: float = 0.35
    gain: float = 0.08
    offset: float = 10.0
    saturation: float = 0.25
    blur: float = 0.25

    def __post_init__(self) -> None:
        values = (
            self.zoom,
            self.shift,
            self.density,
            self.gain,
            self.offset,
            self.saturation,
            self.blur,
        )
        if min(values) < 0:
            raise ValueError("augmentation strengths must not be negative")


def augment(
    images: "tf.Tensor", size: int, scale: float, seed: "tf.Tensor", cfg: AugmentConfig
) -> "tf.Tensor":
    """Draws one view of each image.

    Rotations are by any angle and mirror images are included: a cell on a slide
    has no upright position.

    Args:
        images: uint8 (N, M, M, 3), the crop with a margin around it.
        size: side of the view, pixels.
        scale: image pixels per view pixel at zoom 1.
        seed: int32 (2,).
        cfg: strengths.

    Returns:
        float32 (N, size, size, 3), 0..255.
    """
    import tensorflow as tf

    n = tf.shape(images)[0]
    seeds = tf.unstack(tf.random.split(seed, 11))

    def uniform(i: int, shape: list[int], low: float, high: float) -> tf.Tensor:
        return tf.random.stateless_uniform(
            tf.concat([[n], shape], 0) if shape else [n], seeds[i], low, high
        )

    log_zoom = float(np.log1p(cfg.zoom))
    # Half of the views are turned by quarter turns alone, which need no
    # interpolation and so keep the chromatin's texture sharp.
    quarter = tf.floor(uniform(0, [], 0.0, 4.0)) * (np.pi / 2)
    angle = quarter + tf.maximum(uniform(1, [], -1.0, 1.0), 0.0) * (np.pi / 2)
    per_pixel = scale * tf.exp(uniform(2, [], -log_zoom, log_zoom))
    mirror = tf.sign(uniform(3, [], -1.0, 1.0))
    a, b = per_pixel * tf.cos(angle), per_pixel * tf.sin(angle)
    middle = (tf.cast(tf.shape(images)[1], tf.float32) - 1) / 2
    shift = uniform(4, [2], -cfg.shift, cfg.shift) * size * scale + middle
    half = (size - 1) / 2
    # Rows of the map from view (x, y) to image, about both centres.
    x0 = shift[:, 0] - a * mirror * half + b * half
    y0 = shift[:, 1] - b * mirror * half - a * half
    zero = tf.zeros_like(a)
    transforms = tf.stack([a * mirror, -b, x0, b * mirror, a, y0, zero, zero], 1)
    views = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),
        transforms=transforms,
        output_shape=[size, size],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )
    views = tf.reshape(views, [-1, size, size, 3])
    focus = uniform(5, [1, 1, 1], 0.0, 1.0)
    for kernel, share in ((3, cfg.blur), (5, cfg.blur / 2)):
        blurred = tf.nn.avg_pool2d(views, kernel, 1, "SAME")
        views = tf.where(focus < share, blurred, views)
    # Scaling the density -log(v / 255) by s raises the transmission to the power s.
    limit = float(np.log1p(cfg.density))
    scales = uniform(9, [1, 1, 1], -limit, limit) + uniform(
        10, [1, 1, 3], -limit, limit
    )
    views = 255.0 * tf.pow(views / 255.0, tf.exp(scales))
    grey = tf.reduce_mean(views, -1, keepdims=True)
    saturation = uniform(6, [1, 1, 1], 1 - cfg.saturation, 1 + cfg.saturation)
    views = grey + (views - grey) * saturation
    views = views * uniform(7, [1, 1, 3], 1 - cfg.gain, 1 + cfg.gain)
    views = views + uniform(8, [1, 1, 1], -cfg.offset, cfg.offset)
    return tf.clip_by_value(views, 0.0, 255.0)
