import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest, permutation_test

from edgecell.edge.count.exact import at_least, chance_of_gain, clopper_pearson


@pytest.mark.parametrize(
    ("k", "n"), [(0, 1), (1, 1), (0, 10), (3, 10), (36, 36), (97, 100), (999, 2000)]
)
@pytest.mark.parametrize("error", [0.05, 0.01])
def test_intervals_are_scipys(k: int, n: int, error: float) -> None:
    expected = binomtest(k, n).proportion_ci(1 - error, method="exact")
    low, high = clopper_pearson(k, n, error)
    assert low == pytest.approx(expected.low, abs=1e-9)
    assert high == pytest.approx(expected.high, abs=1e-9)


def test_no_cell_says_nothing() -> None:
    assert clopper_pearson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("p", [0.0, 0.03, 0.5, 0.99, 1.0])
def test_tails_are_scipys(p: float) -> None:
    for k in range(14):
        assert at_least(k, 12, p) == pytest.approx(binom.sf(k - 1, 12, p), abs=1e-12)


def test_the_chance_of_a_gain_by_hand() -> None:
    # Of the 8 signs of 1, 2, 3 only +++ sums to 6; of 1, 2, -3 four reach 0.
    assert chance_of_gain(np.array([1.0, 2.0, 3.0])) == 1 / 8
    assert chance_of_gain(np.array([1.0, 2.0, -3.0])) == 5 / 8
    assert chance_of_gain(np.zeros(5)) == 1.0


def test_many_gains_are_tested_as_scipy_does() -> None:
    gains = np.random.default_rng(0).normal(0.2, 1, 60)
    theirs = permutation_test(
        (gains,),
        np.mean,
        permutation_type="samples",
        alternative="greater",
        n_resamples=20_000,
        rng=1,
    )
    assert chance_of_gain(gains) == pytest.approx(theirs.pvalue, abs=0.01)


def test_thirty_six_of_thirty_six_suffice_for_ninety_percent() -> None:
    assert clopper_pearson(36, 36)[0] > 0.9 >= clopper_pearson(35, 35)[0]
    assert math.isclose(clopper_pearson(36, 36)[0], 0.025 ** (1 / 36))
