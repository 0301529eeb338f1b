"""Runs a model file (Keras, TFLite or ONNX) on a set of images."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from edgecell.image.preprocess import Preprocessing, standardise
from edgecell.model.classifier import Classifier, read_network
from edgecell.model.kerasfile import deployed, load_keras, read_keras_record
from edgecell.model.modelfile import (
    LOGITS,
    MAPS,
    ModelRecord,
)

if TYPE_CHECKING:
    import keras

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Outputs:
    """Both outputs of a network for N images.

    Attributes:
        logits: float32 (N, C).
        maps: float32 (N, h, w, C), class activation maps.
    """

    logits: Array
    maps: Array

    def agreement(self, other: "Outputs") -> float:
        """Share of the images for which both name the same class, 0..1."""
        return float((self.logits.argmax(1) == other.logits.argmax(1)).mean())


def read_record(path: Path) -> ModelRecord:
    """The record of a ``.keras``, ``.tflite`` or ``.onnx`` model file.

    Raises:
        ModelError: not a model file of ours.
    """
    if path.suffix == ".keras":
        return read_keras_record(path)
    return read_network(path)[1]


def predict(path: Path, images: npt.NDArray[np.uint8]) -> Outputs:
    """Runs a model file on a set of images, a batch for each core.

    Args:
        path: a ``.keras``, ``.tflite`` or ``.onnx`` file of ours.
        images: uint8 RGB (N, S, S, 3), N >= 1, as `load_images` makes them.
    """
    if path.suffix == ".keras":
        model, record = load_keras(path)
        return predict_keras(model, record.preprocessing, images)

    def run(part: npt.NDArray[np.uint8], bar: "tqdm[None]") -> tuple[Array, Array]:
        classifier = Classifier(path)
        predictions = []
        for image in part:
            predictions.append(classifier.classify(image))
            bar.update()
        return (
            np.stack([p.logits for p in predictions]),
            np.stack([p.maps for p in predictions]),
        )

    # An interpreter for each core: an interpreter releases the GIL while it runs.
    cores = min(os.cpu_count() or 1, len(images))
    with (
        ThreadPoolExecutor(cores) as pool,
        tqdm(total=len(images), desc="classifying", disable=None, leave=False) as bar,
    ):
        parts = np.array_split(images, cores)
        logits, maps = zip(*pool.map(lambda p: run(p, bar), parts), strict=True)
    return Outputs(np.concatenate(logits), np.concatenate(maps))


def predict_keras(
    model: "keras.Model", prep: Preprocessing, images: npt.NDArray[np.uint8]
) -> Outputs:
    """Runs a trained network, before any conversion, on a set of images.

    Args:
        model: as `load_keras` loads it.
        prep: its preprocessing.
        images: see `predict`.
    """
    network = deployed(model, batch=None)
    found = network.predict(standardise(images, prep), batch_size=64, verbose=0)
    return Outputs(found[LOGITS], found[MAPS])
