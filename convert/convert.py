"""The whole conversion: trained model and data in, one measured file out."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgecell.convert.calibration import calibration_set
from edgecell.convert.export import QuantScheme, deployed, to_tflite
from edgecell.convert.predict import predict
from edgecell.convert.review import fit_review
from edgecell.convert.temperature import fit_temperature
from edgecell.dataset import CellFile, dataset_hash, labels, load_images
from edgecell.edge.decision import review_reasons
from edgecell.errors import InputError
from edgecell.kerasfile import FEATURES_LAYER, HEAD_LAYER, load_keras
from edgecell.manifest import check_split
from edgecell.modelfile import write_tflite
from edgecell.preprocess import standardise


@dataclass(frozen=True)
class Conversion:
    """What a conversion did, measured on the validation split.

    Attributes:
        path: the file that was written.
        scheme: its number format.
        bytes: its size.
        calibration_images: size of the calibration set; 0 for float32.
        n: validation images.
        accuracy_before: accuracy of the Keras model.
        accuracy_after: accuracy of the file on the runtime here.
        agreement: share of images on which both name the same class.
        temperature: fitted on the logits of the file.
        alpha: miss rate of the review rule.
        accepted: share of the validation cells that the rule accepts.
        accepted_right: share of those that is right; None if it accepts none.
    """

    path: Path
    scheme: str
    bytes: int
    calibration_images: int
    n: int
    accuracy_before: float
    accuracy_after: float
    agreement: float
    temperature: float
    alpha: float
    accepted: float
    accepted_right: float | None


def convert(
    model: Path,
    scheme: QuantScheme,
    files: Sequence[CellFile],
    out: Path,
    calibration_size: int = 240,
    seed: int = 1,
) -> Conversion:
    """Converts a trained model and measures what became of it.

    Args:
        model: a ``.keras`` file of ours.
        scheme: the number format.
        files: the data that the model was trained on: its training split gives the
            calibration set, its validation split the temperature and the figures.
        out: the ``.tflite`` to write.
        calibration_size: see `calibration_set`.
        seed: see `calibration_set`.

    Returns:
        The figures.

    Raises:
        InputError: the data lack a class or a validation split.
        ModelError: not a model of ours.
        OutputError: ``out`` can't be written.
    """
    keras_model, record = load_keras(model)
    check_split(record, files)
    prep = record.preprocessing
    chosen: list[CellFile] = []
    calibration = None
    if scheme.name == "int8":
        chosen = calibration_set(files, record.codes, calibration_size, seed)
        calibration = standardise(load_images(chosen, prep), prep)
    held_out = [f for f in files if f.split == "val"]
    if not held_out:
        raise InputError(
            "the data have no image of the validation split to measure the result on; "
            "give the data that the model was trained on"
        )
    y, images = labels(held_out, record.codes), load_images(held_out, prep)
    network = deployed(keras_model, FEATURES_LAYER, HEAD_LAYER)
    flatbuffer = to_tflite(network, scheme, calibration)
    record = replace(
        record,
        scheme=scheme.name,
        calibration_set={"images": len(chosen), "sha256": dataset_hash(chosen)},
    )
    before = predict(model, images).argmax(1)
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / "model.tflite"
        write_tflite(trial, flatbuffer, record)
        logits = predict(trial, images)
    after = logits.argmax(1)
    temperature = fit_temperature(logits, y)
    accuracy = float(np.mean(after == y))
    recalls = [float(np.mean(after[y == c] == c)) for c in np.unique(y)]
    figures = {"accuracy": accuracy, "macro_recall": float(np.mean(recalls))}
    review = fit_review(logits, y, temperature)
    record = replace(
        record,
        temperature=temperature,
        review=review,
        metrics={"val": {"n": len(y), **figures}},
    )
    taken = np.array([not review_reasons(row, record) for row in logits])
    write_tflite(out, flatbuffer, record)
    return Conversion(
        path=out,
        scheme=scheme.name,
        bytes=out.stat().st_size,
        calibration_images=len(chosen),
        n=len(y),
        accuracy_before=float(np.mean(before == y)),
        accuracy_after=accuracy,
        agreement=float(np.mean(before == after)),
        temperature=temperature,
        alpha=review.alpha,
        accepted=float(taken.mean()),
        accepted_right=float((after == y)[taken].mean()) if taken.any() else None,
    )
