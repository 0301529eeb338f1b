import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from edgecell.edge.adapt.head import PULLS, Head, choose, log_likelihood
from edgecell.model.probabilities import HOTTEST

K, C = 5, 4


def cells(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, Head]:
    """Features, sets of one class each, and a head that is not theirs."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, C, n)
    centres = 2 * rng.normal(size=(C, K))
    x = centres[y] + rng.normal(size=(n, K)) + 3
    own = Head(rng.normal(size=(K, C)), rng.normal(size=C))
    return x, np.eye(C, dtype=bool)[y], own


def objective(
    x: np.ndarray, sets: np.ndarray, own: Head, pull: float
) -> tuple[np.ndarray, np.ndarray]:
    """The head that scipy finds for the documented loss."""
    scale = x.std(0).mean()
    wide = np.c_[x / scale, np.full(len(x), 12.0)]

    def loss(flat: np.ndarray) -> float:
        z = own.logits(x) + wide @ flat.reshape(K + 1, C)
        p = np.exp(z - z.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        inside = np.where(sets, p, 0).sum(1)
        return float(-np.log(inside).sum() + pull / 2 * (flat**2).sum())

    found = minimize(loss, np.zeros((K + 1) * C), method="L-BFGS-B", tol=1e-12)
    change = found.x.reshape(K + 1, C)
    return own.weights + change[:-1] / scale, own.bias + 12 * change[-1]


@pytest.mark.parametrize("pull", [3.0, 100.0])
@pytest.mark.parametrize("grouped", [False, True])
def test_the_fit_minimises_the_documented_loss(pull: float, grouped: bool) -> None:
    x, sets, own = cells(30)
    if grouped:
        sets[::3] |= np.roll(sets[::3], 1, axis=1)
    choice = choose(x, sets, own, pulls=[pull])
    weights, bias = objective(x, sets, own, pull)
    np.testing.assert_allclose(
        choice.head.logits(x), x @ weights + bias, atol=0.02, rtol=0.02
    )


def test_without_a_head_of_its_own_it_is_sklearns_logistic_regression() -> None:
    x, sets, _ = cells(60)
    blank = Head(np.zeros((K, C)), np.zeros(C))
    scale = x.std(0).mean()
    wide = np.c_[x / scale, np.full(len(x), 12.0)]
    theirs = LogisticRegression(C=1 / 10, fit_intercept=False, max_iter=5000, tol=1e-8)
    theirs.fit(wide, sets.argmax(1))
    ours = log_likelihood(choose(x, sets, blank, pulls=[10.0]).head.logits(x), sets)
    expected = theirs.predict_log_proba(wide)[np.arange(60), sets.argmax(1)]
    np.testing.assert_allclose(ours, expected, atol=2e-3)


def test_left_out_cells_are_judged_by_the_others() -> None:
    x, sets, own = cells(25)
    choice = choose(x, sets, own, pulls=[10.0])
    for i in (0, 7, 24):
        others = np.arange(25) != i
        scale = x.std(0).mean()
        # The scale of all cells is kept, so that the pull is the same one.
        factor = x[others].std(0).mean() / scale
        alone = choose(
            x[others] / factor,
            sets[others],
            Head(own.weights * factor, own.bias),
            pulls=[10.0],
        ).head
        np.testing.assert_allclose(
            choice.left_out[i], (x[i] / factor) @ alone.weights + alone.bias, atol=0.15
        )


def test_labels_that_say_nothing_change_nothing() -> None:
    x, sets, own = cells(30)
    choice = choose(x, np.ones_like(sets), own)
    np.testing.assert_allclose(choice.head.weights, own.weights, atol=1e-6)


def test_the_stronger_the_pull_the_less_the_head_moves() -> None:
    x, sets, own = cells(30)
    moved = [
        float(
            np.abs(choose(x, sets, own, pulls=[pull]).head.weights - own.weights).sum()
        )
        for pull in PULLS
    ]
    assert moved == sorted(moved, reverse=True)
    assert moved[-1] < moved[0] / 3


def test_more_cells_than_fits_are_left_out_in_groups() -> None:
    x, sets, own = cells(150)
    choice = choose(x, sets, own, pulls=[10.0])
    right = (choice.left_out.argmax(1) == sets.argmax(1)).mean()
    fitted = (choice.head.logits(x).argmax(1) == sets.argmax(1)).mean()
    assert 0.6 < right <= fitted


def test_a_whitening_is_the_same_as_features_of_unit_variance() -> None:
    x, sets, own = cells(30)
    rng = np.random.default_rng(3)
    change = np.linalg.qr(rng.normal(size=(x.shape[1],) * 2))[0]
    change = change @ np.diag(rng.uniform(0.5, 2, x.shape[1])) @ change.T
    back = Head(np.linalg.inv(change) @ own.weights, own.bias)
    ours, theirs = choose(x, sets, own, change), choose(x @ change, sets, back)
    np.testing.assert_allclose(
        ours.head.logits(x), theirs.head.logits(x @ change), atol=1e-4
    )
    assert ours.pull == theirs.pull
    plain = choose(x, sets, own, pulls=[ours.pull]).head.logits(x)
    assert np.abs(ours.head.logits(x) - plain).max() > 0.01


def test_the_pull_is_chosen_at_the_temperature_that_the_model_gets() -> None:
    rng = np.random.default_rng(2)
    y = rng.integers(0, C, 25)
    centres = 1.5 * rng.normal(size=(C, K))
    x, sets = centres[y] + 1.5 * rng.normal(size=(25, K)), np.eye(C, dtype=bool)[y]
    # The best linear head for such cells, far too sure of itself.
    own = Head(25 * centres.T, -12.5 * (centres**2).sum(1))
    each = {p: choose(x, sets, own, pulls=[p]).left_out for p in PULLS}
    as_it_is = {p: log_likelihood(z, sets).sum() for p, z in each.items()}
    scaled = {
        p: max(
            log_likelihood(z / t, sets).sum()
            for t in np.geomspace(1 / HOTTEST, HOTTEST, 400)
        )
        for p, z in each.items()
    }
    best = max(PULLS, key=lambda p: scaled[p])
    assert best != max(PULLS, key=lambda p: as_it_is[p])
    assert choose(x, sets, own).pull == best
