"""Tests whether one colour correction a microscope, from its red cells, helps.

It needs no label: red cells and background are in every field. In each channel the
optical density is multiplied by one factor, so that red cells are as dense as in the
training data.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from edgecell.benchmarks.microscopes.cells import Looked, files_of
from edgecell.data.dataset import decode
from edgecell.edge.adapt.cells import crop_of
from edgecell.image.preprocess import (
    Preprocessing,
    Rgb,
    apply_gains,
    cell_image,
    white_gains,
)
from edgecell.model.classifier import Classifier

Array = npt.NDArray[np.float64]

_IMAGES = 60
_LEAST_SHARE = 0.03
_LEAST_GREEN, _MOST_GREEN, _MOST_RED, _OVER_RED = 0.12, 1.0, 0.25, 1.3
"""Optical densities of red cells: they absorb green, and less than nuclei do red."""


@dataclass(frozen=True)
class ColourFigures:
    """Cells classified correctly without and with the correction.

    Attributes:
        cells: cells.
        before: of them right, merged groups.
        after: right with the correction.
        better: wrong before and right after.
        worse: right before and wrong after.
        factors: of the optical density, R, G, B.
        by_class: the factors from images of one class alone.
    """

    cells: int
    before: int
    after: int
    better: int
    worse: int
    factors: tuple[float, ...]
    by_class: dict[str, tuple[float, ...]]


def density(image: Rgb, prep: Preprocessing) -> Array:
    """Optical density below the background, float64 (H, W, 3), R, G, B."""
    gains = white_gains(image, prep.white_percentile, prep.white_level)
    white = np.asarray(apply_gains(image, gains), np.float64)
    return np.asarray(-np.log(np.clip(white, 1, prep.white_level) / prep.white_level))


def red_cells(images: Sequence[Rgb], prep: Preprocessing) -> Array | None:
    """Median density of red cells, float64 (3,); None if too few images show any."""
    found = []
    for image in images:
        flat = cv2.GaussianBlur(density(image, prep), (0, 0), 1).reshape(-1, 3)
        red, green = flat[:, 0], flat[:, 1]
        cells = (
            (green > _LEAST_GREEN)
            & (green < _MOST_GREEN)
            & (red < _MOST_RED)
            & (green > _OVER_RED * red)
        )
        if cells.mean() > _LEAST_SHARE:
            found.append(np.median(flat[cells], 0))
    return np.median(found, 0) if len(found) >= 5 else None


def corrected(view: Rgb, factors: Array, white_level: float) -> Rgb:
    """A view with its densities multiplied.

    Args:
        view: uint8 RGB (S, S, 3), the network's.
        factors: float64 (3,).
        white_level: of the background.
    """
    part = np.clip(view.astype(np.float64), 1, 255) / white_level
    again = white_level * part**factors
    return Rgb(np.clip(np.rint(again), 0, 255).astype(np.uint8))


def reference(folder: Path, prep: Preprocessing) -> Array:
    """Density of the red cells of a data set, float64 (3,)."""
    files = files_of(folder, known=True)[: 3 * _IMAGES]
    found = red_cells([decode(f.data, f.name) for f in files], prep)
    if found is None:
        raise ValueError(f"{folder} shows too few red cells")
    return found


def measure_colour(
    classifier: Classifier, folder: Path, before: Looked, aim: Array
) -> ColourFigures:
    """Classifies the cells of an unknown microscope with and without the correction.

    Args:
        classifier: the model.
        folder: the cells.
        before: the same without it.
        aim: density of the red cells of the training data, see `reference`.
    """
    record, prep = classifier.record, classifier.record.preprocessing
    files = files_of(folder, known=False)
    images = [decode(f.data, f.name) for f in files]
    here = red_cells(images[:_IMAGES], prep)
    factors = np.ones(3) if here is None else aim / here
    scaled = replace(prep, crop_fraction=crop_of(images, prep))
    logits = np.stack(
        [
            classifier.classify(
                corrected(cell_image(image, scaled), factors, prep.white_level)
            ).logits
            for image in tqdm(
                images, desc=f"{before.name} colour", leave=False, disable=None
            )
        ]
    )
    was = before.right(before.logits, record.codes)
    now = before.right(logits, record.codes)
    by_class = {}
    for code in sorted({f.code for f in files}):
        of_class = [im for im, f in zip(images, files, strict=True) if f.code == code]
        one = red_cells(of_class[:_IMAGES], prep)
        if one is not None:
            by_class[code] = _rounded(aim / one)
    return ColourFigures(
        cells=len(files),
        before=int(was.sum()),
        after=int(now.sum()),
        better=int((now & ~was).sum()),
        worse=int((was & ~now).sum()),
        factors=_rounded(factors),
        by_class=by_class,
    )


def _rounded(values: Array) -> tuple[float, ...]:
    return tuple(round(float(x), 3) for x in values)
