"""The model file is the contract between training, conversion and device.

A ``.tflite`` carries a ZIP archive behind its last byte (runtimes ignore it, ``unzip``
reads it) with ``metadata.json`` and ``labels.txt``. A ``.keras`` file, a ZIP archive
itself, carries the same record as ``edgecell.json``.
"""

import hashlib
import io
import json
import zipfile
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from edgecell import __version__
from edgecell.classes import CellClass
from edgecell.errors import ModelError
from edgecell.files import write_atomically
from edgecell.image.preprocess import Preprocessing

METADATA = "metadata.json"
METADATA_KERAS = "edgecell.json"  # Keras keeps a metadata.json of its own
LABELS = "labels.txt"
FORMAT = 1
BUNDLED = "bundled"

# Outputs of every TFLite graph of ours, named in its signature.
LOGITS = "logits"
MAPS = "maps"
FEATURES = "features"


@dataclass(frozen=True)
class ReviewRule:
    """When a cell is accepted, and when a person is asked; fitted at conversion.

    Attributes:
        alpha: share of each class's cells whose true class the rule may miss.
        least_probability: for each class, the probability from which on it counts
            as possible: class-conditional split-conformal thresholds.
        least_energy: cells with a lower energy are unlike the training data.
    """

    alpha: float
    least_probability: tuple[float, ...]
    least_energy: float


@dataclass(frozen=True)
class ModelRecord:
    """What every user of a model has to know about it.

    Attributes:
        classes: the classes, in the order of the logits.
        preprocessing: how an image becomes an input.
        network: the network's specification, with its ``name``.
        head_bias: bias of each logit: mean(map) + bias = logit.
        temperature: divides the logits before the softmax (Guo et al., On
            Calibration of Modern Neural Networks, ICML 2017), > 0.
        review: when a person has to look; None before conversion.
        scheme: number format: 'keras', 'int8', ...
        training: where the weights come from: hash of the data, settings, sources,
            images of each class that was learned.
        calibration_set: number and hash of the images that set the int8 ranges.
        metrics: figures measured when the file was made, with their data.
        model_sha256: hash of the TFLite flatbuffer; empty in a ``.keras`` file.
        version: edgecell version that wrote the record.
        format: version of this record.
    """

    classes: tuple[CellClass, ...]
    preprocessing: Preprocessing
    network: dict[str, Any]
    head_bias: tuple[float, ...]
    temperature: float = 1.0
    review: ReviewRule | None = None
    scheme: str = "keras"
    training: dict[str, Any] = field(default_factory=dict)
    calibration_set: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    model_sha256: str = ""
    version: str = __version__
    format: int = FORMAT

    def __post_init__(self) -> None:
        if len(self.head_bias) != len(self.classes) or self.temperature <= 0:
            raise ValueError("one bias a class and a temperature > 0 are needed")
        if self.review and len(self.review.least_probability) != len(self.classes):
            raise ValueError("one threshold a class is needed")

    @property
    def codes(self) -> tuple[str, ...]:
        """Class codes in the order of the logits."""
        return tuple(c.code for c in self.classes)

    @property
    def learned(self) -> tuple[str, ...]:
        """Codes of the classes that there were images of to train on."""
        images = self.training.get("learned", self.codes)
        return tuple(code for code in self.codes if code in images)

    def to_json(self) -> str:
        """The record as JSON text."""
        return json.dumps(asdict(self), indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes, name: str) -> "ModelRecord":
        """Parses `to_json`'s text.

        Args:
            text: the JSON text.
            name: the file's name, for messages.

        Raises:
            ModelError: the record is of another version, or incomplete.
        """
        try:
            d = json.loads(text)
            if d["format"] != FORMAT:
                raise ModelError(
                    f"{name} has a record of version {d['format']}, this edgecell "
                    f"reads version {FORMAT}; convert the model again"
                )
            unknown = set(d) - {f.name for f in fields(cls)}
            if unknown:
                raise ValueError(f"unknown keys {sorted(unknown)}")
            prep = d.pop("preprocessing")
            prep |= {k: tuple(prep[k]) for k in ("mean", "std")}
            review = d.pop("review", None)
            if review:
                least = tuple(review["least_probability"])
                review = ReviewRule(**review | {"least_probability": least})
            return cls(
                classes=tuple(CellClass(**c) for c in d.pop("classes")),
                preprocessing=Preprocessing(**prep),
                head_bias=tuple(d.pop("head_bias")),
                review=review,
                **d,
            )
        except (ValueError, KeyError, TypeError) as e:
            raise ModelError(
                f"{name} has a damaged edgecell record ({e}); convert the model again"
            ) from e


def bundled_model() -> Path:
    """Path of the int8 model in the package."""
    return Path(str(files("edgecell.edge"))) / "samples" / "grsnet-lite-int8.tflite"


def resolve(model: str) -> Path:
    """The file that a MODEL argument names; 'bundled' is the package's own.

    Raises:
        ModelError: there is no such file.
    """
    path = bundled_model() if model == BUNDLED else Path(model)
    if not path.is_file():
        raise ModelError(f"{model} does not exist; 'bundled' names the built-in model")
    return path


def write_tflite(path: Path, flatbuffer: bytes, record: ModelRecord) -> None:
    """Writes a TFLite model with its record appended, atomically.

    Args:
        path: the file to write.
        flatbuffer: the TFLite model.
        record: the record; its ``model_sha256`` is set here.

    Raises:
        OutputError: the file can't be written.
    """
    record = replace(record, model_sha256=hashlib.sha256(flatbuffer).hexdigest())
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in (
            (METADATA, record.to_json()),
            (LABELS, "".join(f"{c.code} {c.name}\n" for c in record.classes)),
        ):
            # A fixed date, so that equal models are equal files.
            archive.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
    write_atomically(path, flatbuffer + buffer.getvalue())


def read_tflite(path: Path) -> tuple[bytes, ModelRecord]:
    """Reads a TFLite model and its record, and checks that they belong together.

    Returns:
        The flatbuffer and the record.

    Raises:
        ModelError: no model, no record of ours, or bytes that were changed.
    """
    try:
        content = path.read_bytes()
    except OSError as e:
        raise ModelError(f"{path} cannot be read ({e.strerror})") from e
    if content[4:8] != b"TFL3":
        raise ModelError(f"{path} is not a TFLite model")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            flatbuffer = content[: min(i.header_offset for i in archive.infolist())]
            text = archive.read(METADATA)
    except (zipfile.BadZipFile, KeyError, ValueError) as e:
        raise ModelError(
            f"{path} has no readable edgecell record; make it with 'edgecell convert'"
        ) from e
    record = ModelRecord.from_json(text, str(path))
    if hashlib.sha256(flatbuffer).hexdigest() != record.model_sha256:
        raise ModelError(
            f"{path} was changed or damaged (its hash differs); copy or convert it anew"
        )
    return flatbuffer, record


def read_keras_record(path: Path) -> ModelRecord:
    """Reads the record inside a ``.keras`` file.

    Raises:
        ModelError: not a Keras file of ours.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            text = archive.read(METADATA_KERAS)
    except (zipfile.BadZipFile, KeyError, OSError) as e:
        raise ModelError(
            f"{path} is not a model that 'edgecell train' wrote ({e})"
        ) from e
    return ModelRecord.from_json(text, str(path))
