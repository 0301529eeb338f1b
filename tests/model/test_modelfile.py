import io
import json
import re
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from edgecell.classes import CLASSES
from edgecell.cli import cli
from edgecell.errors import ModelError
from edgecell.image.preprocess import Preprocessing
from edgecell.model.kerasfile import read_keras_record
from edgecell.model.modelfile import (
    ModelRecord,
    ReviewRule,
    bundled_finder,
    bundled_model,
    read_tflite,
    resolve,
    write_tflite,
)

PREP = Preprocessing(112, 0.66, 3.3, 95.0, 240.0, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
RULE = ReviewRule(0.05, (0.25,) * 12, 3.5)
RECORD = ModelRecord(CLASSES, PREP, {"name": "tiny"}, (0.5,) * 12, 1.5, RULE)
FLATBUFFER = b"\x1c\0\0\0TFL3" + bytes(range(256))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_tflite(tmp_path / "m.tflite", FLATBUFFER, RECORD)
    return tmp_path / "m.tflite"


def with_record(content: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """A model file whose record was edited, in a ZIP archive that is sound."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        record = json.loads(archive.read("metadata.json"))
        labels = archive.read("labels.txt")
        start = archive.infolist()[0].header_offset
    change(record)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("metadata.json", json.dumps(record))
        archive.writestr("labels.txt", labels)
    return content[:start] + buffer.getvalue()


def test_round_trip(model: Path) -> None:
    flatbuffer, record = read_tflite(model)
    assert flatbuffer == FLATBUFFER
    assert replace(record, model_sha256="", record_sha256="") == RECORD
    assert len(record.model_sha256) == len(record.record_sha256) == 64
    assert record.sealed


def test_a_source_of_another_scale_keeps_its_crop(tmp_path: Path) -> None:
    trained = replace(RECORD, training={"crops": {"raabin": 0.73}})
    write_tflite(tmp_path / "m.tflite", FLATBUFFER, trained)
    _, record = read_tflite(tmp_path / "m.tflite")
    assert record.preprocessing_of("raabin") == replace(PREP, crop_fraction=0.73)
    assert record.preprocessing_of("elsewhere") == PREP
    assert RECORD.preprocessing_of("raabin") == PREP


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
        ({"format": 3}, "record of version 3.*update edgecell"),
        ({"format": True}, "no version"),
        ({"surplus": 1}, "unknown keys.*update edgecell"),
        ({"head_bias": [0.0]}, "one bias for each class"),
        ({"head_bias": ["0"] * 12}, r"head_bias\[0\] must be of type float"),
        ({"head_bias": [10**400] * 12}, "too large"),
        ({"temperature": 0}, "temperature > 0"),
        ({"temperature": True}, "temperature must be of type float"),
        ({"temperature": float("nan")}, "NaN is not a number"),
        ({"temperature": float("inf")}, "Infinity is not a number"),
        ({"classes": [{"code": "BA"}]}, r"classes\[0\].name is missing"),
        ({"classes": [{"code": "BA", "name": "b"}] * 12}, "must have its own code"),
        ({"classes": []}, "at least one class"),
        ({"scheme": "\x1b[2J"}, "control character"),
        ({"training": {"sources": ["a\nb"]}}, "control character"),
        ({"review": {"alpha": 0.05}}, "least_probability is missing"),
        ({"preprocessing": None}, "preprocessing must be an object"),
        ({"network": []}, "network must be of type dict"),
    ],
)
def test_records_of_another_kind(change: dict[str, object], message: str) -> None:
    text = json.dumps(json.loads(RECORD.to_json()) | change)
    with pytest.raises(ModelError, match=message):
        ModelRecord.from_json(text, "m.tflite")


@pytest.mark.parametrize(
    "text", ["", "[]", "1", "{}", "[" * 100_000, "1e999", '{"format": 1e999}', "\xff"]
)
def test_no_record_at_all(text: str) -> None:
    with pytest.raises(ModelError, match=r"m\.tflite has a damaged"):
        ModelRecord.from_json(text.encode("latin-1"), "m.tflite")


def set_to(key: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda record: record.update({key: value})


def reverse_classes(record: dict[str, Any]) -> None:
    record["classes"].reverse()


def accept_more(record: dict[str, Any]) -> None:
    record["review"]["least_energy"] = -99.0


@pytest.mark.parametrize(
    "change",
    [
        reverse_classes,
        accept_more,
        set_to("temperature", 1.25),
        set_to("review", None),
        set_to("head_bias", [0.25] * 12),
        set_to("metrics", {"val": {"accuracy": 1.0}}),
        set_to("version", "9.9"),
        set_to("record_sha256", ""),
        set_to("model_sha256", "0" * 64),
    ],
)
def test_a_changed_record_is_refused(
    model: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    content = model.read_bytes()
    model.write_bytes(with_record(content, lambda record: None))
    read_tflite(model)  # laid out anew, with nothing changed
    model.write_bytes(with_record(content, change))
    with pytest.raises(ModelError, match="changed or damaged"):
        read_tflite(model)


def test_changed_labels_are_refused(model: Path) -> None:
    content = model.read_bytes()
    model.write_bytes(content.replace(b"labels.txt", b"labelx.txt"))
    with pytest.raises(ModelError, match="no readable edgecell record"):
        read_tflite(model)


def test_files_from_before_the_seal_are_read_and_say_so(model: Path) -> None:
    def first_version(record: dict[str, Any]) -> None:
        del record["record_sha256"]
        record["format"] = 1

    content = model.read_bytes()
    model.write_bytes(with_record(content, first_version))
    flatbuffer, record = read_tflite(model)
    assert not record.sealed
    shown = CliRunner().invoke(cli, ["info", str(model)])
    assert "no hash covers" in shown.output
    write_tflite(model, flatbuffer, record)  # writing it again seals it
    assert read_tflite(model)[1].sealed
    assert model.read_bytes() == content


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "'' is not a file"),
        (".", ". is not a file"),
        ("none.tflite", "none.tflite does not exist"),
        ("empty.onnx", "empty.onnx is not an ONNX model"),
        ("empty.tflite", "empty.tflite is not a TFLite model"),
    ],
)
def test_what_is_no_model_is_told_by_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for empty in ("empty.onnx", "empty.tflite"):
        Path(empty).touch()
    shown = CliRunner().invoke(cli, ["info", name])
    assert (shown.exit_code, shown.output.partition(";")[0].strip()) == (
        1,
        f"Error: {why}",
    )


def test_info_prints_records_in_words() -> None:
    for name in (bundled_model(), bundled_finder()):
        shown = CliRunner().invoke(cli, ["info", str(name)])
        assert shown.exit_code == 0
        assert not set("{}[]") & set(shown.output.replace(str(name), ""))
        assert re.search(r"^metrics +val \(\w.* 0\.\d+, .*\)$", shown.output, re.M)


@given(at=st.integers(0), bit=st.integers(0, 7))
def test_no_flipped_bit_gets_through(at: int, bit: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.tflite"
        write_tflite(path, FLATBUFFER, RECORD)
        content = bytearray(path.read_bytes())
        written = read_tflite(path)
        content[at % len(content)] ^= 1 << bit
        path.write_bytes(content)
        with suppress(ModelError):  # dates in the archive's headers may be changed
            assert read_tflite(path) == written


def test_the_bundled_model_is_whole() -> None:
    _, record = read_tflite(bundled_model())
    assert record.sealed
    assert resolve("bundled") == bundled_model()
    assert record.codes == tuple(c.code for c in CLASSES)
    assert record.scheme == "int8"
