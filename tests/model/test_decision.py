from dataclasses import replace

import numpy as np
import pytest
from crepes import ConformalClassifier

from edgecell.classes import CLASSES
from edgecell.image.preprocess import Preprocessing
from edgecell.model.decision import (
    accepted,
    conformal_thresholds,
    energy,
    fit_review,
    review_reasons,
)
from edgecell.model.modelfile import ModelRecord, ReviewRule
from edgecell.model.probabilities import softmax

RECORD = ModelRecord(
    CLASSES[:3],
    Preprocessing(112, 0.66, 3.0, 95, 240, (0.0,) * 3, (1.0,) * 3),
    {"name": "x"},
    (0.0,) * 3,
    review=ReviewRule(0.1, (0.5, 0.2, 0.9), least_energy=1.0),
)
A, B, C = RECORD.codes


def logits(*probabilities: float, energy: float = 2.0) -> np.ndarray:
    return np.asarray(np.log(np.array(probabilities)) + energy)


def test_thresholds_by_hand() -> None:
    # Ten cells of class 0 with probabilities .1, .2, ... 1; three of class 1.
    own = np.concatenate([np.arange(1, 11) / 10, [0.3, 0.6, 0.9]])
    y = np.repeat([0, 1], [10, 3]).astype(np.int32)
    p = np.where(y[:, None] == [0, 1], own[:, None], 1 - own[:, None])
    # floor(0.3 x 11) = 3 and floor(0.3 x 4) = 1.
    np.testing.assert_allclose(conformal_thresholds(p, y, 0.3), [0.3, 0.3])
    # floor(0.2 x 4) = 0: three cells can't promise 80 %.
    np.testing.assert_allclose(conformal_thresholds(p, y, 0.2), [0.2, 0.0])


@pytest.mark.parametrize("alpha", [0.037, 0.11, 0.29])
def test_what_is_possible_agrees_with_crepes(alpha: float) -> None:
    """An independent implementation of class-conditional conformal classification."""
    rng = np.random.default_rng(3)
    y = rng.choice(4, 700, p=(0.6, 0.3, 0.09, 0.01)).astype(np.int32)
    x = rng.normal(0, 1.5, (700, 4)) + 2 * np.eye(4)[y]
    p = softmax(x.astype(np.float32), 1.0)
    fresh = softmax(rng.normal(0, 2, (500, 4)).astype(np.float32), 1.0)
    possible = fresh >= conformal_thresholds(p, y, alpha)
    for c in range(4):
        theirs = ConformalClassifier().fit(1 - p[y == c, c])
        sets = theirs.predict_set(
            1 - fresh[:, [c]], confidence=1 - alpha, smoothing=False
        )
        assert np.array_equal(possible[:, c], sets[:, 0] > 0)


def test_each_class_is_covered_on_fresh_cells() -> None:
    rng = np.random.default_rng(0)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        y = rng.choice(3, n, p=(0.6, 0.3, 0.1)).astype(np.int32)
        # The last class is hard: its margin is small.
        x = rng.normal(0, 1, (n, 3)) + np.eye(3)[y] * np.array([4.0, 3.0, 1.0])
        return softmax(x.astype(np.float32), 1.0), y

    thresholds = conformal_thresholds(*draw(6000), 0.1)
    p, y = draw(20000)
    for c in range(3):
        covered = (p[y == c, c] >= thresholds[c]).mean()
        # The promise holds on average over held-out sets: sd 0.013 for 600 cells.
        assert 0.9 - 0.04 <= covered <= 0.9 + 0.04


def test_reasons() -> None:
    assert review_reasons(logits(0.9, 0.05, 0.05), RECORD) == ()
    assert review_reasons(logits(0.6, 0.3, 0.1), RECORD) == (
        f"several classes possible: {A}, {B}",
    )
    # C is most probable but below its threshold, B is possible.
    assert review_reasons(logits(0.05, 0.25, 0.7), RECORD) == (
        f"several classes possible: {C}, {B}",
    )
    assert review_reasons(logits(0.1, 0.1488, 0.7512), RECORD) == (
        f"low confidence: {C} at 75.1 %, accepted from 90 %",
    )
    assert review_reasons(logits(0.9, 0.05, 0.05, energy=0.9), RECORD) == (
        "out of distribution",
    )
    none = replace(RECORD, review=None)
    (reason,) = review_reasons(logits(0.9, 0.05, 0.05), none)
    assert reason.startswith("low confidence")


def test_reasons_agree_with_accepted() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(0, 2, (300, 3)).astype(np.float32) + 3
    assert RECORD.review is not None
    p = softmax(x, RECORD.temperature)
    taken = accepted(p, np.array(RECORD.review.least_probability))
    assert 20 < taken.sum() < 280
    assert [not review_reasons(row, RECORD) for row in x] == taken.tolist()


def test_energy_is_scipys_logsumexp() -> None:
    from scipy.special import logsumexp

    x = np.random.default_rng(0).normal(0, 300, (20, 5))
    np.testing.assert_allclose(energy(x), logsumexp(x, axis=1))


def test_the_fitted_rule_keeps_its_promise_where_it_can() -> None:
    rng = np.random.default_rng(2)
    y = rng.integers(0, 3, 3000).astype(np.int32)
    x = (rng.normal(0, 1, (3000, 3)) + 2.5 * np.eye(3)[y]).astype(np.float32)
    rule = fit_review(x, y, 1.0, np.ones(3, bool))
    p = softmax(x, 1.0)
    taken = accepted(p, np.array(rule.least_probability))
    right = p.argmax(1) == y
    assert right.mean() < 0.95
    assert right[taken].mean() >= 0.97
    assert 0.5 < taken.mean() < 1
    assert (energy(x) < rule.least_energy).mean() == pytest.approx(0.005, abs=0.001)


def test_a_class_that_was_never_learned_keeps_no_cell_from_being_accepted() -> None:
    rng = np.random.default_rng(2)
    y = rng.integers(0, 2, 3000)
    means = np.array([[3.0, 0.0, -2.0], [0.0, 3.0, -2.0]])
    x = (rng.normal(0, 1, (3000, 3)) + means[y]).astype(np.float32)
    learned = np.array([True, True, False])
    rule = fit_review(x, y.astype(np.int32), 1.0, learned)
    assert rule.least_probability[2] == 1.0
    p = softmax(x, 1.0)
    assert accepted(p, np.array(rule.least_probability)).mean() > 0.5
    blind = fit_review(x, y.astype(np.int32), 1.0, ~np.zeros(3, bool))
    assert not accepted(p, np.array(blind.least_probability)).any()


def test_a_record_carries_the_rule() -> None:
    again = ModelRecord.from_json(RECORD.to_json(), "x")
    assert again == RECORD
    with pytest.raises(ValueError, match="one threshold for each class"):
        replace(RECORD, review=ReviewRule(0.1, (0.5,), 0.0))


def test_one_threshold_for_all_classes_where_cells_are_few() -> None:
    rng = np.random.default_rng(4)
    y = rng.integers(0, 2, 40).astype(np.int32)
    means = np.array([[4.0, 0.0, -2.0], [0.0, 4.0, -2.0]])
    x = (rng.normal(0, 0.8, (40, 3)) + means[y]).astype(np.float32)
    every = np.ones(3, bool)
    each = fit_review(x, y, 1.0, every)
    # No cell of the third class: nothing excludes it, so no cell is accepted.
    assert each.least_probability[2] == 0.0
    assert not accepted(softmax(x, 1.0), np.array(each.least_probability)).any()
    one = fit_review(x, y, 1.0, every, pooled=True)
    (threshold,) = set(one.least_probability)
    own = softmax(x, 1.0)[np.arange(40), y]
    assert threshold in own
    assert accepted(softmax(x, 1.0), np.array(one.least_probability)).mean() > 0.8
