import numpy as np
import pytest

from edgecell.convert.temperature import fit_temperature


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_finds_the_temperature_that_labels_were_drawn_with(true: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (20_000, 5)).astype(np.float32)
    p = np.exp(logits / true)
    p /= p.sum(1, keepdims=True)
    y = (p.cumsum(1) < rng.random((len(p), 1))).sum(1).astype(np.int32)
    assert fit_temperature(logits, y) == pytest.approx(true, rel=0.05)


def test_two_classes_by_hand() -> None:
    # Three of four right at a margin of 2: sigmoid(2 / T) = 3/4, T = 2 / ln 3.
    logits = np.array([[2.0, 0.0]] * 4, np.float32)
    y = np.array([0, 0, 0, 1], np.int32)
    assert fit_temperature(logits, y) == pytest.approx(2 / np.log(3), rel=1e-3)
