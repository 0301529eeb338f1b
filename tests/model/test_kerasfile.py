import json
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecell.errors import ModelError
from edgecell.model.kerasfile import load_keras, read_keras_record

RECORD = "edgecell.json"
Parts = dict[str, bytes]


def parts_of(path: Path) -> Parts:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(path: Path, parts: Parts) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def unseal(parts: Parts) -> None:
    """Makes it a file from before records were under a hash."""
    record = json.loads(parts[RECORD]) | {"format": 1, "model_sha256": ""}
    del record["record_sha256"]
    parts[RECORD] = json.dumps(record).encode()


def other_temperature(parts: Parts) -> None:
    record = json.loads(parts[RECORD]) | {"temperature": 2.0}
    parts[RECORD] = json.dumps(record).encode()


def other_weights(parts: Parts) -> None:
    parts["model.weights.h5"] += b"\0"


def other_config(parts: Parts) -> None:
    parts["config.json"] += b" "


def added(parts: Parts) -> None:
    parts["more.txt"] = b""


def test_a_saved_network_is_sealed(tiny_run: Path, tmp_path: Path) -> None:
    record = read_keras_record(tiny_run / "model.keras")
    assert record.sealed
    again = pack(tmp_path / "again.keras", parts_of(tiny_run / "model.keras"))
    assert load_keras(again)[1] == record


@pytest.mark.parametrize(
    "change", [other_temperature, other_weights, other_config, added]
)
def test_a_changed_file_is_refused(
    tiny_run: Path, tmp_path: Path, change: Callable[[Parts], None]
) -> None:
    parts = parts_of(tiny_run / "model.keras")
    change(parts)
    with pytest.raises(ModelError, match=r"m\.keras was changed or damaged"):
        load_keras(pack(tmp_path / "m.keras", parts))


def test_files_from_before_the_seal_are_read(tiny_run: Path, tmp_path: Path) -> None:
    parts = parts_of(tiny_run / "model.keras")
    unseal(parts)
    _, record = load_keras(pack(tmp_path / "old.keras", parts))
    assert not record.sealed


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"name": "logits"', b'"name": "logits", "of_a_later_keras": 1'),
        (b'"class_name": "Dense"', b'"class_name": "DenserStill"'),
        (b'"registered_name": ', b'"registered_name": 7, "x": '),
        (b"{", b"["),
    ],
)
def test_what_keras_cannot_load_is_told_in_a_line(
    tiny_run: Path, tmp_path: Path, old: bytes, new: bytes
) -> None:
    parts = parts_of(tiny_run / "model.keras")
    unseal(parts)
    assert old in parts["config.json"]
    parts["config.json"] = parts["config.json"].replace(old, new)
    with pytest.raises(ModelError, match=r"m\.keras cannot be loaded by Keras 3"):
        load_keras(pack(tmp_path / "m.keras", parts))


@given(at=st.integers(0), bit=st.integers(0, 7))
def test_no_flipped_bit_gets_through(tiny_run: Path, at: int, bit: int) -> None:
    path = tiny_run / "flipped.keras"
    content = bytearray((tiny_run / "model.keras").read_bytes())
    content[at % len(content)] ^= 1 << bit
    path.write_bytes(content)
    with suppress(ModelError):
        assert read_keras_record(path) == read_keras_record(tiny_run / "model.keras")
    path.unlink()
