"""Distinguishes microscopes that the network has learned from unknown ones.

The network's pooled features of a cell lie near the mean of its class, as long as the
cell comes from a microscope of the training data. Each of these microscopes by itself
gives class means and one covariance within the classes; a single covariance for all of
them is too wide to be of use (Lee et al., A Simple Unified Framework for Detecting
Out-of-Distribution Samples, NeurIPS 2018, has one). How far cells that training did not
see lie from the nearest mean says what is usual.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

CELLS = 10
"""Cells that a verdict rests on at most."""

LEAST_CELLS = 100
LEAST_HELD_OUT = 20
"""Cells of a microscope, seen in training and not, without which nothing is fitted."""

_LEAST_OF_A_CLASS = 10
_AXES = 32
_SHRINKAGE = 0.1
_FARTHEST = 3.0
"""Score at which a cell's distance is capped: one speck of dirt among ten cells must
not make a known microscope unknown."""

_FALSE_ALARMS = 0.005
"""Share of the draws from a known microscope that may be called unknown: half of what
is promised, for the limits fit the cells that they are chosen on."""

_DRAWS = 4000

Kind = Literal["known", "calibrated", "shown", "unknown"]


@dataclass(frozen=True)
class Microscope:
    """Where the pooled features of one microscope's cells lie.

    Attributes:
        name: of the training source.
        cells: cells that it was fitted to.
        means: float16 (M, K) in base64, means of the classes.
        axes: float16 (R, K) in base64, the directions of the largest variance within
            the classes, orthonormal.
        precisions: R + 1 values, > 0: inverse variance along each axis, and along
            all other directions.
        centres: M values, mean log squared distance of unseen cells nearest to each
            mean.
        spreads: M values, > 0, standard deviation of the same.
        limits: the highest mean score of 1, 2, ... `CELLS` cells that is usual.
        calibrated: fitted by `edgecell adapt` to cells that a person named, and not
            to training data.
    """

    name: str
    cells: int
    means: str
    axes: str
    precisions: tuple[float, ...]
    centres: tuple[float, ...]
    spreads: tuple[float, ...]
    limits: tuple[float, ...]
    calibrated: bool = False

    def __post_init__(self) -> None:
        try:
            means, axes = self.class_means(), self._axes()
        except ValueError as e:
            raise ValueError(f"the means or axes of {self.name} are damaged") from e
        if means.shape[1] != axes.shape[1] or len(self.spreads) != len(means):
            raise ValueError(f"the means and axes of {self.name} do not fit together")
        if len(self.limits) != CELLS:
            raise ValueError(f"{CELLS} limits are needed")
        if not all(x > 0 for x in (*self.precisions, *self.spreads)):
            raise ValueError("precisions and spreads must be > 0")

    @property
    def width(self) -> int:
        """Number K of features."""
        return int(self.class_means().shape[1])

    def class_means(self) -> Array:
        """The means, float64 (M, K)."""
        return _unpack(self.means, len(self.centres))

    def _axes(self) -> Array:
        return _unpack(self.axes, len(self.precisions) - 1)

    def whitening(self) -> Array:
        """Equalises the variance within the classes in all directions.

        Returns:
            float64 (K, K), symmetric and positive definite; directions other than the
            axes stay as they are.
        """
        axes, precisions = self._axes(), np.array(self.precisions)
        scales = np.sqrt(precisions[:-1] / precisions[-1])
        return np.asarray(np.eye(self.width) + (axes.T * (scales - 1)) @ axes)

    def distances(self, features: npt.NDArray[np.floating]) -> tuple[Array, Array]:
        """How far cells lie from the nearest class mean.

        Args:
            features: float (N, K), pooled features: their mean over the feature map.

        Returns:
            Log of the squared Mahalanobis distance, float64 (N,), and the index of
            that mean, int64 (N,).
        """
        axes, precisions = self._axes(), np.array(self.precisions)
        squared = []
        for mean in self.class_means():
            away = np.asarray(features, np.float64) - mean
            along = (away @ axes.T) ** 2
            rest = np.maximum((away**2).sum(1) - along.sum(1), 0.0)
            squared.append(along @ precisions[:-1] + precisions[-1] * rest)
        each = np.array(squared)
        return np.log(np.maximum(each.min(0), 1e-12)), each.argmin(0)

    def scores(self, features: npt.NDArray[np.floating]) -> Array:
        """How unusual cells are, in standard deviations of this microscope's own.

        Args:
            features: float (N, K), pooled features.

        Returns:
            float64 (N,), at most `_FARTHEST`; cells of this microscope are at 0 in
            the mean, whatever their classes.
        """
        away, nearest = self.distances(features)
        centres, spreads = np.array(self.centres), np.array(self.spreads)
        each = (away - centres[nearest]) / spreads[nearest]
        return np.asarray(np.minimum(each, _FARTHEST))


@dataclass(frozen=True)
class Verdict:
    """Whether the cells of a session come from a microscope that the model knows.

    Attributes:
        kind: 'known': one of the training microscopes; 'calibrated': the one that
            the model was adapted to; 'shown': such a one, on which a random sample
            has shown the model to be right; 'unknown': none of these.
        name: the microscope; if it is unknown, the nearest one; None if the model file
            does not describe microscopes.
        cells: cells that it rests on.
        score: their mean score.
        limit: the highest one that is usual.
    """

    kind: Kind
    name: str | None
    cells: int
    score: float = 0.0
    limit: float = 0.0

    @property
    def trusted(self) -> bool:
        """Whether cells are accepted without review."""
        return self.kind in ("known", "shown")

    def __str__(self) -> str:
        if self.kind == "unknown":
            return "unknown"
        if self.kind == "shown":
            return f"calibrated ({self.name}), shown to be right"
        return f"{self.kind} ({self.name})"


def most_like(
    features: npt.NDArray[np.floating], microscopes: Sequence[Microscope]
) -> Microscope:
    """The microscope whose cells are most similar to the given ones.

    Args:
        features: float (N, K), pooled features.
        microscopes: at least one.
    """
    return min(microscopes, key=lambda m: float(m.scores(features).mean()))


def in_words(told: Mapping[tuple[int, int], Verdict]) -> str:
    """Verdicts in one line: 'known (pbc)', or '360x363: known (pbc), 575x575: unknown'.

    Args:
        told: by (width, height) of the frames.
    """
    if len({str(verdict) for verdict in told.values()}) == 1:
        return str(next(iter(told.values())))
    each = [f"{w}x{h}: {verdict}" for (w, h), verdict in sorted(told.items())]
    return ", ".join(each) or "not identified yet"


def judge(
    features: npt.NDArray[np.floating], microscopes: Sequence[Microscope]
) -> Verdict:
    """Identifies the microscope that some cells come from.

    Args:
        features: float (N, K), pooled features of N >= 1 white cells; the first
            `CELLS` count.
        microscopes: those that the model file describes.
    """
    features = features[:CELLS]
    n = len(features)
    verdicts = []
    for microscope in microscopes:
        score, limit = (
            float(microscope.scores(features).mean()),
            microscope.limits[n - 1],
        )
        kind: Kind = "calibrated" if microscope.calibrated else "known"
        if score > limit:
            kind = "unknown"
        verdicts.append(Verdict(kind, microscope.name, n, score, limit))
    nearest = min(verdicts, key=lambda v: v.score - v.limit, default=None)
    if nearest is None:
        return Verdict("unknown", None, n)
    if nearest.kind == "known" and any(m.calibrated for m in microscopes):
        return replace(nearest, kind="unknown")  # an adapted head knows only one
    return nearest


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
    return measured(name, len(x), means, axes, precisions, unseen, slides)


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
        means=_pack(means(everything)),
        centres=(0.0,) * len(set(labels)),
        spreads=(1.0,) * len(set(labels)),
        calibrated=True,
    )
    away = []
    for i in range(len(x)):
        others = everything.copy()
        others[i] = False
        without = replace(whole, means=_pack(means(others)))
        away.append(float(without.distances(x[i : i + 1])[0][0]))
    centre, spread = float(np.mean(away)), max(float(np.std(away, ddof=1)), 1e-3)
    scores = np.minimum((np.array(away) - centre) / spread, _FARTHEST)
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


def measured(
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
        means=_pack(means),
        axes=_pack(axes),
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
    scores = np.minimum((away - centres[nearest]) / spreads[nearest], _FARTHEST)
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
    drawn = np.minimum(of_slides[slide] + within[cell], _FARTHEST)
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


def _pack(values: Array) -> str:
    return base64.b64encode(values.astype("<f2").tobytes()).decode("ascii")


def _unpack(text: str, rows: int) -> Array:
    """Decodes an array; raises ValueError if the text isn't one of finite numbers."""
    flat = np.frombuffer(base64.b64decode(text, validate=True), "<f2")
    values = flat.astype(np.float64).reshape(rows, -1)
    if not values.size or not math.isfinite(float(np.abs(values).sum())):
        raise ValueError("values are missing or not finite")
    return values
