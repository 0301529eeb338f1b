"""From an image to the network's input: one way for training and device.

The numbers (input size, crop, mean, deviation, white reference) come from the
record in the model file, never from here.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NewType, TypeVar, cast

import cv2
import numpy as np
import numpy.typing as npt

from edgecell.image.records import Box
from edgecell.image.resizing import shrink

Image = npt.NDArray[np.uint8]
"""uint8, shape (H, W, 3), for what does the same to either order of channels."""

Rgb = NewType("Rgb", npt.NDArray[np.uint8])
"""uint8, shape (H, W, 3), red first: what the network sees, and all training images."""

Bgr = NewType("Bgr", npt.NDArray[np.uint8])
"""uint8, shape (H, W, 3), blue first: what OpenCV decodes and cameras send."""

_Image = TypeVar("_Image", bound=npt.NDArray[np.uint8])

_WHOLE_PIXELS = 160_000
_SAMPLE_PIXELS = 80_000
"""An image of more pixels than the first is judged for its background by rows that hold
about as many as the second: a channel's level is the same in 90 % of the frames of
TXL-PBC, and one off in the others. Training images are looked at whole."""

_HALVED_FROM = 2.5
"""How many times larger than the network's view a crop is that is halved first, which
takes a fifth of the time, at six times a tenth. Of 1,635 val images of Barcelona and
Munich, which are smaller, enlarged to 2.5 to 6.3 times 92.5 to 93.0 % are classified
correctly without and 92.6 to 93.5 % with it; of 330 of Raabin, 3.4 times as large, each
keeps its class."""


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes an input tensor; travels inside the model file.

    Attributes:
        input_size: side of the square input, pixels.
        crop_fraction: side of the crop as a share of a training image's shorter
            side, in (0, 1].
        crop_red_cells: side of the crop in red-cell diameters, which sets the
            crop in a camera frame of unknown scale.
        white_percentile: percentile of each channel that is taken for the
            empty background, in (0, 100].
        white_level: value that the background is scaled to, 1..255.
        mean: per channel R, G, B, after white balance, pixel units.
        std: per channel, pixel units, all > 0.
    """

    input_size: int
    crop_fraction: float
    crop_red_cells: float
    white_percentile: float
    white_level: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        # Written so that a NaN fails each of them.
        if not (0 < self.input_size <= 4096 and 0 < self.crop_fraction <= 1):
            raise ValueError("input_size must be 1 to 4096, crop_fraction in (0, 1]")
        if not (0 < self.crop_red_cells <= 100 and 0 < self.white_percentile <= 100):
            raise ValueError("crop_red_cells and white_percentile must be in (0, 100]")
        if not 0 < self.white_level <= 255:
            raise ValueError("white_level must be in (0, 255]")
        if not all(0 <= m <= 255 for m in self.mean):
            raise ValueError("every mean must be from 0 to 255")
        if not all(0 < s <= 255 for s in self.std):
            raise ValueError("every std must be in (0, 255]")


def to_rgb(image: Bgr) -> Rgb:
    """A copy with red first."""
    return Rgb(np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8))


def to_bgr(image: Rgb) -> Bgr:
    """A copy with blue first."""
    return Bgr(np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), np.uint8))


def white_gains(
    image: Image, percentile: float, level: float
) -> npt.NDArray[np.float64]:
    """Gains that bring the background of an image to a common white.

    A blood film's background is empty glass: its colour is the lamp's and the
    camera's, not the cell's. Dividing it out makes microscopes comparable.

    Args:
        image: uint8 (H, W, 3).
        percentile: percentile of each channel taken for the background.
        level: value that this percentile is brought to.

    Returns:
        float64 (3,), one gain a channel, in the image's channel order; at most 4,
        so that a dark frame isn't blown up into noise.
    """
    pixels = image.shape[0] * image.shape[1]
    step = 1 if pixels <= _WHOLE_PIXELS else round(pixels / _SAMPLE_PIXELS)
    sample = image[:: min(step, image.shape[0])]
    rank = percentile / 100 * sample.shape[0] * sample.shape[1]
    counts = (cv2.calcHist([sample], [c], None, [256], [0, 256]) for c in range(3))
    levels = np.array([np.searchsorted(c.cumsum(), rank) for c in counts])
    return np.asarray(np.minimum(level / np.maximum(levels, 1), 4.0))


def apply_gains(image: _Image, gains: npt.NDArray[np.float64]) -> _Image:
    """Multiplies each channel by its gain, rounding and clipping to 0..255.

    Args:
        image: uint8 (H, W, 3).
        gains: (3,), in the image's channel order.
    """
    table = _gain_table(*map(float, gains))
    return cast(_Image, np.asarray(cv2.LUT(image, table), np.uint8))


@lru_cache(maxsize=4)
def _gain_table(*gains: float) -> npt.NDArray[np.uint8]:
    """What each level becomes, uint8 (1, 256, 3); a frame's cells share one."""
    ramp = np.arange(256, dtype=np.float64)[:, None] * gains
    return np.clip(np.rint(ramp), 0, 255).astype(np.uint8)[None]


def square(centre: tuple[float, float], side: float, grid: int = 1) -> Box:
    """The square of whole pixels around a point; it may reach beyond the image.

    Args:
        centre: (x, y) in pixels.
        side: side of the square, pixels; rounded, at least ``grid``.
        grid: what side and corners are multiples of, see `halving_grid`.
    """
    n = grid * max(1, round(side / grid))
    x, y = (grid * round((c - n / 2) / grid) for c in centre)
    return Box(x, y, x + n, y + n)


def halving_grid(side: float, size: int) -> int:
    """Pixels of a crop's side that `resize` makes one by halving, 1 for a small crop.

    Args:
        side: of the crop, pixels.
        size: of the view, pixels.
    """
    grid = 1
    while side >= _HALVED_FROM * size and side / grid >= 2 * size:
        grid *= 2
    return grid


def inside(image: _Image, box: Box) -> _Image:
    """The part of a box that lies in the image: (h, w, 3), a view."""
    part = image[max(0, box.y0) : max(0, box.y1), max(0, box.x0) : max(0, box.x1)]
    return cast(_Image, part)


def mirrored(inner: _Image, box: Box) -> _Image:
    """A box of an image, beyond whose border the edge is mirrored.

    Args:
        inner: what is `inside` the image.
        box: the box, in pixels of the image.

    Returns:
        (height, width, 3) of the box, a copy; the very array if all of it is inside.
    """
    left, top = max(0, -box.x0), max(0, -box.y0)
    right = max(0, box.width - left - inner.shape[1])
    bottom = max(0, box.height - top - inner.shape[0])
    if not (left or top or right or bottom):
        return inner
    if inner.size == 0:
        raise ValueError("the crop lies outside the image")
    whole = cv2.copyMakeBorder(inner, top, bottom, left, right, cv2.BORDER_REFLECT)
    return cast(_Image, np.asarray(whole, np.uint8))


def crop_square(image: _Image, centre: tuple[float, float], side: float) -> _Image:
    """Cuts a square around a point; beyond the border the edge is mirrored.

    Args:
        image: (H, W, 3).
        centre: (x, y) in pixels.
        side: side of the square, pixels; rounded, at least 1.

    Returns:
        (side, side, 3), a copy or a view.
    """
    box = square(centre, side)
    return mirrored(inside(image, box), box)


def resize(image: _Image, size: int) -> _Image:
    """Resizes to a square of ``size`` pixels, averaging areas when it shrinks.

    What is much larger is halved first, see `shrink`.

    Args:
        image: uint8 (n, n, 3).
        size: side of the result, pixels.
    """
    if len(image) >= _HALVED_FROM * size:
        return cast(_Image, shrink(image, size / len(image)))
    if len(image) <= size:
        larger = cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)
        return cast(_Image, np.asarray(larger, np.uint8))
    # The same numbers as with bytes, in three quarters of the time; but where whole
    # blocks are averaged, OpenCV has a faster way of its own for bytes.
    whole = image.shape[0] % size == 0
    given = image if whole else image.astype(np.float32)
    smaller = cv2.resize(given, (size, size), interpolation=cv2.INTER_AREA)
    return cast(_Image, smaller if whole else np.rint(smaller).astype(np.uint8))


def network_view(pixels: _Image, gains: npt.NDArray[np.float64], size: int) -> _Image:
    """A cropped cell, resized to the network's input and white-balanced.

    Every cell that a network sees, in training or on a device, comes from here, but for
    a frame's large crops: `view_in`.

    Args:
        pixels: uint8 (n, n, 3), the square around the cell.
        gains: float64 (3,), white balance of the image that it was cut from, in the
            same order of channels.
        size: side of the view, pixels.

    Returns:
        uint8 (size, size, 3), in the same order of channels.
    """
    return apply_gains(resize(pixels, size), gains)


def view_in(
    inner: _Image, box: Box, gains: npt.NDArray[np.float64], size: int
) -> _Image:
    """The `network_view` of a box that may reach beyond its image.

    A large one is halved before its edge is mirrored, as far as both divide evenly:
    nothing is copied that is averaged anyway.

    Args:
        inner: what is `inside` the image.
        box: the box, a square, in pixels of the image.
        gains: see `network_view`, as ``size``.
    """
    grid = halving_grid(box.width, size)
    if grid == 1:
        return network_view(mirrored(inner, box), gains, size)
    while grid > 1:
        edges = min(0, box.x0), min(0, box.y0), box.width, *inner.shape[:2]
        if any(edge % 2 for edge in edges):
            break
        half = inner.shape[1] // 2, inner.shape[0] // 2
        halved = cv2.resize(inner, half, interpolation=cv2.INTER_AREA)
        inner = cast(_Image, np.asarray(halved, np.uint8))
        box = Box(box.x0 // 2, box.y0 // 2, box.x1 // 2, box.y1 // 2)
        grid //= 2
    pixels = mirrored(inner, box)
    return apply_gains(cast(_Image, shrink(pixels, size / len(pixels))), gains)


def cell_image(
    image: Rgb,
    prep: Preprocessing,
    margin: float = 1.0,
    red_cell_px: float | None = None,
) -> Rgb:
    """The network's view of a single-cell image: a small field, one cell in its middle.

    The middle is cut out. How much of it depends on the scale: ``crop_red_cells`` red
    cells where their size is known, else ``crop_fraction`` of the shorter side, which
    is right for images that show as much of the field as the training images.

    Args:
        image: uint8 RGB (H, W, 3).
        prep: the model's preprocessing.
        margin: widens the view around the crop at the same scale; training
            keeps a margin to rotate and shift in.
        red_cell_px: diameter of a red cell in the image, pixels, if it is known.

    Returns:
        uint8 RGB (S, S, 3), S = round(input_size * margin).
    """
    gains = white_gains(image, prep.white_percentile, prep.white_level)
    crop = cell_pixels(image, prep, margin, red_cell_px)
    return network_view(crop, gains, round(prep.input_size * margin))


def cell_pixels(
    image: Rgb,
    prep: Preprocessing,
    margin: float = 1.0,
    red_cell_px: float | None = None,
) -> Rgb:
    """The square that `cell_image` shows, in the image's own pixels and colours.

    Args:
        image: see `cell_image`, as the other arguments.

    Returns:
        uint8 RGB (n, n, 3), a copy or a view.
    """
    h, w = image.shape[:2]
    side = prep.crop_fraction * min(h, w)
    if red_cell_px is not None:
        side = prep.crop_red_cells * red_cell_px
    return crop_square(image, (w / 2, h / 2), margin * side)


def standardise(
    images: npt.NDArray[np.uint8], prep: Preprocessing
) -> npt.NDArray[np.float32]:
    """(pixel - mean) / std per channel.

    Args:
        images: uint8 RGB (..., 3).

    Returns:
        float32 of the same shape.
    """
    mean = np.asarray(prep.mean, np.float32)
    std = np.asarray(prep.std, np.float32)
    return np.asarray((images.astype(np.float32) - mean) / std, np.float32)


def channel_statistics(
    images: npt.NDArray[np.uint8],
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation per channel over a set of images.

    Args:
        images: uint8 (N, H, W, 3), N >= 1.

    Returns:
        mean (3,) and std (3,), pixel units; std at least 1.
    """
    # Image by image: a float copy of the whole set would be eight times its size.
    sums = np.array([im.sum((0, 1), dtype=np.int64) for im in images]).sum(0)
    squares = np.array(
        [np.square(im, dtype=np.int64).sum((0, 1)) for im in images]
    ).sum(0)
    n = images.size // 3
    mean = sums / n
    std = np.maximum(np.sqrt(squares / n - mean**2), 1.0)
    r, g, b = (float(x) for x in mean)
    sr, sg, sb = (float(x) for x in std)
    return (r, g, b), (sr, sg, sb)
