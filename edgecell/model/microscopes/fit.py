"""Describes a microscope by the features of its cells.

In training from all of them, at the device from the few that a person has named.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from edgecell.model.microscopes.microscope import (
    CELLS,
    FARTHEST,
    Array,
    Microscope,
    most_like,
    pack,
)

LEAST_CELLS = 100
LEAST_HELD_OUT = 20
"""Cells of a microscope, seen in training and not, without which nothing is fitted."""

_LEAST_OF_A_CLASS = 10
_AXES = 32
_SHRINKAGE = 0.1

_FALSE_ALARMS = 0.005
"""Share of the draws from a known microscope that may be called unknown: half of what
is promised, for the limits fit the cells that they are chosen on."""

_DRAWS = 4000


def fit_microscope(
    name: str,
    features: npt.NDArray[np.floating],
    labels: Sequence[str],
    unseen: npt.NDArray[np.floating],
    slides: Sequence[str] = (),
) -> Microscope:
    """Describes a microscope of the training data.

    Args:
        name: of the source.
        features: float (N, K), pooled features of its training cells.
        labels: N labels; each distinct one with `_LEAST_OF_A_CLASS` cells has a mean.
        unseen: float (H, K), of cells that training did not see, cut out as the
            device does: off centre and off scale by a little.
        slides: H names of the slides that these come from; see `usual_limits`.

    Raises:
        ValueError: fewer than `LEAST_CELLS` cells, or `LEAST_HELD_OUT` unseen ones.
    """
    if len(features) < LEAST_CELLS or len(unseen) < LEAST_HELD_OUT:
        raise ValueError("too few cells to identify a microscope")
    x, given = np.asarray(features, np.float64), np.array(labels)
    counts = {label: int((given == label).sum()) for label in sorted(set(labels))}
    kept = [k for k, n in counts.items() if n >= _LEAST_OF_A_CLASS] or list(counts)
    means = np.stack([x[given == label].mean(0) for label in kept])
    within = np.concatenate(
        [x[given == label] - m for label, m in zip(kept, means, strict=True)]
    )
    axes, precisions = principal_axes(within)
    return _measured(name, len(x), means, axes, precisions, unseen, slides)


def fit_calibrated(
    name: str,
    features: npt.NDArray[np.floating],
    labels: Sequence[str],
    known: Sequence[Microscope],
) -> Microscope:
    """Describes the microscope that a model is adapted to, from few cells.

    They are too few for a covariance; that of the most similar training microscope
    stands in for theirs. What is usual is measured on each cell by the means of the
    others.

    Args:
        name: of the microscope.
        features: float (N, K), pooled features of cells that a person named, N >= 3.
        labels: N labels.
        known: microscopes of the training data, at least one.
    """
    x, given = np.asarray(features, np.float64), np.array(labels)
    like = most_like(x, known)

    def means(kept: npt.NDArray[np.bool_]) -> Array:
        # A mean of few cells is shrunk towards the mean of all, with the weight of one
        # cell.
        every = x[kept].mean(0)
        each = [x[kept & (given == k)] for k in sorted(set(labels))]
        return np.array([(every + c.sum(0)) / (1 + len(c)) for c in each])

    everything = np.ones(len(x), bool)
    whole = replace(
        like,
        name=name,
        cells=len(x),
        means=pack(means(everything)),
        centres=(0.0,) * len(set(labels)),
        spreads=(1.0,) * len(set(labels)),
        calibrated=True,
    )
    away = []
    for i in range(len(x)):
        others = everything.copy()
        others[i] = False
        without = replace(whole, means=pack(means(others)))
        away.append(float(without.distances(x[i : i + 1])[0][0]))
    centre, spread = float(np.mean(away)), max(float(np.std(away, ddof=1)), 1e-3)
    scores = np.minimum((np.array(away) - centre) / spread, FARTHEST)
    return replace(
        whole,
        centres=(centre,) * len(whole.centres),
        spreads=(spread,) * len(whole.spreads),
        limits=usual_limits(scores),
    )


def principal_axes(within: Array) -> tuple[Array, Array]:
    """A covariance, shrunk and compact.

    Args:
        within: float64 (N, K), deviations from the class means.

    Returns:
        Axes, float64 (R, K), and precisions, float64 (R + 1,); see `Microscope`.
    """
    covariance = within.T @ within / len(within)
    width = len(covariance)
    added = _SHRINKAGE * float(np.trace(covariance)) / width + 1e-12
    variances, vectors = np.linalg.eigh(covariance)
    rank = min(_AXES, width - 1)
    top = variances[::-1][:rank]
    rest = max(float(variances.sum() - top.sum()), 0.0) / (width - rank)
    axes = vectors[:, ::-1][:, :rank].T
    return np.asarray(axes), 1.0 / (np.append(np.maximum(top, 0.0), rest) + added)


def _measured(
    name: str,
    cells: int,
    means: Array,
    axes: Array,
    precisions: Array,
    unseen: npt.NDArray[np.floating],
    slides: Sequence[str] = (),
) -> Microscope:
    """A microscope with what is usual for it, measured on cells not used so far.

    Args:
        name: of the source.
        cells: cells that the rest was fitted to.
        means: float64 (M, K).
        axes: float64 (R, K), orthonormal.
        precisions: float64 (R + 1,).
        unseen: see `fit_microscope`.
        slides: likewise.
    """
    each = len(means)
    blank = Microscope(
        name=name,
        cells=cells,
        means=pack(means),
        axes=pack(axes),
        precisions=tuple(float(p) for p in precisions),
        centres=(0.0,) * each,
        spreads=(1.0,) * each,
        limits=(0.0,) * CELLS,
    )
    away, nearest = blank.distances(unseen)
    centres = np.full(each, away.mean())
    spreads = np.full(each, away.std())
    for i in range(each):
        here = away[nearest == i]
        if len(here) >= _LEAST_OF_A_CLASS:
            centres[i], spreads[i] = here.mean(), here.std()
    spreads = np.maximum(spreads, 1e-3)
    scores = np.minimum((away - centres[nearest]) / spreads[nearest], FARTHEST)
    return replace(
        blank,
        centres=tuple(float(c) for c in centres),
        spreads=tuple(float(s) for s in spreads),
        limits=usual_limits(scores, slides),
    )


def usual_limits(scores: Array, slides: Sequence[str] = ()) -> tuple[float, ...]:
    """The mean scores of 1, 2, ... `CELLS` cells that few draws exceed.

    A session shows one slide, whose stain its cells share, so that their mean varies
    more than that of cells from everywhere. Each draw is of one slide.

    Args:
        scores: float64 (N,).
        slides: N names of slides; without any, the cells count as those of one.
    """
    of_slides, within, sizes = _parted(scores, slides)
    rng = np.random.default_rng(0)
    slide = rng.choice(len(sizes), (_DRAWS, 1), p=sizes / sizes.sum())
    cell = rng.integers(0, len(within), (_DRAWS, CELLS))
    drawn = np.minimum(of_slides[slide] + within[cell], FARTHEST)
    running = drawn.cumsum(1) / np.arange(1, CELLS + 1)
    return tuple(float(x) for x in np.quantile(running, 1 - _FALSE_ALARMS, axis=0))


def _parted(
    scores: Array, slides: Sequence[str]
) -> tuple[Array, Array, npt.NDArray[np.intp]]:
    """Parts scores into what a slide's cells share and what they don't.

    The means of few cells vary more than slides do. They are drawn together until
    their variance is that between slides, by the analysis of variance (Louis,
    Estimating a population of parameter values, JASA 1984).

    Returns:
        The slides' scores, float64 (S,); deviations of cells from their slides',
        float64 (M,); cells of each slide, int (S,).
    """
    slides = slides or [""] * len(scores)
    _, slide, sizes = np.unique(slides, return_inverse=True, return_counts=True)
    means = np.bincount(slide, scores) / sizes
    several = (sizes > 1)[slide]
    if len(sizes) == 1 or not several.any():
        return np.zeros(1), scores, np.array([len(scores)])
    away = (scores - means[slide]) * np.sqrt(sizes / np.maximum(sizes - 1, 1))[slide]
    n, mean = len(scores), scores.mean()
    variance = ((scores - means[slide]) ** 2).sum() / (n - len(sizes))
    apart = (sizes * (means - mean) ** 2).sum() / (len(sizes) - 1)
    typical = (n - (sizes**2).sum() / n) / (len(sizes) - 1)
    between = max((apart - variance) / typical, 0.0)
    kept = np.sqrt(between / (between + variance / sizes + 1e-12))
    return np.asarray(mean + kept * (means - mean)), away[several], sizes
