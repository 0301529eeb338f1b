import numpy as np
import pytest

from edgecell.benchmarks.cam_agreement import closed_forms, gradient_maps
from edgecell.model import cam
from edgecell.model.kerasfile import HEAD_LAYER
from tests.factories import TINY

# Two features at two positions: A = [[1, 3], [2, 0]] (position by feature).
FEATURES = np.array([[[1, 3], [2, 0]]], np.float32)
WEIGHTS = np.array([[2, -1], [-1, 4]], np.float32)


def test_maps_by_hand() -> None:
    maps = FEATURES @ WEIGHTS  # class 0: -1, 4; class 1: 11, -2
    assert cam.class_activation(maps, 0).tolist() == [[0, 1]]
    # Class 1 less class 0: 12, -6.
    assert cam.finer_cam(maps, 1, 0).tolist() == [[1, 0]]
    # Positive weights alone, class 0: 2 * feature 0 = 2, 4.
    assert cam.layer_cam(FEATURES, WEIGHTS, 0).tolist() == [[0.5, 1]]
    both = np.array([[1.0, 0], [2.0, 0]], np.float32)
    # Means 1.5 and 1.5: weights 1 / (2 + 1.5) and 2 / (2 + 3), so 0.286 A0 + 0.4 A1.
    expected = np.array([1 / 3.5 + 3 * 0.4, 2 / 3.5])
    found = cam.grad_cam_plus_plus(FEATURES, both, 0)
    assert found[0] == pytest.approx(expected / expected.max())


def test_what_speaks_against_a_class_everywhere_is_empty_and_not_stretched() -> None:
    against = -np.abs(np.random.default_rng(0).normal(size=(7, 7, 2)))
    maps = against.astype(np.float32) * 1e-3
    assert not cam.class_activation(maps, 0).any()
    assert not cam.finer_cam(maps, 1, 1).any()
    assert not cam.layer_cam(FEATURES, -np.abs(WEIGHTS), 0).any()
    assert not cam.grad_cam_plus_plus(FEATURES, -np.abs(WEIGHTS), 0).any()


def test_closed_forms_are_the_gradients() -> None:
    import keras

    from edgecell.train.networks.network import build

    keras.utils.set_random_seed(0)
    model = build(TINY, input_size=32)
    kernel, bias = model.get_layer(HEAD_LAYER).get_weights()
    rng = np.random.default_rng(0)
    kernel = rng.normal(0, 0.5, kernel.shape).astype(np.float32)
    model.get_layer(HEAD_LAYER).set_weights([kernel, bias])
    x = rng.normal(size=(12, 32, 32, 3)).astype(np.float32)
    index, other = list(range(12)), [(i + 5) % 12 for i in range(12)]
    features, by_gradient = gradient_maps(model, x, index, other)
    filled = dict.fromkeys(by_gradient, 0)
    for i in range(12):
        closed = closed_forms(features[i], kernel, index[i], other[i])
        for method, reference in by_gradient.items():
            assert np.abs(closed[method] - reference[i]).max() < 1e-4
            filled[method] += bool(reference[i].any())
    assert min(filled.values()) >= 6  # not equal by being empty
