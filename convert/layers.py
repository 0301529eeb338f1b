"""Layer by layer: how far a quantised model strays from its float twin."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecell.files import csv_text, write_atomically
from edgecell.model.graph import Operator, Tensor, read_graph
from edgecell.optional import require
from edgecell.plots import figure, save

_MOST_LAYERS = 12

IMAGES = 16


@dataclass(frozen=True)
class LayerReport:
    """One operator of the quantised model.

    Attributes:
        index: its number, in the order of execution.
        operator: TFLite's name of it.
        name: name of its output.
        shape: shape of its output.
        dtype: type of its output.
        scale: of the output; None if it has none.
        zero_point: of the output.
        snr_db: power of the float output over that of the difference, decibels, over
            all images; None for operators on shapes, and where nothing differs. All
            that went wrong before this layer is in it.
    """

    index: int
    operator: str
    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None
    zero_point: int | None
    snr_db: float | None


def _interpreter(flatbuffer: bytes) -> Any:
    module = require("ai_edge_litert.interpreter", "edge")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that this is for debugging: it is
        made = module.Interpreter(
            model_content=flatbuffer, experimental_preserve_all_tensors=True
        )
    made.allocate_tensors()
    return made


def _values(
    interpreter: Any, tensors: Sequence[Tensor], x: npt.NDArray[np.float32]
) -> list[npt.NDArray[np.float64]]:
    """Every tensor's values for one image, as real numbers."""
    (entry,) = interpreter.get_input_details()
    scale, zero_point = entry["quantization"]
    fed = x
    if scale:
        info = np.iinfo(entry["dtype"])
        fed = np.clip(np.rint(x / scale) + zero_point, info.min, info.max)
    interpreter.set_tensor(entry["index"], fed.astype(entry["dtype"]))
    interpreter.invoke()
    return [_real(interpreter.get_tensor(t.index), t) for t in tensors]


def _real(values: npt.NDArray[Any], tensor: Tensor) -> npt.NDArray[np.float64]:
    real = values.astype(np.float64)
    if tensor.scales:
        return (real - tensor.zero_points[0]) * tensor.scales[0]
    return real


def layer_reports(
    quantised: bytes, floating: bytes, x: npt.NDArray[np.float32]
) -> list[LayerReport]:
    """Compares two TFLite models made of one network, operator by operator.

    Args:
        quantised: the model in question.
        floating: its 'float32' twin; tensors are matched by name.
        x: float32 (N, S, S, 3), standardised; the first 16 are run.

    Returns:
        One report an operator of the quantised model, in the order of execution.
    """
    graph, twin = read_graph(quantised), read_graph(floating)
    theirs = {o.outputs[0].name: o.outputs[0] for o in twin.operators}
    pairs: list[tuple[Operator, Tensor]] = [
        (o, theirs[o.outputs[0].name])
        for o in graph.operators
        if o.outputs[0].name in theirs and theirs[o.outputs[0].name].dtype == "FLOAT32"
    ]
    ours = [o.outputs[0] for o, _ in pairs]
    signal, noise = np.zeros(len(pairs)), np.zeros(len(pairs))
    a, b = _interpreter(quantised), _interpreter(floating)
    for image in x[:IMAGES]:
        got = _values(a, ours, image[None])
        expected = _values(b, [t for _, t in pairs], image[None])
        for i, (value, truth) in enumerate(zip(got, expected, strict=True)):
            signal[i] += np.square(truth).sum()
            noise[i] += np.square(value - truth).sum()
    measured = {
        o.index: 10 * math.log10(s / n)
        for (o, _), s, n in zip(pairs, signal, noise, strict=True)
        if s and n
    }
    return [
        LayerReport(
            o.index,
            o.name,
            o.outputs[0].name,
            o.outputs[0].shape,
            o.outputs[0].dtype,
            o.outputs[0].scales[0] if o.outputs[0].scales else None,
            o.outputs[0].zero_points[0] if o.outputs[0].scales else None,
            measured.get(o.index),
        )
        for o in graph.operators
    ]


def worst_first(reports: Sequence[LayerReport]) -> list[LayerReport]:
    """The layers with a signal-to-noise ratio, the lowest first."""
    known = [r for r in reports if r.snr_db is not None]
    return sorted(known, key=lambda r: r.snr_db or 0.0)


def write_reports(reports: Sequence[LayerReport], folder: Path) -> None:
    """Writes ``layers.csv``, worst first, and ``layers.png`` into a folder.

    Raises:
        OutputError: the folder can't be written.
    """
    columns = ("index", "operator", "name", "shape", "dtype", "scale", "zero_point")
    rows = []
    unknown = [r for r in reports if r.snr_db is None]
    for r in (*worst_first(reports), *unknown):
        shape = "x".join(map(str, r.shape))
        row = (r.index, r.operator, r.name, shape, r.dtype, r.scale, r.zero_point)
        rows.append((*row, "" if r.snr_db is None else f"{r.snr_db:.2f}"))
    write_atomically(folder / "layers.csv", csv_text((*columns, "snr_db"), rows))
    fig = figure(10, 4)
    axes = fig.subplots()
    for operator in sorted({r.operator for r in reports if r.snr_db is not None}):
        points = [r for r in worst_first(reports) if r.operator == operator]
        axes.plot(
            [r.index for r in points],
            [r.snr_db or 0.0 for r in points],
            "o",
            markersize=4,
            label=operator,
        )
    axes.set_xlabel("operator, in the order of execution")
    axes.set_ylabel("signal-to-noise ratio, dB")
    axes.grid(alpha=0.3)
    if axes.lines:  # there it hides no point
        fig.legend(fontsize="small", loc="outside right center")
    save(fig, folder / "layers.png")


def layers_table(reports: Sequence[LayerReport]) -> str:
    """The layers with the lowest signal-to-noise ratio, as text."""
    if not worst_first(reports):
        return "no layer differs from float32"
    rows = [
        f"{'SNR dB':>7}  {'operator':<20}{'shape':<16}{'type':<7}{'scale':>9}  name"
    ]
    for r in worst_first(reports)[:_MOST_LAYERS]:
        shape = "x".join(map(str, r.shape))
        scale = "" if r.scale is None else f"{r.scale:.5f}"
        name = r.name.split(";")[0][-40:]
        rows.append(
            f"{r.snr_db:>7.1f}  {r.operator:<20}{shape:<16}{r.dtype:<7}{scale:>9}  "
            f"{name}"
        )
    return "\n".join(rows)
