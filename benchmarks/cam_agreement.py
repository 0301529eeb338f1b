"""The device's activation maps against TensorFlow's gradients, and what they cost.

    python -m edgecell.benchmarks cam-agreement RUN/model.keras MODEL.tflite OUT.json \\
        DATA...

On the test split: the closed forms of `edgecell/model/cam.py` on the Keras network
against the same methods computed from GradientTape's gradients, and the maps of the
TFLite file against those. On one thread, side by side: the int8 graph with and without
maps.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from edgecell.benchmarks.latency import this_machine
from edgecell.cli import OutputFile, PoliteCommand
from edgecell.convert.export import QuantScheme, exported, to_tflite
from edgecell.data.dataset import load_images, scan
from edgecell.explain.faithfulness import rank_correlation
from edgecell.explain.methods import runner_up
from edgecell.explainers import ON_DEVICE
from edgecell.files import write_atomically
from edgecell.image.preprocess import standardise
from edgecell.model import cam
from edgecell.model.classifier import Classifier
from edgecell.model.graph import head_weights
from edgecell.model.kerasfile import FEATURES_LAYER, HEAD_LAYER, deployed, load_keras
from edgecell.model.modelfile import LOGITS, MAPS
from edgecell.model.runtime import Interpreter, open_interpreter

if TYPE_CHECKING:
    import keras

Array = npt.NDArray[np.float32]

_BATCH = 32
_RUNS = 300


def closed_forms(
    features: Array, weights: Array, index: int, other: int
) -> dict[str, Array]:
    """The device's maps of one cell by method, from (h, w, K) and (K, C)."""
    maps = features @ weights
    return {
        "grad-cam": cam.class_activation(maps, index),
        "finer-cam": cam.finer_cam(maps, index, other),
        "grad-cam++": cam.grad_cam_plus_plus(features, weights, index),
        "layer-cam": cam.layer_cam(features, weights, index),
    }


def gradient_maps(
    model: "keras.Model", x: Array, index: Sequence[int], other: Sequence[int]
) -> tuple[Array, dict[str, Array]]:
    """The same methods by their definitions, from TensorFlow's gradients.

    Args:
        model: a network of ours.
        x: float32 (N, S, S, 3), standardised.
        index: N classes.
        other: N classes that Finer-CAM compares with.

    Returns:
        The last feature map, float32 (N, h, w, K), and by method the maps, float32
        (N, h, w), each with a largest value of 1 or empty.
    """
    import keras
    import tensorflow as tf

    feature_map = model.get_layer(FEATURES_LAYER).output
    features = tf.constant(keras.Model(model.input, feature_map)(x, training=False))
    head = keras.Model(feature_map, model.output)
    rows = np.arange(len(x))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(features)
        logits = head(features, training=False)
        own = tf.gather_nd(logits, np.stack([rows, index], 1))
        against = own - tf.gather_nd(logits, np.stack([rows, other], 1))
        exponential = tf.exp(own)
    a = features.numpy()
    g = tape.gradient(own, features).numpy()
    g_finer = tape.gradient(against, features).numpy()
    g_exp = tape.gradient(exponential, features).numpy()
    below = 2 * g**2 + a.sum((1, 2), keepdims=True) * g**3
    alpha = np.divide(g**2, below, out=np.zeros_like(g), where=g != 0)
    plus_plus = (alpha * np.maximum(g_exp, 0)).sum((1, 2), keepdims=True)
    return a, {
        "grad-cam": _scaled((g.mean((1, 2), keepdims=True) * a).sum(-1)),
        "finer-cam": _scaled((g_finer.mean((1, 2), keepdims=True) * a).sum(-1)),
        "grad-cam++": _scaled((plus_plus * a).sum(-1)),
        "layer-cam": _scaled((np.maximum(g, 0) * a).sum(-1)),
    }


def _scaled(maps: npt.NDArray[Any]) -> Array:
    positive = np.maximum(maps, 0)
    peak = positive.max((1, 2), keepdims=True)
    return np.asarray(positive / np.where(peak > 0, peak, 1), np.float32)


def agreement(
    keras_path: Path, model_path: Path, images: npt.NDArray[np.uint8]
) -> dict[str, dict[str, float]]:
    """Compares both sides on cells, for the class that the TFLite file names.

    Args:
        keras_path: the ``.keras`` file.
        model_path: the ``.tflite`` file made from it.
        images: uint8 RGB (N, S, S, 3).

    Returns:
        By method: cells; empty (on either side, left out of the correlations);
        float_difference, the largest of any cell and position; and of the rank
        correlations between device and gradients, over the positions of a map, mean,
        median, percentile_5 and at_least_095 (share of the cells).
    """
    model, record = load_keras(keras_path)
    classifier = Classifier(model_path)
    device_weights = head_weights(classifier.flatbuffer)
    weights = model.get_layer(HEAD_LAYER).get_weights()[0]
    difference = dict.fromkeys(ON_DEVICE, 0.0)
    correlations: dict[str, list[float]] = {m: [] for m in ON_DEVICE}
    starts = range(0, len(images), _BATCH)
    for start in tqdm(starts, "comparing", disable=None, leave=False):
        part = images[start : start + _BATCH]
        found = [classifier.classify(image, features=True) for image in part]
        index = [p.index for p in found]
        other = [runner_up(p.probabilities, p.index) for p in found]
        x = standardise(part, record.preprocessing)
        features, by_gradient = gradient_maps(model, x, index, other)
        for i, prediction in enumerate(found):
            assert prediction.features is not None
            floating = closed_forms(features[i], weights, index[i], other[i])
            device = closed_forms(
                prediction.features, device_weights, index[i], other[i]
            )
            # The graph's own output, where that is enough.
            device["grad-cam"] = cam.class_activation(prediction.maps, index[i])
            device["finer-cam"] = cam.finer_cam(prediction.maps, index[i], other[i])
            for method in ON_DEVICE:
                reference = by_gradient[method][i]
                largest = float(np.abs(floating[method] - reference).max())
                difference[method] = max(difference[method], largest)
                if reference.any() and device[method].any():
                    correlation = rank_correlation(device[method], reference)
                    correlations[method].append(correlation)
    return {
        method: {
            "cells": len(images),
            "empty": len(images) - len(found_here),
            "float_difference": difference[method],
            "mean": float(np.mean(found_here)),
            "median": float(np.median(found_here)),
            "percentile_5": float(np.percentile(found_here, 5)),
            "at_least_095": float((np.asarray(found_here) >= 0.95).mean()),
        }
        for method, found_here in correlations.items()
    }


def cost(keras_path: Path) -> dict[str, float]:
    """What Grad-CAM adds to an inference, in the same int8 graph on one thread.

    Returns:
        Medians in milliseconds: without_maps, with_maps (outputs fetched) and grad_cam
        (what the camera loop makes of them), taken in turns; and share, all
        that is added by the inference without maps.
    """
    import keras

    model, record = load_keras(keras_path)
    whole = deployed(model)
    alone = keras.Model(whole.input, {LOGITS: whole.output[LOGITS]})
    size = record.preprocessing.input_size
    x = np.random.default_rng(0).normal(size=(16, size, size, 3)).astype(np.float32)
    graphs = []
    for network in (alone, whole):
        with exported(network) as saved:
            flatbuffer = to_tflite(saved, QuantScheme("int8"), x)
        graphs.append(open_interpreter(flatbuffer, 1)[0])
    maps = np.ones((7, 7, len(record.classes)), np.float32)
    seconds: list[list[float]] = [[], [], []]
    for _ in range(_RUNS):
        for taken, graph in zip(seconds, graphs, strict=False):
            taken.append(_seconds(graph, x[:1]))
        start = time.perf_counter()
        cam.class_activation(maps, 0)
        seconds[2].append(time.perf_counter() - start)
    without, with_maps, grad_cam = (1e3 * median(taken) for taken in seconds)
    return {
        "without_maps": without,
        "with_maps": with_maps,
        "grad_cam": grad_cam,
        "share": (with_maps - without + grad_cam) / without,
    }


def _seconds(graph: Interpreter, x: Array) -> float:
    outputs = graph.get_signature_runner("serving_default").get_output_details()
    fetched = [d["index"] for name, d in outputs.items() if name in (LOGITS, MAPS)]
    start = time.perf_counter()
    graph.set_tensor(graph.get_input_details()[0]["index"], x)
    graph.invoke()
    for index in fetched:
        graph.get_tensor(index)
    return time.perf_counter() - start


@click.command("cam-agreement", cls=PoliteCommand, no_args_is_help=True)
@click.argument("keras_path", metavar="MODEL.keras", type=click.Path(path_type=Path))
@click.argument("model_path", metavar="MODEL.tflite", type=click.Path(path_type=Path))
@click.argument("out", type=OutputFile("JSON"))
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
def command(
    keras_path: Path, model_path: Path, out: Path, data: tuple[Path, ...]
) -> None:
    """Compare the device's maps with TensorFlow's gradients, and time them.

    Works on the test split of DATA. Writes OUT, a JSON file.
    """
    record = Classifier(model_path).record
    files = [f for f in scan(data) if f.split == "test"]
    images = load_images(files, record.preprocessing)
    result = {
        "model_sha256": record.model_sha256,
        "agreement": agreement(keras_path, model_path, images),
        "cost": cost(keras_path),
        "on": this_machine().model,
    }
    write_atomically(out, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    command()
