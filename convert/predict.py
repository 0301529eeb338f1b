"""Predictions of a model file, Keras or TFLite, for a set of images."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from edgecell.edge.classifier import Classifier
from edgecell.kerasfile import load_keras
from edgecell.modelfile import ModelRecord, read_keras_record, read_tflite
from edgecell.preprocess import standardise

Logits = npt.NDArray[np.float32]


def read_record(path: Path) -> ModelRecord:
    """The record of a ``.keras`` or ``.tflite`` model file.

    Raises:
        ModelError: not a model file of ours.
    """
    if path.suffix == ".keras":
        return read_keras_record(path)
    return read_tflite(path)[1]


def predict(path: Path, images: npt.NDArray[np.uint8]) -> Logits:
    """Logits of a model file for a set of images.

    Args:
        path: a ``.keras`` or ``.tflite`` file of ours.
        images: uint8 RGB (N, S, S, 3), as `load_images` makes them.

    Returns:
        float32 (N, C).
    """
    if path.suffix == ".keras":
        model, record = load_keras(path)
        x = standardise(images, record.preprocessing)
        return np.asarray(model.predict(x, batch_size=64, verbose=0), np.float32)

    def run(part: npt.NDArray[np.uint8], bar: "tqdm[None]") -> Logits:
        classifier = Classifier(path)
        logits = np.empty((len(part), len(classifier.record.classes)), np.float32)
        for i, image in enumerate(part):
            logits[i] = classifier.classify(image).logits
            bar.update()
        return logits

    # An interpreter for each core: an interpreter releases the GIL while it runs.
    cores = os.cpu_count() or 1
    with (
        ThreadPoolExecutor(cores) as pool,
        tqdm(total=len(images), desc="classifying", disable=None, leave=False) as bar,
    ):
        parts = np.array_split(images, cores)
        return np.concatenate(list(pool.map(lambda p: run(p, bar), parts)))
