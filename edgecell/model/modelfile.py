"""The model file is the contract between training, conversion and device.

A ``.tflite`` carries a ZIP archive behind its last byte (runtimes ignore it, ``unzip``
reads it) with ``metadata.json`` and ``labels.txt``. A ``.keras`` file, a ZIP archive
itself, carries the same record as ``edgecell.json``.

Two hashes seal a file: ``model_sha256`` covers the network, ``record_sha256`` covers
the record with ``model_sha256`` in it. They find damage and careless changes; they are
no signature. A key that the record lacks has its default, so that new keys may be
added; a reader that does not know a key refuses the file.
"""

import hashlib
import io
import json
import math
import os
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from edgecell import __version__
from edgecell.archive import open_archive, read_member
from edgecell.classes import CellClass
from edgecell.errors import InputError, ModelError
from edgecell.files import write_atomically
from edgecell.image.preprocess import Preprocessing
from edgecell.model import BUNDLED
from edgecell.model.microscopes.microscope import Microscope
from edgecell.morphology.heads import AttributeHeads
from edgecell.typed import build, loads


class Dataclass(Protocol):
    """Any dataclass, as `dataclasses.asdict` takes it."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


R = TypeVar("R", bound=Dataclass)
"""A record: it has the fields ``model_sha256``, ``record_sha256`` and ``format``."""

METADATA = "metadata.json"
METADATA_FINDER = "finder.json"
_KINDS = {METADATA: "a classifier", METADATA_FINDER: "a finder of cells"}
METADATA_KERAS = "edgecell.json"  # Keras keeps a metadata.json of its own
LABELS = "labels.txt"
FORMAT = 2
UNSEALED = 1  # records of this version are not under a hash; they are still read
ARCHIVE_START = b"PK\x03\x04"  # what follows the flatbuffer
LARGEST_RECORD = 2**22
_LARGEST_NETWORK = 2**31  # what a flatbuffer can address

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

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise ValueError("alpha must be between 0 and 1")
        if not all(0 <= p <= 1 for p in self.least_probability):
            raise ValueError("least_probability must be from 0 to 1")


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
        microscopes: those that cells of the training data come from, as far as there
            were enough cells to know them again; or the one that the model was
            adapted to.
        attributes: the heads that predict attributes of a cell, such as the shape of
            its nucleus; None if there were no such data.
        model_sha256: hash of the network: of the TFLite flatbuffer, or of all other
            files in the ``.keras`` archive.
        record_sha256: hash of all other fields.
        version: edgecell version that wrote the record.
        format: version of this record, see `FORMAT` and `UNSEALED`.
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
    microscopes: tuple[Microscope, ...] = ()
    attributes: AttributeHeads | None = None
    model_sha256: str = ""
    record_sha256: str = ""
    version: str = __version__
    format: int = FORMAT

    def __post_init__(self) -> None:
        if len(set(self.codes)) != len(self.classes) or not self.classes:
            raise ValueError(
                "there must be at least one class, and each must have its own code"
            )
        if len(self.head_bias) != len(self.classes) or not (
            0 < self.temperature < math.inf
        ):
            raise ValueError("one bias for each class and a temperature > 0 are needed")
        if self.review and len(self.review.least_probability) != len(self.classes):
            raise ValueError("one threshold for each class is needed")
        if not isinstance(self.network.get("name", ""), str):
            raise ValueError("network.name must be a string")
        if not isinstance(self.training.get("learned", {}), dict):
            raise ValueError("training.learned must be an object")

    @property
    def codes(self) -> tuple[str, ...]:
        """Class codes in the order of the logits."""
        return tuple(c.code for c in self.classes)

    @property
    def learned(self) -> tuple[str, ...]:
        """Codes of the classes that there were images of to train on."""
        images = self.training.get("learned", self.codes)
        return tuple(code for code in self.codes if code in images)

    @property
    def crops(self) -> dict[str, float]:
        """Crop fractions of sources whose images show more or less of the field."""
        return dict(self.training.get("crops", {}))

    def preprocessing_of(self, source: str) -> Preprocessing:
        """How training cut out the cells of a source.

        Args:
            source: name of a source; one that was not trained on is cut out as most
                are.
        """
        crop = self.crops.get(source, self.preprocessing.crop_fraction)
        return replace(self.preprocessing, crop_fraction=crop)

    def to_json(self) -> str:
        """The record as JSON text."""
        return record_text(self)

    @classmethod
    def from_json(cls, text: str | bytes, name: str) -> "ModelRecord":
        """Parses `to_json`'s text.

        Args:
            text: the JSON text.
            name: the file's name, for messages.

        Raises:
            ModelError: the record is of a later version, incomplete, or has a value
                that is out of range.
        """
        return _parse(cls, text, name)[0]

    @property
    def sealed(self) -> bool:
        """Whether `record_sha256` covers classes, thresholds and everything else."""
        return self.format != UNSEALED


def record_text(record: Dataclass) -> str:
    """A record as JSON text."""
    return json.dumps(asdict(record), indent=1, sort_keys=True)


def _parse(kind: type[R], text: str | bytes, name: str) -> tuple[R, dict[str, Any]]:
    """The record, and the JSON object that it was made from."""
    try:
        data = loads(text)
        if not isinstance(data, dict) or type(data.get("format")) is not int:
            raise ValueError("it has no version")
        if not UNSEALED <= data["format"] <= FORMAT:
            raise ModelError(
                f"{name} has a record of version {data['format']}, this edgecell "
                f"reads versions up to {FORMAT}; update edgecell"
            )
        return build(kind, data), data
    except ValueError as e:
        raise ModelError(
            f"{name} has a damaged edgecell record, or one of a later edgecell ({e}); "
            "convert the model again, or update edgecell"
        ) from e


def _record_hash(data: Mapping[str, Any]) -> str:
    """Hash of a record's JSON object, however it is laid out."""
    covered = {k: v for k, v in data.items() if k != "record_sha256"}
    text = json.dumps(covered, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def sealed_record(record: R, model_sha256: str) -> R:
    """The record of a network with this hash, itself under a hash.

    Args:
        record: the record; its hashes and version are set here.
        model_sha256: hash of the network.
    """
    hashes: dict[str, Any] = {"model_sha256": model_sha256, "format": FORMAT}
    record = replace(record, **hashes)
    hashes = {"record_sha256": _record_hash(json.loads(record_text(record)))}
    return replace(record, **hashes)


def checked_record(text: bytes, model_sha256: str, name: str) -> ModelRecord:
    """Parses a record and checks that nothing under its hashes was changed.

    Args:
        text: the record's JSON text.
        model_sha256: hash of the network that the record came with.
        name: the file's name, for messages.

    Raises:
        ModelError: the network or the record was changed or damaged; or see
            `ModelRecord.from_json`.
    """
    return checked(ModelRecord, text, model_sha256, name)


def checked(kind: type[R], text: bytes, model_sha256: str, name: str) -> R:
    """As `checked_record`, for a record of any kind."""
    record, data = _parse(kind, text, name)
    _check_hashes(data, model_sha256, name)
    return record


def read_sealed(path: Path, member: str) -> dict[str, Any]:
    """A record of any kind as it is in a TFLite file, after its hashes are checked.

    Raises:
        ModelError: there is none, or something was changed.
    """
    flatbuffer, (text,) = read_members(path, member)
    data: dict[str, Any] = loads(text)
    _check_hashes(data, hashlib.sha256(flatbuffer).hexdigest(), str(path))
    return data


def _check_hashes(data: Mapping[str, Any], model_sha256: str, name: str) -> None:
    sealed = data["format"] != UNSEALED
    if sealed and data.get("record_sha256") != _record_hash(data):
        changed = "the record, with classes and thresholds,"
    elif (sealed or data.get("model_sha256")) and (
        data.get("model_sha256") != model_sha256
    ):
        changed = "the network"
    else:
        return
    raise ModelError(
        f"{changed} in {name} was changed or damaged (the hash differs): copy the "
        "file again, convert it again, or, if it came with edgecell, install that again"
    )


def bundled_model() -> Path:
    """Path of the int8 model in the package."""
    return Path(str(files("edgecell.edge"))) / "samples" / "grsnet-lite-int8.tflite"


def bundled_finder() -> Path:
    """Path of the int8 finder of cells in the package."""
    return bundled_model().with_name("finder-int8.tflite")


def resolve(model: str | os.PathLike[str]) -> Path:
    """The file of a model; 'bundled' names the package's own.

    Raises:
        ModelError: there is no such file.
    """
    path = bundled_model() if model == BUNDLED else Path(model)
    if not path.is_file():
        named = os.fspath(model) or "''"
        why = "is not a file" if path.exists() else "does not exist"
        raise ModelError(f"{named} {why}; '{BUNDLED}' names the built-in model")
    return path


def write_tflite(path: Path, flatbuffer: bytes, record: ModelRecord) -> None:
    """Writes a TFLite model with its record appended, atomically.

    Args:
        path: the file to write.
        flatbuffer: the TFLite model.
        record: the record; it is sealed here, see `sealed_record`.

    Raises:
        OutputError: the file can't be written.
    """
    record = sealed_record(record, hashlib.sha256(flatbuffer).hexdigest())
    write_members(
        path, flatbuffer, {METADATA: record.to_json(), LABELS: _labels(record)}
    )


def write_members(path: Path, flatbuffer: bytes, members: Mapping[str, str]) -> None:
    """Writes a TFLite model with texts appended, atomically.

    Raises:
        OutputError: the file can't be written.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            # A fixed date, so that equal models are equal files.
            archive.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
    write_atomically(path, flatbuffer + buffer.getvalue())


def _labels(record: ModelRecord) -> str:
    return "".join(f"{c.code} {c.name}\n" for c in record.classes)


def read_tflite(path: Path) -> tuple[bytes, ModelRecord]:
    """Reads a TFLite model and its record, and checks that they belong together.

    Returns:
        The flatbuffer and the record.

    Raises:
        ModelError: no model, no record of ours, or bytes that were changed.
    """
    flatbuffer, (text, names) = read_members(path, METADATA, LABELS)
    record = checked_record(text, hashlib.sha256(flatbuffer).hexdigest(), str(path))
    if record.sealed and names != _labels(record).encode():
        raise ModelError(f"{LABELS} in {path} was changed; convert the model again")
    return flatbuffer, record


def is_tflite(content: bytes) -> bool:
    """Whether bytes look like a TFLite model."""
    return content[4:8] == b"TFL3"


def read_model_bytes(path: Path, kind: str) -> bytes:
    """Reads a file that is to be ``kind``, 'a TFLite model'.

    Raises:
        ModelError: it can't be read, or is too large.
    """
    try:
        if path.stat().st_size > _LARGEST_NETWORK:
            raise ModelError(f"{path} is too large for {kind}")
        return path.read_bytes()
    except OSError as e:
        raise ModelError(f"{path} cannot be read ({e.strerror})") from e


class OtherKindError(ModelError):
    """The file is a classifier where a finder of cells is wanted, or a finder."""


def read_members(path: Path, *names: str) -> tuple[bytes, list[bytes]]:
    """Inverse of `write_members`.

    Args:
        path: the file.
        names: of the texts to read.

    Returns:
        The flatbuffer and the texts.

    Raises:
        OtherKindError: it is of the other kind, by the first name.
        ModelError: no TFLite model, or a text is missing or damaged.
    """
    content = read_model_bytes(path, "a TFLite model")
    if not is_tflite(content):
        raise ModelError(f"{path} is not a TFLite model")
    other = ""
    try:
        with open_archive(content, str(path)) as archive:
            here = set(archive.namelist())
            if names[0] not in here:
                other = next((_KINDS[n] for n in _KINDS if n in here), "")
            flatbuffer = content[: min(i.header_offset for i in archive.infolist())]
            texts = [
                read_member(archive, archive.getinfo(n), str(path), LARGEST_RECORD)
                for n in names
            ]
    except (InputError, KeyError, ValueError) as e:
        if other:
            raise OtherKindError(f"{path} is {other}; give {_KINDS[names[0]]}") from e
        raise ModelError(
            f"{path} has no readable edgecell record; make it with 'edgecell convert', "
            "or copy it again"
        ) from e
    return flatbuffer, texts
