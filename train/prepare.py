"""From labelled files to what a network is trained and validated on."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edgecell.classes import CODES
from edgecell.data.dataset import CellFile, label_sets, load_images, of_one_class
from edgecell.data.scale import training_view
from edgecell.errors import InputError
from edgecell.files import several
from edgecell.image.preprocess import Preprocessing, channel_statistics
from edgecell.train.config import TrainConfig

logger = logging.getLogger(__name__)

SCALE_TOLERANCE = 1.15


@dataclass(frozen=True, eq=False)
class Prepared:
    """The images of a run, decoded, cropped and white-balanced.

    Attributes:
        prep: the preprocessing, measured on the training images.
        images: uint8 RGB (N, M, M, 3), to train on, with the margin around the crop.
        sets: bool (N, C), the classes that each may belong to.
        val_images: uint8 RGB (V, S, S, 3), to validate on.
        val_sets: bool (V, C), the same of those.
    """

    prep: Preprocessing
    images: npt.NDArray[np.uint8]
    sets: npt.NDArray[np.bool_]
    val_images: npt.NDArray[np.uint8]
    val_sets: npt.NDArray[np.bool_]


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
            f"{several(len(files), 'image')}: too few to train on; one in ten is kept "
            "for validation and two for testing"
        )
    return parts


def classes_learned(train: Sequence[CellFile]) -> dict[str, int]:
    """Training images of each class, in alphabetical order; sets count for none.

    A cell that is 'band or segmented' does not teach what a band is.
    """
    return dict(sorted(Counter(f.code for f in of_one_class(train)).items()))


def _check_scale(prep: Preprocessing, first: Preprocessing) -> None:
    """Warns where cells would appear larger or smaller than to the first weights."""
    ratio = first.crop_red_cells / prep.crop_red_cells
    if abs(np.log(ratio)) > np.log(SCALE_TOLERANCE):
        crop = prep.crop_fraction * ratio
        logger.warning(
            "cells fill %.2f times as much of a crop as in the training of the first "
            "weights; %s",
            ratio,
            f"--crop {crop:.2f} gives the same scale"
            if crop <= 1
            else "cut the images out with more field around the cells",
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
    learned = classes_learned(train)
    if len(learned) < len(CODES):
        absent = ", ".join(code for code in CODES if code not in learned)
        logger.warning(
            "no images of %s to train on: the model will not predict them", absent
        )
    prep = training_view(train, crop_fraction=cfg.crop_fraction)
    images = load_images(train, prep, cfg.margin)
    if first:
        mean, std = first.mean, first.std
        _check_scale(prep, first)
    else:
        mean, std = channel_statistics(images)
    prep = replace(prep, mean=mean, std=std)
    return Prepared(
        prep, images, label_sets(train), load_images(val, prep), label_sets(val)
    )
