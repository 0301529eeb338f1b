"""Random views of a batch of cells: geometry, focus, stain and lamp.

A batch's views are a function of its seed alone: a run that is resumed sees the
views that the uninterrupted run would have seen.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import cv2
import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class AugmentConfig:
    """How far a view may stray from the image.

    Attributes:
        rotation: largest turn either way, as a share of a full turn. At 0.5, any
            angle, half of the views are turned by quarter turns alone, which need
            no interpolation and so keep the chromatin's texture sharp.
        flip: share of views that are mirrored.
        zoom: scale is drawn log-uniformly from [1/(1+zoom), 1+zoom].
        shift: largest shift, as a share of the view's side.
        density: optical density is scaled by up to (1+density) or its inverse, and
            so is each channel's on its own: another stain, film or camera. White (255)
            stays as it is.
        gain: each channel is multiplied by 1 +- gain (lamp).
        offset: all channels are shifted by +- offset, pixel units.
        saturation: colour difference from grey is scaled by 1 +- saturation.
        blur: share of images that are put out of focus, half of them more so.
    """

    rotation: float = 0.5
    flip: float = 0.5
    zoom: float = 0.2
    shift: float = 0.06
    density: float = 0.35
    gain: float = 0.08
    offset: float = 10.0
    saturation: float = 0.25
    blur: float = 0.25

    def __post_init__(self) -> None:
        if min(astuple(self)) < 0 or self.rotation > 0.5:
            raise ValueError("strengths must not be negative, rotation at most 0.5")


def augment(
    images: npt.NDArray[np.uint8],
    size: int,
    scale: float,
    seed: Sequence[int],
    cfg: AugmentConfig,
) -> npt.NDArray[np.uint8]:
    """Draws one view of each image.

    Args:
        images: uint8 (N, M, M, 3), the crop with a margin around it.
        size: side of the view, pixels.
        scale: image pixels per view pixel at zoom 1.
        seed: fixes the views.
        cfg: strengths.

    Returns:
        uint8 (N, size, size, 3).
    """
    n = len(images)
    rng = np.random.default_rng(seed)
    angle = rng.uniform(-1, 1, n) * 2 * np.pi * cfg.rotation
    if cfg.rotation == 0.5:
        quarter = np.rint(angle / (np.pi / 2)) * (np.pi / 2)
        angle = np.where(rng.random(n) < 0.5, quarter, angle)
    mirror = np.where(rng.random(n) < cfg.flip, -1.0, 1.0)
    log_zoom = np.log1p(cfg.zoom)
    per_pixel = scale * np.exp(rng.uniform(-log_zoom, log_zoom, n))
    shift = rng.uniform(-cfg.shift, cfg.shift, (n, 2)) * size * scale
    # Rows of the map from view (x, y, 1) to image, about both centres.
    a, b = per_pixel * np.cos(angle), per_pixel * np.sin(angle)
    linear = np.stack([a * mirror, -b, b * mirror, a], 1).reshape(n, 2, 2)
    centre = (images.shape[1] - 1) / 2 + shift
    origin = centre - linear @ np.full(2, (size - 1) / 2)
    maps = np.concatenate([linear, origin[..., None]], 2)

    focus = rng.random(n)
    saturation = 1 + cfg.saturation * rng.uniform(-1, 1, (n, 1, 1))
    mixing = saturation * np.eye(3) + (1 - saturation) / 3
    curves = _curves(rng, n, cfg)
    views = np.empty((n, size, size, 3), np.uint8)
    for i in range(n):
        view = cv2.warpAffine(
            images[i],
            maps[i],
            (size, size),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        if focus[i] < cfg.blur:
            view = cv2.blur(view, (3, 3))
        if focus[i] < cfg.blur / 2:
            view = cv2.blur(view, (5, 5))
        views[i] = cv2.LUT(cv2.transform(view, mixing[i]), curves[i])
    return views


def _curves(
    rng: np.random.Generator, n: int, cfg: AugmentConfig
) -> npt.NDArray[np.uint8]:
    """Tone curves of density, gain and offset: uint8 (N, 1, 256, 3)."""
    limit = np.log1p(cfg.density)
    together = rng.uniform(-limit, limit, (n, 1, 1))
    apart = rng.uniform(-limit, limit, (n, 1, 3))
    gain = 1 + cfg.gain * rng.uniform(-1, 1, (n, 1, 3))
    offset = cfg.offset * rng.uniform(-1, 1, (n, 1, 1))
    # Scaling the density -log(v / 255) by s raises the transmission to the power s.
    transmission = np.linspace(0.0, 1.0, 256)[:, None] ** np.exp(together + apart)
    curves = np.rint(255.0 * transmission * gain + offset)
    return np.clip(curves, 0, 255).astype(np.uint8)[:, None]
