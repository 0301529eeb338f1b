import numpy as np
import pytest

from edgecell.convert.gate import compare, correlations
from edgecell.model.predict import Outputs


def outputs(probabilities: list[list[float]], maps: np.ndarray) -> Outputs:
    return Outputs(np.log(np.array(probabilities, np.float32)), maps)


def test_comparison_by_hand() -> None:
    ramp = np.arange(4, dtype=np.float32).reshape(2, 2)
    maps = np.stack([np.stack([ramp, 5 - ramp], -1)] * 4)
    before = outputs([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7]], maps)
    turned = maps.copy()
    turned[1, :, :, 0] = -ramp
    after = outputs([[0.9, 0.1], [0.4, 0.6], [0.4, 0.6], [0.2, 0.8]], turned)
    y = np.array([0, 0, 1, 1], np.int32)
    c = compare(before, after, y, ("A", "B"), 1.0)
    assert (c.n, c.accuracy_before, c.accuracy_after) == (4, 1.0, 0.75)
    assert c.drop == pytest.approx(25)
    assert c.agreement == 0.75
    # Half the sums of the differences: 0, 0.4, 0, 0.1.
    assert c.drift_mean == pytest.approx(0.125, abs=1e-6)
    assert c.drift_worst == pytest.approx(0.4, abs=1e-6)
    # Maps of the class named before: equal, opposite, equal, equal.
    assert c.map_similarity == pytest.approx(0.5)
    assert c.recalls == {"A": (1.0, 0.5), "B": (1.0, 1.0)}
    assert c.losers() == [("A", 1.0, 0.5)]


def test_correlation_is_numpys_and_flat_maps_are_told_apart() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 5, 3, 3))
    expected = [
        np.corrcoef(x.ravel(), y.ravel())[0, 1] for x, y in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(correlations(a, b), expected)
    flat = np.ones((1, 3, 3))
    assert correlations(flat, flat)[0] == 1
    assert correlations(flat, a[:1])[0] == 0
