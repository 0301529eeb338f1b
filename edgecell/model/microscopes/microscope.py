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

FARTHEST = 3.0
"""Score at which a cell's distance is capped: one speck of dirt among ten cells must
not make a known microscope unknown."""

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
            float64 (N,), at most `FARTHEST`; cells of this microscope are at 0 in
            the mean, whatever their classes.
        """
        away, nearest = self.distances(features)
        centres, spreads = np.array(self.centres), np.array(self.spreads)
        each = (away - centres[nearest]) / spreads[nearest]
        return np.asarray(np.minimum(each, FARTHEST))


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


def pack(values: Array) -> str:
    """Means or axes as a record keeps them: float16 in base64."""
    return base64.b64encode(values.astype("<f2").tobytes()).decode("ascii")


def _unpack(text: str, rows: int) -> Array:
    """Decodes an array; raises ValueError if the text isn't one of finite numbers."""
    flat = np.frombuffer(base64.b64decode(text, validate=True), "<f2")
    values = flat.astype(np.float64).reshape(rows, -1)
    if not values.size or not math.isfinite(float(np.abs(values).sum())):
        raise ValueError("values are missing or not finite")
    return values
