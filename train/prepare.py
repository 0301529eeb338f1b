"""From labelled files to what a network is trained and validated on."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edgecell.classes import CODES
from edgecell.data.dataset import CellFile, decode, labels, load_images
from edgecell.errors import InputError
from edgecell.image.preprocess import Preprocessing, to_bgr
from edgecell.image.red_cells import red_cell_diameter
from edgecell.train.config import TrainConfig

logger = logging.getLogger(__name__)

INPUT_SIZE = 112
WHITE_PERCENTILE = 95.0
WHITE_LEVEL = 240.0
SCALE_SAMPLE = 300
SCALE_TOLERANCE = 1.15


@dataclass(frozen=True, eq=False)
class Prepared:
    """The images of a run, decoded, cropped and white-balanced.

    Attributes:
        prep: the preprocessing, measured on the training images.
        images: uint8 RGB (N, M, M, 3), to train on, with the margin around the crop.
        y: int32 (N,), their classes.
        val_images: uint8 RGB (V, S, S, 3), to validate on.
        val_y: int32 (V,), their classes.
    """

    prep: Preprocessing
    images: npt.NDArray[np.uint8]
    y: npt.NDArray[np.int32]
    val_images: npt.NDArray[np.uint8]
    val_y: npt.NDArray[np.int32]


def by_split(files: Sequence[CellFile]) -> dict[str, list[CellFile]]:
    """Sorts images into train, val and test.

    Raises:
        InputError: train or val would be empty.
    """
    parts: dict[str, list[CellFile]] = {"train": [], "val": [], "test": []}
    for file in files:
        parts[file.split].append(file)
    if not parts["train"] or not parts["val"]:
        raise InputError(
            f"{len(files)} images are too few to train on: one in ten is kept for "
            "validation and two for testing"
        )
    return parts


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


def crop_in_red_cells(files: Sequence[CellFile], crop_fraction: float) -> float:
    """Side of the training crop in red-cell diameters: the scale a camera must match.

    Args:
        files: training images: small fields around a cell.
        crop_fraction: side of the crop over an image's shorter side.

    Returns:
        Median over a sample of images in which red cells can be measured.

    Raises:
        InputError: in none of them, so a device could not know the scale.
    """
    sample = sorted(files, key=lambda f: f.sha256)[:SCALE_SAMPLE]
    ratios = []
    for file in sample:
        image = to_bgr(decode(file.data, file.name))
        diameter = red_cell_diameter(image)
        if diameter:
            ratios.append(crop_fraction * min(image.shape[:2]) / diameter)
    if not ratios:
        raise InputError(
            "no red cells were found around the training cells, so the crop's scale "
            "is unknown; give images that show some of the field around each cell"
        )
    return float(np.median(ratios))


def _check_scale(crop_fraction: float, red_cells: float, first: Preprocessing) -> None:
    """Warns where cells would appear larger or smaller than to the first weights."""
    ratio = first.crop_red_cells / red_cells
    if abs(np.log(ratio)) > np.log(SCALE_TOLERANCE):
        crop = crop_fraction * ratio
        logger.warning(
            "cells fill %.2f times as much of a crop as where the first weights were "
            "trained; %s",
            ratio,
            f"--crop {crop:.2f} gives the same scale"
            if crop <= 1
            else "cut the images out wider around them",
        )


def prepare(
    train: Sequence[CellFile],
    val: Sequence[CellFile],
    cfg: TrainConfig,
    first: Preprocessing | None,
) -> Prepared:
    """Measures scale and colours of the training images, and loads all images.

    Args:
        train: images to train on.
        val: images to validate on.
        cfg: the settings.
        first: what the weights that the run begins with expect; None if they are new.

    Raises:
        InputError: no red cell is found around the training cells.
    """
    learned = Counter(f.code for f in train)
    if len(learned) < len(CODES):
        absent = ", ".join(code for code in CODES if code not in learned)
        logger.warning("no images of %s to train on: the model won't name them", absent)
    crop_red_cells = crop_in_red_cells(train, cfg.crop_fraction)
    prep = Preprocessing(
        INPUT_SIZE,
        cfg.crop_fraction,
        crop_red_cells,
        WHITE_PERCENTILE,
        WHITE_LEVEL,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )
    images = load_images(train, prep, cfg.margin)
    if first:
        mean, std = first.mean, first.std
        _check_scale(cfg.crop_fraction, crop_red_cells, first)
    else:
        mean, std = channel_statistics(images)
    prep = replace(prep, mean=mean, std=std)
    return Prepared(prep, images, labels(train), load_images(val, prep), labels(val))
