"""A network as an ONNX file, with the record of ours in its metadata.

The file is the graph as it was made, followed by one more entry of ``metadata_props``:
in the protocol buffers' encoding a message goes on where another one ended. So every
runtime reads it, and the graph's own bytes, which the record's hash covers, are found
again without the package 'onnx', which a device does not have.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from edgecell.errors import ModelError
from edgecell.files import write_atomically
from edgecell.model.modelfile import (
    METADATA_KERAS,
    ModelRecord,
    checked_record,
    read_model_bytes,
    sealed_record,
)

KEY = METADATA_KERAS
"""Key of the record among the model's metadata."""

# https://github.com/onnx/onnx/blob/main/onnx/onnx.proto: ModelProto.metadata_props is
# field 14, of messages with a key in field 1 and a value in field 2.
_METADATA_PROPS, _KEY, _VALUE = 14, 1, 2
_VARINT, _EIGHT_BYTES, _COUNTED, _FOUR_BYTES = 0, 1, 2, 5
_IR_VERSION = b"\x08"  # what an ONNX file begins with: field 1, a number


def is_onnx(content: bytes) -> bool:
    """Whether bytes look like an ONNX model."""
    return content[:1] == _IR_VERSION


def write_onnx(path: Path, graph: bytes, record: ModelRecord) -> None:
    """Writes an ONNX graph with its record, atomically.

    Args:
        path: the file to write.
        graph: the serialised model, without a record of ours.
        record: the record; it is sealed here, see `sealed_record`.

    Raises:
        OutputError: the file can't be written.
    """
    record = sealed_record(record, hashlib.sha256(graph).hexdigest())
    entry = _counted(_KEY, KEY.encode()) + _counted(_VALUE, record.to_json().encode())
    write_atomically(path, graph + _counted(_METADATA_PROPS, entry))


def read_onnx(path: Path) -> tuple[bytes, ModelRecord]:
    """Reads an ONNX model and its record, and checks that they belong together.

    Returns:
        The graph's own bytes and the record.

    Raises:
        ModelError: no model, no record of ours, or bytes that were changed.
    """
    content = read_model_bytes(path, "an ONNX model")
    if not is_onnx(content):
        raise ModelError(f"{path} is not an ONNX model")
    try:
        start, text = _record_of(content)
    except (ValueError, IndexError) as e:
        raise ModelError(
            f"{path} has no readable edgecell record; make it with 'edgecell convert "
            "--onnx', or copy it again"
        ) from e
    graph = content[:start]
    return graph, checked_record(text, hashlib.sha256(graph).hexdigest(), str(path))


def _record_of(content: bytes) -> tuple[int, bytes]:
    """Where the record's entry begins, and its text; the entry is the file's last.

    Raises:
        ValueError: there is none.
    """
    last = None
    for number, begin, value in _fields(content):
        last = number, begin, value
    if last is None or last[0] != _METADATA_PROPS:
        raise ValueError("no metadata at its end")
    pair = {number: value for number, _, value in _fields(last[2])}
    if pair.get(_KEY) != KEY.encode() or _VALUE not in pair:
        raise ValueError("no record of ours")
    return last[1], pair[_VALUE]


def _fields(content: bytes) -> Iterator[tuple[int, int, bytes]]:
    """The fields of a message: number, where it begins, value (b'' of a number).

    Raises:
        ValueError: it is no message.
        IndexError: it ends too early.
    """
    at = 0
    while at < len(content):
        begin = at
        tag, at = _varint(content, at)
        kind, end = tag & 7, at
        if kind == _VARINT:
            _, end = _varint(content, at)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            end = at + (8 if kind == _EIGHT_BYTES else 4)
        elif kind == _COUNTED:
            size, at = _varint(content, at)
            end = at + size
        else:
            raise ValueError(f"no field is of kind {kind}")
        if end > len(content):
            raise IndexError("it ends too early")
        yield tag >> 3, begin, content[at:end] if kind == _COUNTED else b""
        at = end


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """A number of variable length, and where it ends."""
    number = shift = 0
    while True:
        byte = content[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number, at
        if shift > 63:
            raise ValueError("a number of too many bytes")


def _counted(field: int, value: bytes) -> bytes:
    """A field whose value is preceded by its length."""
    return _number(field << 3 | _COUNTED) + _number(len(value)) + value


def _number(value: int) -> bytes:
    """A number of variable length."""
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    return bytes([*made, value])
