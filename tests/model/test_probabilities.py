import numpy as np
import pytest

from edgecell.classes import CODES
from edgecell.model.classifier import Prediction
from edgecell.model.probabilities import only, possible_classes, softmax


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
