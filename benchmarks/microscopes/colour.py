"""Tests whether one colour correction a microscope, from its red cells, helps.

It needs no label: red cells and background are in every field. In each channel the
optical density is multiplied by one factor, so that red cells are as dense as in the
training data.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edgecell.benchmarks.microscopes.cells import (
    FEW,
    Looked,
    adapt_draws,
    files_of,
    look,
)
from edgecell.data.dataset import CellFile, decode
from edgecell.image.preprocess import (
    Preprocessing,
    Rgb,
    apply_gains,
    white_gains,
)
from edgecell.model.classifier import Classifier

Array = npt.NDArray[np.float64]

_IMAGES = 60
_LEAST_SHARE = 0.03
_LEAST_GREEN, _MOST_GREEN, _MOST_RED, _OVER_RED = 0.12, 1.0, 0.25, 1.3
"""Optical densities of red cells: they absorb green, and less than nuclei do red."""


@dataclass(frozen=True)
class ColourRow:
    """Cells classified correctly without and with a correction.

    Attributes:
        cells: cells.
        before: of them right, merged groups.
        after: right with the correction.
        better: wrong before and right after.
        worse: right before and wrong after.
        factors: of the optical density, R, G, B; None if too few images show red
            cells, and nothing is corrected.
    """

    cells: int
    before: int
    after: int
    better: int
    worse: int
    factors: tuple[float, ...] | None


@dataclass(frozen=True)
class ColourFigures:
    """What the correction does to the cells of a microscope.

    Attributes:
        known: whether the network has learned the microscope; then the correction
            should change nothing.
        all: the factors from all images.
        by_class: each class as a slide of its own: the factors from its images alone.
        adapted: share of the others that is right after adapting to `FEW` corrected
            cells, mean of the draws; None if the network has learned the microscope.
    """

    known: bool
    all: ColourRow
    by_class: dict[str, ColourRow]
    adapted: float | None = None

    @property
    def spread(self) -> float:
        """The largest ratio of a factor from one class alone to the one from all."""
        if self.all.factors is None:
            return 1.0
        ratios = (
            max(one / every, every / one)
            for row in self.by_class.values()
            for one, every in zip(row.factors or (), self.all.factors, strict=False)
        )
        return max(ratios, default=1.0)


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
    classifier: Classifier,
    folder: Path,
    before: Looked,
    aim: Array,
    known: bool,
    draws: int,
) -> ColourFigures:
    """Classifies the cells of a microscope with and without the correction.

    Args:
        classifier: the model.
        folder: the cells.
        before: the same without it.
        aim: density of the red cells of the training data, see `reference`.
        known: see `look`.
        draws: of the cells that are named, see `adapt_draws`.
    """
    prep, codes = classifier.record.preprocessing, classifier.record.codes
    files = files_of(folder, known)
    labels = np.array([f.code for f in files])

    def factors_of(some: Sequence[CellFile]) -> Array | None:
        here = red_cells([decode(f.data, f.name) for f in some[:_IMAGES]], prep)
        return None if here is None else aim / here

    every = factors_of(files)
    each = {
        str(label): factors_of([f for f in files if f.code == label])
        for label in np.unique(labels)
    }

    def seen(factors: Mapping[str, Array | None]) -> Looked:
        def change(file: CellFile, view: Rgb) -> Rgb:
            by = factors[file.code]
            return view if by is None else corrected(view, by, prep.white_level)

        return look(classifier, folder, known, change)

    after = seen(dict.fromkeys(each, every))
    was, now, alone = (
        cells.right(cells.logits, codes) for cells in (before, after, seen(each))
    )
    return ColourFigures(
        known,
        _row(was, now, every),
        {
            label: _row(was[labels == label], alone[labels == label], factors)
            for label, factors in each.items()
        },
        None if known else adapt_draws(after, classifier, FEW, draws).after,
    )


def _row(
    was: npt.NDArray[np.bool_], now: npt.NDArray[np.bool_], factors: Array | None
) -> ColourRow:
    return ColourRow(
        cells=len(was),
        before=int(was.sum()),
        after=int(now.sum()),
        better=int((now & ~was).sum()),
        worse=int((was & ~now).sum()),
        factors=None if factors is None else tuple(round(float(x), 3) for x in factors),
    )
