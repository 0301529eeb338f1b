"""The process that fine-tunes under legacy Keras; see finetune.py.

    TF_USE_LEGACY_KERAS=1 python -m edgecell.convert.finetune_worker FOLDER

FOLDER holds job.json, weights.npz and images.npy; gets tuned.npz.
"""

import importlib
import json
import sys
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from edgecell.convert.finetune import FineTuning
from edgecell.image.preprocess import Preprocessing, standardise
from edgecell.quiet import quiet_stderr
from edgecell.train.augment import AugmentConfig, augment
from edgecell.train.networks.network import NetworkSpec, StageSpec, build

_SETTLING = 12
"""Batches that settle the ranges."""

Weights = list[npt.NDArray[np.float32]]


def _prepared(model: Any, tuning: FineTuning, tfmot: Any) -> Any:
    """The network wrapped for the kind of fine-tuning."""
    if tuning.qat:
        return tfmot.quantization.keras.quantize_model(model)
    if tuning.prune:
        # Zeros come in over the first half, and the rest heals.
        half = max(1, tuning.steps // 2)
        schedule = tfmot.sparsity.keras.PolynomialDecay(
            0.0, tuning.prune, 0, half, frequency=1
        )
        return tfmot.sparsity.keras.prune_low_magnitude(model, schedule)
    linear = tfmot.clustering.keras.CentroidInitialization.KMEANS_PLUS_PLUS
    return tfmot.clustering.keras.cluster_weights(model, tuning.cluster, linear)


def settle_ranges(wrapped: Any, views: Iterator[Any]) -> None:
    """Brings the simulated activation ranges to where the activations are.

    They start at -6..6 and follow by a thousandth a step, made for runs of many
    thousand steps; in one of some hundred, all beyond 6 would stay cut off.

    Args:
        wrapped: the network with simulated quantisation.
        views: batches of inputs, float32 (N, S, S, 3); a dozen will do.
    """
    name = "tensorflow_model_optimization.python.core.quantization.keras.quant_ops"
    operations = importlib.import_module(name)
    follow = operations.MovingAvgQuantize

    def follow_fast(*args: Any, **settings: Any) -> Any:
        return follow(*args, **settings | {"ema_decay": 0.5})

    with mock.patch.object(operations, "MovingAvgQuantize", follow_fast):
        for x in views:
            wrapped(x, training=True)


def _stripped(wrapped: Any, plain: Any, tuning: FineTuning, tfmot: Any) -> Weights:
    """The weights of the fine-tuned network, in the plain one's order."""
    if tuning.prune:
        return list(tfmot.sparsity.keras.strip_pruning(wrapped).get_weights())
    if tuning.cluster:
        return list(tfmot.clustering.keras.strip_clustering(wrapped).get_weights())
    weights: Weights = []
    for layer in plain.layers:
        if layer.weights:
            inside = wrapped.get_layer(f"quant_{layer.name}")
            # The wrapper holds the kernel, and adds ranges of its own.
            values = {v.name.split("/")[-1]: v.numpy() for v in inside.weights}
            weights += [values[v.name.split("/")[-1]] for v in layer.weights]
    return weights


def fine_tune(job: dict[str, Any], weights: Weights, images: Any) -> Weights:
    """Fine-tunes towards the network's own answers.

    Args:
        job: what `finetune.fine_tune` wrote.
        weights: of the trained network.
        images: uint8 (N, M, M, 3), crops with a margin.

    Returns:
        The new weights.
    """
    import tensorflow_model_optimization as tfmot
    import tf_keras

    tuning = FineTuning(**job["tuning"])
    prep = Preprocessing(**job["preprocessing"])
    spec = job["network"]
    stages = tuple(StageSpec(**stage) for stage in spec.pop("stages"))
    network = NetworkSpec(stages=stages, **spec)
    plain, teacher = (
        build(network, job["classes"], prep.input_size, tf_keras) for _ in range(2)
    )
    for model in (plain, teacher):
        model.set_weights(weights)
    wrapped = _prepared(plain, tuning, tfmot)
    rate = tf_keras.optimizers.schedules.CosineDecay(tuning.learning_rate, tuning.steps)
    wrapped.compile(
        tf_keras.optimizers.Adam(rate),
        tf_keras.losses.CategoricalCrossentropy(from_logits=True),
    )
    rng = np.random.default_rng(tuning.seed)

    def batches() -> Iterator[tuple[Any, Any]]:
        for step in range(tuning.steps):
            chosen = rng.integers(0, len(images), tuning.batch_size)
            seed = (tuning.seed, step)
            views = augment(images[chosen], prep.input_size, 1.0, seed, AugmentConfig())
            x = standardise(views, prep)
            soft = tf_keras.activations.softmax(teacher(x, training=False))
            yield x, soft

    if tuning.qat:
        settle_ranges(wrapped, (x for x, _ in islice(batches(), _SETTLING)))
    callbacks = [tfmot.sparsity.keras.UpdatePruningStep()] if tuning.prune else []
    for callback in callbacks:
        callback.set_model(wrapped)
        callback.on_train_begin()
    progress = tqdm(batches(), tuning.name, tuning.steps, disable=None, leave=False)
    for x, soft in progress:
        for callback in callbacks:
            callback.on_train_batch_begin(batch=-1)
        loss = wrapped.train_on_batch(x, soft)
        progress.set_postfix(loss=f"{loss:.3f}")
    for callback in callbacks:
        callback.on_epoch_end(batch=-1)
    return _stripped(wrapped, plain, tuning, tfmot)


def main(folder: Path) -> None:
    """Does the job in a folder."""
    job = json.loads((folder / "job.json").read_text())
    with np.load(folder / "weights.npz") as stored:
        weights = [stored[k] for k in stored.files]
    with quiet_stderr(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow_model_optimization  # noqa: F401  prints as it is imported
    tuned = fine_tune(job, weights, np.load(folder / "images.npy", mmap_mode="r"))
    np.savez(folder / "tuned.npz", *tuned)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
