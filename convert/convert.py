"""The whole conversion: trained model and data in, one proved and measured file out."""

import tempfile
import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecell.convert.attributes import fit_heads
from edgecell.convert.calibration import calibration_set
from edgecell.convert.export import (
    CALIBRATED,
    QuantScheme,
    exported,
    to_tflite,
)
from edgecell.convert.finetune import FineTuning, fine_tune
from edgecell.convert.gate import Comparison, compare
from edgecell.convert.layers import LayerReport, layer_reports
from edgecell.convert.microscopes import describe
from edgecell.convert.target import Target, TargetRun, check_versions, run_on_target
from edgecell.convert.verify import prove
from edgecell.data.dataset import (
    CellFile,
    Split,
    dataset_hash,
    labels,
    load_images,
    of_one_class,
)
from edgecell.errors import InputError
from edgecell.image.preprocess import standardise
from edgecell.model.decision import fit_review, review_reasons
from edgecell.model.kerasfile import HEAD_LAYER, deployed, load_keras
from edgecell.model.modelfile import ModelRecord, write_tflite
from edgecell.model.predict import predict, predict_keras
from edgecell.model.probabilities import fit_temperature
from edgecell.morphology.table import AttributeTable

FLOAT32 = QuantScheme("float32")


@dataclass(frozen=True)
class Conversion:
    """The result of a conversion.

    Attributes:
        path: the file.
        written: whether it was; not if it lost more accuracy than was allowed.
        scheme: its number format, and what it was fine-tuned for.
        bytes: its size.
        float_bytes: size of the float32 file of the same network.
        deflated_bytes: size of its flatbuffer after deflate: what zeros and equal
            weights save.
        calibration_images: size of the calibration set; 0 where none is needed.
        recalibrated: share of the split on which a file made with another draw of the
            calibration set names the same class; None where none is needed.
        split: the split that the comparison was made on.
        comparison: with the network before fine-tuning and conversion.
        temperature: fitted on the logits of the file on the validation split.
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
    recalibrated: float | None
    split: Split
    comparison: Comparison
    temperature: float
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
        attributes: of some of the cells, for the file to predict; None for none.
    """

    scheme: QuantScheme
    tuning: FineTuning | None = None
    target: Target = "litert"
    calibration_size: int = 240
    seed: int = 1
    split: Split = "val"
    max_drop: float = 0.5
    debug: bool = False
    attributes: AttributeTable | None = None

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
        files: the data that the model was trained on, in its splits: training gives
            the calibration set, validation temperature and review rule.
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
    scheme, prep = request.scheme, record.preprocessing
    draws = [
        calibration_set(
            of_one_class(files), record.learned, request.calibration_size, seed
        )
        for seed in (request.seed, request.seed + 1)
        if scheme.name in CALIBRATED
    ]
    # A set of classes gives neither a confidence nor a review rule.
    known = of_one_class(files)
    held_out = [f for f in known if f.split == "val"]
    judged = [f for f in known if f.split == request.split]
    if not held_out or not judged:
        raise InputError(
            "the data has no image of the validation split to fit the confidence on, "
            f"or none of '{request.split}' to measure on; give the data that the model "
            "was trained on"
        )

    def seen(chosen: Sequence[CellFile]) -> npt.NDArray[np.uint8]:
        return load_images(chosen, prep, crops=record.crops)

    y, images = labels(held_out, record.codes), seen(held_out)
    judged_images = images if judged == held_out else seen(judged)
    before = predict_keras(keras_model, prep, judged_images)
    with ExitStack() as stack:
        saved = stack.enter_context(exported(deployed(keras_model)))
        floating = to_tflite(saved, FLOAT32)
        if request.tuning:
            fine_tune(keras_model, record, files, request.tuning)
            bias = keras_model.get_layer(HEAD_LAYER).get_weights()[1]
            record = replace(record, head_bias=tuple(float(b) for b in bias))
            saved = stack.enter_context(exported(deployed(keras_model)))
        made = [
            to_tflite(saved, scheme, standardise(seen(draw), prep)) for draw in draws
        ]
        flatbuffer, *others = made or [to_tflite(saved, scheme)]
    check_versions(prove(flatbuffer, scheme), request.target)
    chosen = draws[0] if draws else []
    record = replace(
        record,
        scheme=request.name,
        calibration_set={"images": len(chosen), "sha256": dataset_hash(chosen)},
    )
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / "model.tflite"
        again = None
        for other in others:
            write_tflite(trial, other, record)
            again = predict(trial, judged_images)
        write_tflite(trial, flatbuffer, record)
        after = predict(trial, judged_images)
        logits = after.logits if judged == held_out else predict(trial, images).logits
        target = run_on_target(trial, images, request.target)
        microscopes = describe(trial, files)
        heads = None
        if request.attributes is not None:
            heads = fit_heads(trial, files, request.attributes)
    record, accepted, accepted_right = _with_confidence(record, logits, y)
    record = replace(record, microscopes=microscopes, attributes=heads)
    comparison = compare(
        before, after, labels(judged, record.codes), record.codes, record.temperature
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
        recalibrated=after.agreement(again) if again else None,
        split=request.split,
        comparison=comparison,
        temperature=record.temperature,
        accepted=accepted,
        accepted_right=accepted_right,
        target=target,
    )
    x = standardise(images, prep)
    layers = layer_reports(flatbuffer, floating, x) if request.debug else []
    return conversion, layers


def _with_confidence(
    record: ModelRecord, logits: npt.NDArray[np.float32], y: npt.NDArray[np.int32]
) -> tuple[ModelRecord, float, float | None]:
    """The record with what the file's own logits on the validation split give.

    Returns:
        The record with temperature, review rule and figures; the share of the cells
        that the rule accepts, and the share of those that is right (None: no cell).
    """
    temperature = fit_temperature(logits, np.eye(logits.shape[1], dtype=bool)[y])
    learned = np.isin(record.codes, record.learned)
    right = logits.argmax(1) == y
    recalls = [float(right[y == c].mean()) for c in np.unique(y)]
    figures = {"accuracy": float(right.mean()), "macro_recall": float(np.mean(recalls))}
    record = replace(
        record,
        temperature=temperature,
        review=fit_review(logits, y, temperature, learned),
        metrics={"val": {"n": len(y), **figures}},
    )
    taken = np.array([not review_reasons(row, record) for row in logits])
    share = float(right[taken].mean()) if taken.any() else None
    return record, float(taken.mean()), share
