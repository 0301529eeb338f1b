"""Exact intervals and tests for counts; no scipy on a device."""

import math

import numpy as np
import numpy.typing as npt

_HALVINGS = 60
_FLIPS = 10_000


def at_least(k: int, n: int, p: float) -> float:
    """P(X >= k) of a binomial X with n trials of probability p."""
    if k <= 0:
        return 1.0
    if p <= 0 or k > n:
        return 0.0
    if p >= 1:
        return 1.0
    base = math.lgamma(n + 1)
    ups, downs = math.log(p), math.log1p(-p)
    return math.fsum(
        math.exp(
            base
            - math.lgamma(i + 1)
            - math.lgamma(n - i + 1)
            + i * ups
            + (n - i) * downs
        )
        for i in range(k, n + 1)
    )


def clopper_pearson(k: int, n: int, error: float = 0.05) -> tuple[float, float]:
    """An exact interval of a share (Clopper and Pearson, Biometrika 26:404, 1934).

    Args:
        k: how many of n have the property, 0..n.
        n: how many there are.
        error: probability that the interval misses the share, at most.

    Returns:
        Lower and upper bound, 0..1; (0, 1) if there are none.
    """
    if n == 0:
        return 0.0, 1.0
    low = _bound(k, n, error / 2) if k else 0.0
    # The share without the property has the mirrored interval.
    high = 1.0 - _bound(n - k, n, error / 2) if k < n else 1.0
    return low, high


def _bound(k: int, n: int, tail: float) -> float:
    """The p for which P(X >= k) is ``tail``."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if at_least(k, n, middle) < tail else (low, middle)
    return low


def chance_of_gain(gains: npt.NDArray[np.floating]) -> float:
    """Whether paired differences are above 0 in the mean, by flipping their signs.

    If a change did nothing, each difference could as well have the other sign (Fisher,
    The Design of Experiments, 1935, section 21). If there are few enough flips, all of
    them are tried; otherwise random ones.

    Args:
        gains: float (N,), what each cell gained.

    Returns:
        The share of flips with a mean at least as large as the observed one, which is
        included.
    """
    n = len(gains)
    if 2**n <= _FLIPS:
        flips = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
        signs, found = 1 - 2 * flips, 0
    else:
        signs = np.random.default_rng(0).choice((-1, 1), (_FLIPS, n))
        found = 1
    # A hair below, for sums of the same numbers in another order.
    least = float(gains.sum()) - 1e-9
    return float(((signs @ gains >= least).sum() + found) / (len(signs) + found))
