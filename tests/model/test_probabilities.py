import numpy as np
import pytest

from edgecell.classes import CODES
from edgecell.model.classifier import Prediction
from edgecell.model.probabilities import (
    fit_temperature,
    only,
    possible_classes,
    softmax,
)


def codes(size: float) -> set[str]:
    return {
        c for c, yes in zip(CODES, possible_classes(CODES, size), strict=True) if yes
    }


@pytest.mark.parametrize("size", [0.2, 0.6])
def test_the_smallest_things_are_platelets(size: float) -> None:
    assert codes(size) == {"PLT"}


def test_erythroblasts_are_smaller_than_white_cells() -> None:
    assert codes(0.8) == {"PLT", "ERB"}


def test_a_red_cells_size_tells_nothing() -> None:
    assert codes(1.2) == set(CODES)


def test_what_is_larger_is_no_platelet() -> None:
    assert codes(1.8) == set(CODES) - {"PLT"}


def test_a_model_that_knows_none_of_the_possible_classes_names_any() -> None:
    assert possible_classes(("LY", "SNE"), 0.3).tolist() == [True, True]
    assert possible_classes(("LY", "SNE", "PLT"), 0.3).tolist() == [False, False, True]


def test_a_class_that_is_out_has_no_probability_and_the_others_share_it() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.2], np.float32))
    possible = np.array([False, True, True])
    assert softmax(only(logits, possible), 1.0) == pytest.approx([0, 0.6, 0.4])
    prediction = Prediction(
        ("PLT", "LY", "MO"),
        logits,
        softmax(logits, 1.0),
        np.zeros((1, 1, 3), np.float32),
    )
    assert prediction.only(possible).probabilities == pytest.approx([0, 0.6, 0.4])
    assert prediction.only(possible).index == 1
    assert prediction.only(possible).logits is prediction.logits


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_finds_the_temperature_that_labels_were_drawn_with(true: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (20_000, 5)).astype(np.float32)
    p = np.exp(logits / true)
    p /= p.sum(1, keepdims=True)
    y = (p.cumsum(1) < rng.random((len(p), 1))).sum(1).astype(np.int32)
    assert fit_temperature(
        logits, np.eye(logits.shape[1], dtype=bool)[y]
    ) == pytest.approx(true, rel=0.05)


def test_two_classes_by_hand() -> None:
    # Three of four right at a margin of 2: sigmoid(2 / T) = 3/4, T = 2 / ln 3.
    logits = np.array([[2.0, 0.0]] * 4, np.float32)
    y = np.array([0, 0, 0, 1], np.int32)
    assert fit_temperature(
        logits, np.eye(logits.shape[1], dtype=bool)[y]
    ) == pytest.approx(2 / np.log(3), rel=1e-3)


def test_a_set_of_classes_counts_as_one() -> None:
    # Classes 1 and 2 together are one class with logit log(e^1 + e^1) at T = 1 alone;
    # a cell of all classes says nothing.
    logits = np.array([[2.0, 0.0, -1.0]] * 4 + [[1.0, 3.0, 0.0]], np.float32)
    sets = np.array([[1, 0, 0]] * 3 + [[0, 1, 1]] + [[1, 1, 1]], bool)
    inverse = np.linspace(0.05, 20, 400_000)

    def loss(b: np.ndarray) -> np.ndarray:
        z = np.exp(b[:, None] * [2.0, 0.0, -1.0])
        total = z.sum(1)
        last = np.log((z[:, 1] + z[:, 2]) / total)
        return np.asarray(-3 * np.log(z[:, 0] / total) - last)

    best = 1 / inverse[loss(inverse).argmin()]
    assert fit_temperature(logits, sets) == pytest.approx(best, rel=1e-3)
