import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from edgecell.classes import CLASSES
from edgecell.errors import ModelError
from edgecell.image.preprocess import Preprocessing
from edgecell.model.modelfile import (
    ModelRecord,
    bundled_model,
    read_keras_record,
    read_tflite,
    resolve,
    write_tflite,
)

PREP = Preprocessing(112, 0.66, 3.3, 95.0, 240.0, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
RECORD = ModelRecord(CLASSES, PREP, {"name": "tiny"}, (0.5,) * 12, temperature=1.5)
FLATBUFFER = b"\x1c\0\0\0TFL3" + bytes(range(256))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_tflite(tmp_path / "m.tflite", FLATBUFFER, RECORD)
    return tmp_path / "m.tflite"


def test_round_trip(model: Path) -> None:
    flatbuffer, record = read_tflite(model)
    assert flatbuffer == FLATBUFFER
    assert record == replace(RECORD, model_sha256=record.model_sha256)
    assert len(record.model_sha256) == 64


def test_equal_models_are_equal_files(model: Path, tmp_path: Path) -> None:
    write_tflite(tmp_path / "again.tflite", FLATBUFFER, RECORD)
    assert (tmp_path / "again.tflite").read_bytes() == model.read_bytes()


def test_any_zip_tool_reads_the_labels(model: Path) -> None:
    with zipfile.ZipFile(model) as archive:
        assert archive.testzip() is None
        assert archive.read("labels.txt").decode().splitlines()[1] == (
            "BNE band neutrophil"
        )


@pytest.mark.parametrize("at", [8, 100, 263])
def test_a_changed_byte_is_refused(model: Path, at: int) -> None:
    content = bytearray(model.read_bytes())
    content[at] ^= 1
    model.write_bytes(content)
    with pytest.raises(ModelError, match="changed or damaged"):
        read_tflite(model)


def test_every_cut_is_refused(model: Path) -> None:
    content = model.read_bytes()
    for end in range(0, len(content), 37):
        model.write_bytes(content[:end])
        with pytest.raises(ModelError, match=r"m\.tflite"):
            read_tflite(model)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    plain = tmp_path / "plain.tflite"
    plain.write_bytes(FLATBUFFER)
    with pytest.raises(ModelError, match="no readable edgecell record"):
        read_tflite(plain)
    plain.write_bytes(b"hello")
    with pytest.raises(ModelError, match="not a TFLite model"):
        read_tflite(plain)
    with pytest.raises(ModelError, match="not a model that 'edgecell train' wrote"):
        read_keras_record(plain)
    with pytest.raises(ModelError, match="does not exist"):
        resolve(str(tmp_path / "none.tflite"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "record of version 2"),
        ({"surplus": 1}, "unknown keys"),
        ({"head_bias": [0.0]}, "damaged"),
        ({"temperature": 0}, "damaged"),
        ({"classes": [{"code": "BA"}]}, "damaged"),
    ],
)
def test_records_of_another_kind(change: dict[str, object], message: str) -> None:
    text = json.dumps(json.loads(RECORD.to_json()) | change)
    with pytest.raises(ModelError, match=message):
        ModelRecord.from_json(text, "m.tflite")


def test_the_bundled_model_is_whole() -> None:
    _, record = read_tflite(bundled_model())
    assert resolve("bundled") == bundled_model()
    assert record.codes == tuple(c.code for c in CLASSES)
    assert record.scheme == "int8"
