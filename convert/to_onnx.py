"""Writes a converted model as ONNX, for runtimes that don't read TFLite.

tf2onnx reads the TFLite file. What it makes is given inputs and outputs in floating
point under the names that ours have, and a batch of one. Only a graph that names the
same classes as the file on real cells is written.
"""

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecell.convert.gate import Comparison, compare
from edgecell.data.dataset import CellFile
from edgecell.edge.sources import SAMPLES
from edgecell.errors import EdgecellError
from edgecell.model.modelfile import (
    FEATURES,
    LOGITS,
    MAPS,
    ModelRecord,
    read_tflite,
)
from edgecell.model.onnx.file import write_onnx
from edgecell.model.predict import predict
from edgecell.model.runtime import open_interpreter
from edgecell.optional import require

OPSET = 17
"""Of the ONNX operators. TensorRT 8.5, ONNX Runtime 1.12, OpenVINO 2023 and what came
later know all of it."""

LEAST_AGREEMENT = 0.99
"""Share of the cells for which both files have to name the same class: the least that
two files with other calibration sets agree on."""

INPUT = "image"
_SECONDS = 900.0
_TO_FLOAT = ("Cast", "Sub", "Mul", "DequantizeLinear")
"""What a graph without quantisation does first with an int8 input."""


@dataclass(frozen=True)
class OnnxConversion:
    """The result of a conversion to ONNX.

    Attributes:
        path: the file.
        written: whether it was; not if it lost more accuracy than was allowed, or names
            other classes for too many cells.
        opset: version of the operators.
        scheme: 'int8' as in the file that it was made from, or 'float32'.
        bytes: size of the graph.
        runtime: what ran it for the comparison.
        comparison: the ONNX file beside the TFLite file, on cells of known class.
        same_class: share of each class's cells for which both name the same class.
    """

    path: Path
    written: bool
    opset: int
    scheme: str
    bytes: int
    runtime: str
    comparison: Comparison
    same_class: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready copy."""
        return asdict(self) | {"path": str(self.path), "drop": self.comparison.drop}


def convert_to_onnx(
    model: Path,
    out: Path,
    images: npt.NDArray[np.uint8],
    y: npt.NDArray[np.int32],
    floating: bool,
    max_drop: float,
) -> OnnxConversion:
    """Converts a TFLite file of ours, compares both on real cells and writes the ONNX.

    Args:
        model: the ``.tflite``.
        out: the ``.onnx`` to write; left alone if too much accuracy was lost.
        images: uint8 RGB (N, S, S, 3), N >= 1, cells as `load_images` makes them.
        y: int32 (N,), their classes.
        floating: takes the quantisation out, for runtimes that want floating point.
        max_drop: accuracy that may be lost, percentage points.

    Raises:
        ModelError: not a TFLite model of ours.
        MissingPackageError: tf2onnx, onnx, or a runtime for ONNX is not installed.
        EdgecellError: tf2onnx failed.
        OutputError: ``out`` can't be written.
    """
    flatbuffer, record = read_tflite(model)
    graph = onnx_graph(flatbuffer, floating)
    scheme = "float32" if floating else record.scheme
    before = predict(model, images)
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / "model.onnx"
        write_onnx(trial, graph, record)
        runtime = open_interpreter(graph, 1)[1]
        after = predict(trial, images)
    found = compare(before, after, y, record.codes, record.temperature)
    same = before.logits.argmax(1) == after.logits.argmax(1)
    by_class = {record.codes[c]: float(same[y == c].mean()) for c in np.unique(y)}
    written = found.drop <= max_drop and found.agreement >= LEAST_AGREEMENT
    if written:
        write_onnx(out, graph, _with_origin(record, scheme, found, str(runtime)))
    return OnnxConversion(
        out, written, OPSET, scheme, len(graph), str(runtime), found, by_class
    )


def _with_origin(
    record: ModelRecord, scheme: str, found: Comparison, runtime: str
) -> ModelRecord:
    """The record with the ONNX file's origin and how closely it agrees with it."""
    origin = {
        "tflite_sha256": record.model_sha256,
        "opset": OPSET,
        "n": found.n,
        "same_class": found.agreement,
        "drift_worst": found.drift_worst,
        "runtime": runtime,
    }
    return replace(record, scheme=scheme, metrics={**record.metrics, "onnx": origin})


def sample_cells() -> list[CellFile]:
    """The cells in the package, two of each class; their files' names say which."""
    found = []
    for path in sorted((SAMPLES / "cells").iterdir()):
        data = path.read_bytes()
        code = path.stem.partition("_")[0]
        digest = hashlib.sha256(data).hexdigest()
        found.append(CellFile(path.name, code, "samples", digest, data))
    return found


def onnx_summary(made: OnnxConversion) -> str:
    """The figures for people."""
    c = made.comparison
    rows = [f"{'class':<7}{'same class':>12}{'recall before':>15}{'after':>8}"]
    rows += [
        f"{code:<7}{made.same_class[code]:>12.1%}{before:>15.1%}{after:>8.1%}"
        for code, (before, after) in c.recalls.items()
    ]
    return "\n".join(
        (
            f"{made.path}: ONNX opset {made.opset}, {made.scheme}, "
            f"{made.bytes / 1e6:.2f} MB",
            f"on {c.n} cells with {made.runtime}: same class {c.agreement:.1%}; "
            f"probabilities drift by {c.drift_mean:.3f} on average, "
            f"{c.drift_worst:.3f} at worst; maps correlate by {c.map_similarity:.3f}",
            "",
            *rows,
        )
    )


def onnx_graph(flatbuffer: bytes, floating: bool) -> bytes:
    """A TFLite graph of ours as an ONNX graph.

    Args:
        flatbuffer: the TFLite model.
        floating: see `convert_to_onnx`.

    Returns:
        The serialised model: a float32 input 'image' (1, S, S, 3), standardised, and
        float32 outputs 'logits', 'maps' and, if the file has it, 'features'.

    Raises:
        MissingPackageError: tf2onnx or onnx is not installed.
        EdgecellError: tf2onnx failed.
    """
    onnx = require("onnx", "onnx-export")
    require("tf2onnx", "onnx-export")
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "model.tflite", Path(folder) / "model.onnx"
        given.write_bytes(flatbuffer)
        command = [sys.executable, "-m", "tf2onnx.convert", "--tflite", str(given)]
        command += ["--output", str(made), "--opset", str(OPSET)]
        done = subprocess.run(
            [*command, *(["--dequantize"] if floating else [])],
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS,
        )
        if done.returncode or not made.exists():
            said = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
            raise EdgecellError(f"tf2onnx cannot convert the model: {said}")
        model = onnx.load(str(made))
    renamed = _without_rounding(model.graph) if floating else None
    interpreter = open_interpreter(flatbuffer, 1)[0]
    _name_input(onnx, model, interpreter.get_input_details()[0], floating)
    outputs = interpreter.get_signature_runner("serving_default").get_output_details()
    names = [name for name in (LOGITS, MAPS, FEATURES) if name in outputs]
    found = [_output(onnx, model, name, outputs[name], renamed) for name in names]
    del model.graph.output[:]
    model.graph.output.extend(found)
    del model.graph.value_info[:]
    model.producer_name = "edgecell"
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _name_input(onnx: Any, model: Any, details: dict[str, Any], floating: bool) -> None:
    """Replaces a graph's input by a float32 'image' of a batch of one."""
    graph, old = model.graph, details["name"]
    if np.dtype(details["dtype"]) != np.float32:
        if floating:
            old = _without_dequantising(graph, old)
        else:
            scale, zero = _constants(onnx, graph, INPUT, details)
            node = onnx.helper.make_node(
                "QuantizeLinear", [INPUT, scale, zero], ["image_quantised"]
            )
            _rename_uses(graph, old, "image_quantised")
            graph.node.insert(0, node)
            old = ""
    if old:
        _rename_uses(graph, old, INPUT)
    del graph.input[:]
    graph.input.append(_tensor(onnx, INPUT, details["shape"]))


def _without_dequantising(graph: Any, name: str) -> str:
    """Takes out what turns an int8 input into numbers; names what came out of it."""
    while True:
        users = [node for node in graph.node if name in node.input]
        if len(users) != 1 or users[0].op_type not in _TO_FLOAT:
            return name
        name = users[0].output[0]
        graph.node.remove(users[0])


def _without_rounding(graph: Any) -> dict[str, str]:
    """Takes out what rounds the outputs to int8; what stands for each result now."""
    rounding = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    for node in rounding:
        _rename_uses(graph, node.output[0], node.input[0])
        graph.node.remove(node)
    return {node.output[0]: node.input[0] for node in rounding}


def _output(
    onnx: Any,
    model: Any,
    name: str,
    details: dict[str, Any],
    renamed: dict[str, str] | None,
) -> Any:
    """Makes a float32 output of a graph's own, and describes it."""
    graph, old = model.graph, details["name"]
    if renamed is not None or np.dtype(details["dtype"]) == np.float32:
        source = (renamed or {}).get(old, old)
        node = onnx.helper.make_node("Identity", [source], [name])
    else:
        parameters = _constants(onnx, graph, name, details)
        node = onnx.helper.make_node("DequantizeLinear", [old, *parameters], [name])
    graph.node.append(node)
    return _tensor(onnx, name, details["shape"])


def _constants(
    onnx: Any, graph: Any, name: str, details: dict[str, Any]
) -> tuple[str, str]:
    """Adds a tensor's scale and zero point to a graph; their names."""
    scale, zero = details["quantization"]
    values = {
        f"{name}_scale": np.float32(scale),
        f"{name}_zero_point": np.asarray(zero, details["dtype"]),
    }
    graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(value), key)
        for key, value in values.items()
    )
    first, second = values
    return first, second


def _tensor(onnx: Any, name: str, shape: Sequence[int]) -> Any:
    sides = [int(side) for side in shape]
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, sides)


def _rename_uses(graph: Any, old: str, new: str) -> None:
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name == old:
                node.input[i] = new
