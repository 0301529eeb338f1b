"""A new head for a microscope: multinomial regression, pulled to the model's own head.

The loss is the sum over the cells of -log of the summed probability of the classes that
a cell may belong to, plus pull / 2 times the squared change of the weights, where all
directions of the features vary alike within the classes. It is minimised by Newton's
method with conjugate gradients, many fits at a time: one for each cell left out.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgecell.model.probabilities import fit_temperature

Array = npt.NDArray[np.floating]
Sets = npt.NDArray[np.bool_]
Curvature = Callable[[Array], Array]

PULLS = (3.0, 10.0, 30.0, 100.0, 300.0)
"""From a head that follows the cells to one that hardly moves."""

_BIAS = 12.0
"""What stands for 1 beside features of unit variance: a bias is pulled less than a
weight, for the light of a microscope shifts all cells alike."""

_FITS = 60
_STEPS = 30
_STEPS_FROM_NEAR = 3
_CONJUGATE_STEPS = 10
_HALVINGS = 12
_NOISE = 1e-6
_STILL = 1e-3
"""Largest gradient, in cells, at which a fit is done."""


@dataclass(frozen=True, eq=False)
class Head:
    """The network's last, linear layer.

    Attributes:
        weights: float64 (K, C).
        bias: float64 (C,).
    """

    weights: Array
    bias: Array

    def logits(self, features: npt.NDArray[np.floating]) -> Array:
        """Logits of cells, float64 (N, C), from pooled features (N, K)."""
        return np.asarray(np.asarray(features, np.float64) @ self.weights + self.bias)

    def after(self, change: Array) -> "Head":
        """The same head for features before a matrix was applied to them.

        Args:
            change: float64 (K, K); this head is for features @ change.
        """
        return Head(change @ self.weights, self.bias)


@dataclass(frozen=True, eq=False)
class Choice:
    """A new head and its logits for cells that it has not seen.

    Attributes:
        head: fitted to all cells.
        pull: its strength, one of `PULLS`.
        left_out: float64 (N, C), logits of each cell by a head fitted to all others.
    """

    head: Head
    pull: float
    left_out: Array


def log_likelihood(logits: Array, sets: Sets) -> Array:
    """Log of the summed probability of each cell's possible classes, float64 (N,)."""
    scaled = logits - logits.max(-1, keepdims=True)
    e = np.exp(scaled)
    return np.asarray(
        np.log(np.maximum(np.where(sets, e, 0.0).sum(-1), 1e-30)) - np.log(e.sum(-1))
    )


def choose(
    features: npt.NDArray[np.floating],
    sets: Sets,
    head: Head,
    whitening: Array | None = None,
    pulls: Sequence[float] = PULLS,
) -> Choice:
    """Fits a new head, with the pull that does best on the cells left out.

    Args:
        features: float (N, K), pooled features.
        sets: bool (N, C), the classes that each cell may belong to.
        head: the model's own.
        whitening: float64 (K, K), see `Microscope.whitening`; None leaves the
            features as they are.
        pulls: those to be tried.
    """
    change = np.eye(features.shape[1]) if whitening is None else whitening
    fit = _Fit(features @ change, sets, head.after(np.linalg.inv(change)))
    strongest_first = sorted(pulls, reverse=True)
    solved = [fit.solve(pull) for pull in strongest_first]
    with ThreadPoolExecutor(min(os.cpu_count() or 1, len(solved))) as pool:
        left_out = list(pool.map(fit.left_out, strongest_first, solved))
    choices = [
        Choice(fit.head(weights).after(change), pull, logits)
        for weights, pull, logits in zip(solved, strongest_first, left_out, strict=True)
    ]
    return max(choices, key=lambda choice: _worth(choice.left_out, sets))


def _worth(left_out: Array, sets: Sets) -> float:
    """Log likelihood of cells left out, at the temperature that they will have."""
    heat = fit_temperature(left_out, sets)
    return float(log_likelihood(left_out / heat, sets).sum())


class _Fit:
    """The cells in the space that they span, and the last solution, the next start."""

    def __init__(
        self, features: npt.NDArray[np.floating], sets: Sets, head: Head
    ) -> None:
        x = np.asarray(features, np.float64)
        self._scale = float(x.std(0).mean()) or 1.0
        wide = np.c_[x / self._scale, np.full(len(x), _BIAS)]
        # Directions in which no cell lies don't change: the pull is all there is.
        u, s, self._basis = np.linalg.svd(wide, full_matrices=False)
        # Single precision is enough for a head of 8 bits, and twice as fast.
        self._x = np.asarray(u * s, np.float32)
        self._base = np.asarray(head.logits(x), np.float32)
        self._sets = sets
        self._own = head
        self._last: Array = np.zeros((len(s), 1, sets.shape[1]), np.float32)

    def head(self, weights: Array) -> Head:
        """The head that weights in the cells' space stand for."""
        change = self._basis.T @ weights[:, 0]
        return Head(
            self._own.weights + change[:-1] / self._scale,
            self._own.bias + change[-1] * _BIAS,
        )

    def solve(self, pull: float) -> Array:
        """Weights of the fit to all cells, float32 (R, 1, C)."""
        every = np.ones((len(self._x), 1), np.float32)
        self._last = self._minimise(pull, every, self._last, _STEPS)
        return self._last

    def left_out(self, pull: float, weights: Array) -> Array:
        """Logits of each cell by the fit without it, float32 (N, C).

        Beyond `_FITS` cells some are left out together, which costs a little accuracy
        and saves most of the time.
        """
        n = len(self._x)
        group = np.arange(n) % _FITS
        fits = int(group.max()) + 1
        without = (group[:, None] != np.arange(fits)).astype(np.float32)
        start = np.repeat(weights, fits, axis=1)
        found = self._minimise(pull, without, start, _STEPS_FROM_NEAR)
        return np.asarray(self._logits(found)[np.arange(n), group])

    def _logits(self, weights: Array) -> Array:
        """Float32 (N, B, C) of B fits."""
        flat = self._x @ weights.reshape(len(weights), -1)
        return self._base[:, None] + flat.reshape(-1, *weights.shape[1:])

    def _loss(self, pull: float, kept: Array, weights: Array) -> Array:
        fits = log_likelihood(self._logits(weights), self._sets[:, None])
        squares = (weights**2).sum((0, 2))
        return np.asarray(pull / 2 * squares - (kept * fits).sum(0))

    def _minimise(self, pull: float, kept: Array, weights: Array, steps: int) -> Array:
        """Newton steps for B fits at once.

        Args:
            pull: strength.
            kept: float32 (N, B), 1 where a fit has a cell and 0 where it is left out.
            weights: float32 (R, B, C), where to start.
            steps: at most.
        """
        shape, x = weights.shape, self._x
        loss = self._loss(pull, kept, weights)
        for _ in range(steps):
            logits = self._logits(weights)
            p = np.exp(logits - logits.max(-1, keepdims=True))
            p /= p.sum(-1, keepdims=True)
            q = np.where(self._sets[:, None], p, 0.0)
            q /= np.maximum(q.sum(-1, keepdims=True), 1e-30)
            residual = (p - q) * kept[..., None]
            gradient = (x.T @ residual.reshape(len(x), -1)).reshape(shape)
            gradient += pull * weights
            if np.abs(gradient).max() < _STILL:
                break

            def curvature(v: Array, p: Array = p) -> Array:
                along = (x @ v.reshape(shape[0], -1)).reshape(p.shape)
                bent = p * (along - (p * along).sum(-1, keepdims=True))
                bent *= kept[..., None]
                back = (x.T @ bent.reshape(len(x), -1)).reshape(shape)
                return np.asarray(back + pull * v)

            step = _conjugate_gradients(curvature, -gradient)
            weights, loss = self._descend(pull, kept, weights, step, loss)
        return weights

    def _descend(
        self, pull: float, kept: Array, weights: Array, step: Array, loss: Array
    ) -> tuple[Array, Array]:
        """Takes a step, halved again and again for fits that it makes worse."""
        length = np.ones_like(loss)
        for _ in range(_HALVINGS):
            moved = weights + length[:, None] * step
            after = self._loss(pull, kept, moved)
            worse = after > loss + _NOISE * np.abs(loss)
            if not worse.any():
                return moved, after
            length = np.where(worse, length / 2, length)
        length = np.where(worse, 0.0, length)
        moved = weights + length[:, None] * step
        return moved, np.minimum(after, loss)


def _conjugate_gradients(curvature: Curvature, wanted: Array) -> Array:
    """Solves curvature(v) = wanted for each of B fits; both float32 (R, B, C)."""
    solution = np.zeros_like(wanted)
    rest, along = wanted, wanted
    squared = (rest**2).sum((0, 2))
    for _ in range(_CONJUGATE_STEPS):
        bent = curvature(along)
        length = squared / np.maximum((along * bent).sum((0, 2)), 1e-30)
        solution = solution + length[:, None] * along
        rest = rest - length[:, None] * bent
        before, squared = squared, (rest**2).sum((0, 2))
        if squared.max() < _STILL**2 / 100:
            break
        along = rest + (squared / np.maximum(before, 1e-30))[:, None] * along
    return solution
