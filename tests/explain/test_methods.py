from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgecell.data.dataset import decode
from edgecell.errors import InputError, ModelError
from edgecell.explain.methods import explain, runner_up
from edgecell.explain.randomised import randomised
from edgecell.explainers import ON_DEVICE
from edgecell.image.preprocess import Rgb, cell_image
from edgecell.model.classifier import Classifier, map_residual
from edgecell.model.graph import head_weights
from edgecell.model.modelfile import bundled_model, read_tflite, write_tflite
from tests.factories import SAMPLES


@pytest.fixture
def classifier() -> Classifier:
    return Classifier(bundled_model())


@pytest.fixture
def seen(classifier: Classifier) -> Rgb:
    path = SAMPLES / "cells" / "SNE_1.jpg"
    prep = classifier.record.preprocessing
    return cell_image(decode(path.read_bytes(), path.name), prep)


def test_methods_of_the_device(classifier: Classifier, seen: Rgb) -> None:
    prediction = classifier.classify(seen, features=True)
    assert prediction.features is not None
    weights = head_weights(classifier.flatbuffer)
    maps = prediction.features @ weights
    step = np.abs(maps).max() / 127
    assert np.abs(maps - prediction.maps).max() < 2 * step
    for method in ON_DEVICE:
        found = explain(method, classifier, seen, prediction.index, 0)
        assert found.heat.shape == seen.shape[:2]
        assert found.heat.dtype == np.float32
        assert found.heat.min() >= 0
        assert found.heat.max() == pytest.approx(1, abs=0.05)
        assert not found.empty
    second = runner_up(prediction.probabilities, prediction.index)
    assert found.index != second
    finer = explain("finer-cam", classifier, seen, prediction.index, 0)
    assert finer.scores["against"] == second
    # What Finer-CAM shows adds up to the difference of the two logits.
    bias = classifier.record.head_bias
    apart = prediction.maps[..., prediction.index] - prediction.maps[..., second]
    total = apart.mean() + bias[prediction.index] - bias[second]
    logits = prediction.logits
    assert total == pytest.approx(
        logits[prediction.index] - logits[second], abs=4 * classifier.logit_step
    )


def test_a_model_without_features_still_has_its_maps(seen: Rgb, tmp_path: Path) -> None:
    graph, record = read_tflite(bundled_model())
    path = tmp_path / "older.tflite"
    write_tflite(path, graph.replace(b"features", b"whatever"), record)
    classifier = Classifier(path)
    index = classifier.classify(seen).index
    for method in ("grad-cam", "finer-cam"):
        assert not explain(method, classifier, seen, index, 0).empty
    with pytest.raises(ModelError, match="no output 'features'; convert it again"):
        explain("layer-cam", classifier, seen, 0, 0)


def test_maps_of_other_logits_are_refused(classifier: Classifier, seen: Rgb) -> None:
    bias = list(classifier.record.head_bias)
    bias[3] += 1
    classifier.record = replace(classifier.record, head_bias=tuple(bias))
    with pytest.raises(ModelError, match="map of ERB does not add up to its logit"):
        explain("grad-cam", classifier, seen, 3, 0)
    explain("grad-cam", classifier, seen, 2, 0)


def test_bad_input_is_named(classifier: Classifier, seen: Rgb) -> None:
    with pytest.raises(
        InputError, match="'saliency' is not a method; choose from grad-cam"
    ):
        explain("saliency", classifier, seen, 0, 0)
    with pytest.raises(InputError, match="no class 12; the last is 11"):
        explain("grad-cam", classifier, seen, 12, 0)
    with pytest.raises(InputError, match="112x112 pixels"):
        explain("grad-cam", classifier, Rgb(seen[:50]), 0, 0)


def test_logits_of_many_are_those_of_each(classifier: Classifier, seen: Rgb) -> None:
    images = np.stack(
        [seen, seen[::-1], seen[:, ::-1], 255 - seen, seen.transpose(1, 0, 2)]
    )
    each = [classifier.classify(image).logits for image in images]
    assert (classifier.logits(images) == np.stack(each)).all()
    of_a_frame = classifier.classify_all([Rgb(image) for image in images])
    assert (np.stack([p.logits for p in of_a_frame]) == np.stack(each)).all()
    # Half a step of the logit's own rounding, and as much for that of pool and maps.
    finer = classifier.fine_logits(images)
    # The inverted cell is beyond what the maps were quantised for, and cut off.
    away = np.abs(finer - np.stack(each)).max(1)
    assert away[[0, 1, 2, 4]].max() <= classifier.logit_step
    assert len(np.unique(finer)) > len(np.unique(np.stack(each)))


@pytest.mark.parametrize("head_only", [True, False])
def test_shuffled_weights_run_and_say_something_else(
    classifier: Classifier, seen: Rgb, head_only: bool
) -> None:
    other = randomised(classifier, head_only, seed=0)
    mine, theirs = classifier.classify(seen, True), other.classify(seen, True)
    assert np.abs(mine.logits - theirs.logits).max() > 10 * classifier.logit_step
    residual = map_residual(theirs, other.record.head_bias)
    assert residual <= 4 * other.logit_step
    assert mine.features is not None
    assert theirs.features is not None
    assert (mine.features == theirs.features).all() == head_only
    before, after = head_weights(classifier.flatbuffer), head_weights(other.flatbuffer)
    assert (before != after).any()
    assert np.sort(before, 0) == pytest.approx(np.sort(after, 0))  # a shuffle
