"""The whole conversion: trained model and data in, one proved and measured file out."""

import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgecell.convert.calibration import calibration_set
from edgecell.convert.export import CALIBRATED, QuantScheme, deployed, to_tflite
from edgecell.convert.finetune import FineTuning, fine_tune
from edgecell.convert.gate import Comparison, compare
from edgecell.convert.layers import LayerReport, layer_reports
from edgecell.convert.predict import predict
from edgecell.convert.review import fit_review
from edgecell.convert.target import Target, TargetRun, check_versions, run_on_target
from edgecell.convert.temperature import fit_temperature
from edgecell.convert.verify import prove
from edgecell.dataset import CellFile, Split, dataset_hash, labels, load_images
from edgecell.edge.decision import review_reasons
from edgecell.errors import InputError
from edgecell.kerasfile import FEATURES_LAYER, HEAD_LAYER, load_keras
from edgecell.manifest import check_split
from edgecell.modelfile import write_tflite
from edgecell.preprocess import standardise

FLOAT32 = QuantScheme("float32")


@dataclass(frozen=True)
class Conversion:
    """What a conversion did.

    Attributes:
        path: the file.
        written: whether it was; not if it lost more accuracy than was allowed.
        scheme: its number format, and what it was fine-tuned for.
        bytes: its size.
        float_bytes: size of the float32 file of the same network.
        deflated_bytes: size of its flatbuffer after deflate: what zeros and equal
            weights save.
        calibration_images: size of the calibration set; 0 where none is needed.
        split: the split that the comparison was made on.
        comparison: with the network before fine-tuning and conversion.
        temperature: fitted on the logits of the file on the validation split.
        alpha: miss rate of the review rule.
        accepted: share of the validation cells that the rule accepts.
        accepted_right: share of those that is right; None if it accepts none.
        target: the file on the runtime that it is for.
    """

    path: Path
    written: bool
    scheme: str
    bytes: int
    float_bytes: int
    deflated_bytes: int
    calibration_images: int
    split: Split
    comparison: Comparison
    temperature: float
    alpha: float
    accepted: float
    accepted_right: float | None
    target: TargetRun

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready copy."""
        return asdict(self) | {"path": str(self.path), "drop": self.comparison.drop}


@dataclass(frozen=True)
class Request:
    """What to make of a trained model.

    Attributes:
        scheme: the number format.
        tuning: fine-tuning before it; None for none.
        target: the runtime that the file is for.
        calibration_size: see `calibration_set`.
        seed: see `calibration_set`.
        split: the split that the file is compared with the network on.
        max_drop: accuracy that may be lost, percentage points.
        debug: whether to compare layer by layer.
    """

    scheme: QuantScheme
    tuning: FineTuning | None = None
    target: Target = "litert"
    calibration_size: int = 240
    seed: int = 1
    split: Split = "val"
    max_drop: float = 0.5
    debug: bool = False

    @property
    def name(self) -> str:
        """Such as 'int8, qat'."""
        tuned = f", {self.tuning.name}" if self.tuning else ""
        return f"{self.scheme.name}{tuned}"


def convert(
    model: Path, request: Request, files: Sequence[CellFile], out: Path
) -> tuple[Conversion, list[LayerReport]]:
    """Converts a trained model, proves what came out and measures it.

    Args:
        model: a ``.keras`` file of ours.
        request: what to make of it.
        files: the data that the model was trained on: its training split gives the
            calibration set, its validation split temperature and review rule.
        out: the ``.tflite`` to write; left alone if too much accuracy was lost.

    Returns:
        The figures, and with ``debug`` the layers' (empty without).

    Raises:
        InputError: the data lack a class or a split.
        ModelError: not a model of ours; or what came out is not what the scheme says,
            or not for the target.
        OutputError: ``out`` can't be written.
    """
    keras_model, record = load_keras(model)
    check_split(record, files)
    scheme, prep = request.scheme, record.preprocessing
    chosen: list[CellFile] = []
    calibration = None
    if scheme.name in CALIBRATED:
        size, seed = request.calibration_size, request.seed
        chosen = calibration_set(files, record.codes, size, seed)
        calibration = standardise(load_images(chosen, prep), prep)
    held_out = [f for f in files if f.split == "val"]
    judged = [f for f in files if f.split == request.split]
    if not held_out or not judged:
        raise InputError(
            "the data have no image of the validation split to fit the confidence on, "
            f"or none of '{request.split}' to measure on; give the data that the model "
            "was trained on"
        )
    before = predict(model, load_images(judged, prep))
    floating = to_tflite(deployed(keras_model, FEATURES_LAYER, HEAD_LAYER), FLOAT32)
    if request.tuning:
        fine_tune(keras_model, record, files, request.tuning)
        bias = keras_model.get_layer(HEAD_LAYER).get_weights()[1]
        record = replace(record, head_bias=tuple(float(b) for b in bias))
    network = deployed(keras_model, FEATURES_LAYER, HEAD_LAYER)
    flatbuffer = to_tflite(network, scheme, calibration)
    check_versions(prove(flatbuffer, scheme), request.target)

    y, images = labels(held_out, record.codes), load_images(held_out, prep)
    record = replace(
        record,
        scheme=request.name,
        calibration_set={"images": len(chosen), "sha256": dataset_hash(chosen)},
    )
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / "model.tflite"
        write_tflite(trial, flatbuffer, record)
        logits = predict(trial, images).logits
        after = predict(trial, load_images(judged, prep))
        target = run_on_target(trial, images, request.target)
    temperature = fit_temperature(logits, y)
    right = logits.argmax(1) == y
    recalls = [float(right[y == c].mean()) for c in np.unique(y)]
    figures = {"accuracy": float(right.mean()), "macro_recall": float(np.mean(recalls))}
    review = fit_review(logits, y, temperature)
    record = replace(
        record,
        temperature=temperature,
        review=review,
        metrics={"val": {"n": len(y), **figures}},
    )
    taken = np.array([not review_reasons(row, record) for row in logits])
    comparison = compare(
        before, after, labels(judged, record.codes), record.codes, temperature
    )
    written = comparison.drop <= request.max_drop
    if written:
        write_tflite(out, flatbuffer, record)
    conversion = Conversion(
        path=out,
        written=written,
        scheme=request.name,
        bytes=len(flatbuffer),
        float_bytes=len(floating),
        deflated_bytes=len(zlib.compress(flatbuffer, 9)),
        calibration_images=len(chosen),
        split=request.split,
        comparison=comparison,
        temperature=temperature,
        alpha=review.alpha,
        accepted=float(taken.mean()),
        accepted_right=float(right[taken].mean()) if taken.any() else None,
        target=target,
    )
    x = standardise(images, prep)
    layers = layer_reports(flatbuffer, floating, x) if request.debug else []
    return conversion, layers
