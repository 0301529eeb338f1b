import base64
import itertools
from typing import Any

import numpy as np
import pytest

from edgecell.model.cam import class_activation
from edgecell.morphology.heads import Value, packed
from tests.morphology.heads import BIAS, WEIGHTS, heads


def test_logits_and_probabilities_by_hand() -> None:
    own = heads()
    logits = own.logits(np.array([2.0, 1.0]))
    # 2 x (1, -1, 2, -1, -1) + (-.5, .5, 0, 1, -1) + bias
    assert logits.tolist() == pytest.approx([1.75, -1.75, 4.0, -0.5, -3.5])
    p = own.probabilities(logits)
    first = np.exp(3.5) / (np.exp(3.5) + 1)
    second = np.exp(np.array([2.0, -0.25, -1.75]))  # temperature 2
    assert p.tolist() == pytest.approx([first, 1 - first, *second / second.sum()])
    values = own.values(logits)
    assert [(v.attribute, v.value) for v in values] == [
        ("nucleus_shape", "segmented-bilobed"),
        ("granule_type", "coarse"),
    ]
    assert values[0].probability == pytest.approx(first)
    assert own.share("SNE", Value("nucleus_shape", "unsegmented-band", 0.1)) == 0.4
    many = own.probabilities(np.stack([logits, 1000 * logits]))
    assert many[0].tolist() == pytest.approx(p.tolist())
    assert many[1].tolist() == [1, 0, 1, 0, 0]


def test_each_value_has_a_map_whose_mean_and_bias_are_its_logit() -> None:
    own = heads()
    features = np.random.default_rng(0).normal(size=(7, 7, 2)).astype(np.float32)
    means = own.maps(features).mean((0, 1)) + np.array(BIAS)
    assert means == pytest.approx(own.logits(features.mean((0, 1))), abs=1e-5)


def test_maps_are_grad_cam_by_tensorflows_gradients() -> None:
    import tensorflow as tf

    rng = np.random.default_rng(1)
    features = np.abs(rng.normal(size=(5, 7, 7, 24))).astype(np.float32)
    weights = rng.normal(size=(24, 5)).astype(np.float16)
    own = heads(weights=packed(weights))
    dense = tf.constant(weights, tf.float32)
    filled = 0
    for cell, slot in itertools.product(features, range(5)):
        x = tf.constant(cell)
        with tf.GradientTape() as tape:
            tape.watch(x)
            logit = (tf.linalg.matvec(dense, tf.reduce_mean(x, (0, 1)), True))[slot]
        importance = tape.gradient(logit, x).numpy().mean((0, 1))
        expected = np.maximum((cell * importance).sum(-1), 0)
        if expected.any():
            expected /= expected.max()
            filled += 1
        found = class_activation(own.maps(cell), slot)
        assert np.abs(found - expected).max() < 1e-5
    assert filled > 12  # not equal by being empty


@pytest.mark.parametrize(
    "change",
    [
        {"bias": BIAS[:-1]},
        {"temperatures": (1.0,)},
        {"temperatures": (1.0, 0.0)},
        {"typical": ((0.5,) * 5,)},
        {"typical": ((0.5, 0.5, 1.5, 0.0, 0.0),) * 3},
        {"weights": packed(WEIGHTS.ravel()[:-1])},
        {"weights": packed(np.full((2, 5), np.inf))},
        {"weights": base64.b64encode(b"abc").decode()},
        {"weights": "no base64"},
        {"attributes": ()},
    ],
)
def test_heads_that_do_not_fit_together_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        heads(**change)
