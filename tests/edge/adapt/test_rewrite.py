from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgecell.data.dataset import load_images, scan
from edgecell.edge.adapt.rewrite import Range, output_range, with_head
from edgecell.model.classifier import Classifier, map_residual
from edgecell.model.graph import head_weights, read_graph, real_values
from edgecell.model.modelfile import LOGITS, MAPS, bundled_model, write_tflite

Rewritten = Callable[[np.ndarray, np.ndarray, float], Classifier]


@pytest.fixture(scope="module")
def parent() -> Classifier:
    return Classifier(bundled_model())


@pytest.fixture(scope="module")
def views(parent: Classifier) -> np.ndarray:
    cells = bundled_model().parent / "cells"
    files = scan([cells])[::4]
    return load_images(files, parent.record.preprocessing)


@pytest.fixture
def rewritten(parent: Classifier, tmp_path: Path) -> Rewritten:
    def rewrite(weights: np.ndarray, bias: np.ndarray, reach: float) -> Classifier:
        span = Range(-reach, reach)
        flatbuffer = with_head(parent.flatbuffer, weights, bias, span, span)
        record = replace(parent.record, head_bias=tuple(float(b) for b in bias))
        path = tmp_path / "new.tflite"
        write_tflite(path, flatbuffer, record)
        return Classifier(path)

    return rewrite


def test_maps_and_logits_are_those_of_the_new_head(
    parent: Classifier, views: np.ndarray, rewritten: Rewritten
) -> None:
    rng = np.random.default_rng(1)
    weights = head_weights(parent.flatbuffer) + 0.05 * rng.normal(size=(224, 12))
    bias = rng.normal(size=12)
    new = rewritten(weights, bias, 40.0)
    for view in views:
        found = new.classify(view, features=True)
        assert found.features is not None
        expected = found.features @ weights
        step = 80 / 255
        assert np.abs(found.maps - expected).max() < 1.5 * step
        assert np.abs(found.logits - (found.pooled @ weights + bias)).max() < 1.5 * step
        assert map_residual(found, new.record.head_bias) < 2 * step


def test_the_same_head_gives_the_same_answers(
    parent: Classifier, views: np.ndarray, rewritten: Rewritten
) -> None:
    weights = head_weights(parent.flatbuffer)
    maps = output_range(parent.flatbuffer, MAPS)
    logits = output_range(parent.flatbuffer, LOGITS)
    assert maps is not None
    assert logits is not None
    bias = np.array(parent.record.head_bias)
    again = with_head(parent.flatbuffer, weights, bias, maps, logits)
    same = np.frombuffer(again, np.uint8) == np.frombuffer(parent.flatbuffer, np.uint8)
    assert same.mean() > 0.9999
    np.testing.assert_allclose(head_weights(again), weights, rtol=1e-5)


def test_nothing_but_the_head_is_changed(
    parent: Classifier, rewritten: Rewritten
) -> None:
    new = rewritten(np.ones((224, 12)), np.zeros(12), 10.0)
    assert len(new.flatbuffer) == len(parent.flatbuffer)
    before, after = read_graph(parent.flatbuffer), read_graph(new.flatbuffer)
    changed = []
    for old, now in zip(before.tensors(), after.tensors(), strict=True):
        assert (old.name, old.shape, old.dtype) == (now.name, now.shape, now.dtype)
        same = (old.scales, old.zero_points) == (now.scales, now.zero_points)
        if same and old.constant:
            same = np.array_equal(
                real_values(parent.flatbuffer, old), real_values(new.flatbuffer, now)
            )
        if not same:
            changed.append(now.shape[-1:] if now.shape[:-1] else now.shape)
    assert changed
    assert all(shape in ((12,), (224,)) for shape in changed)


def test_ranges_join() -> None:
    assert Range(-1, 2).wider(Range(-3, 1)) == Range(-3, 2)
