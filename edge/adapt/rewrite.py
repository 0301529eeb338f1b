"""Writes another head into a TFLite model, in place.

The maps and the logits are 1x1 convolutions with one kernel. Kernel, bias, their scales
and the ranges of both outputs are replaced; no byte is moved, so that everything that
reads a model file reads this one.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecell.errors import ModelError
from edgecell.model.graph import (
    Graph,
    Operator,
    Tensor,
    made_by,
    output_tensors,
    read_graph,
)
from edgecell.model.modelfile import LOGITS, MAPS
from edgecell.optional import require

Array = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Range:
    """What an output's values span; `wider` joins two of them."""

    low: float
    high: float

    def wider(self, other: "Range") -> "Range":
        """The span of both."""
        return Range(min(self.low, other.low), max(self.high, other.high))


def with_head(
    flatbuffer: bytes, weights: Array, bias: Array, maps: Range, logits: Range
) -> bytes:
    """A copy of a model with another head.

    Args:
        flatbuffer: a TFLite model of ours, of any scheme.
        weights: float (K, C).
        bias: float (C,).
        maps: what the new maps span; integers beyond are clipped.
        logits: likewise.

    Raises:
        ModelError: the outputs are not made by 1x1 convolutions.
        MissingPackageError: the package 'tflite' is not installed.
    """
    content = bytearray(flatbuffer)
    graph = read_graph(flatbuffer)
    patch = _Patch(content, graph)
    outputs = output_tensors(flatbuffer)
    for name, span, offset in (
        (MAPS, maps, np.zeros_like(bias)),
        (LOGITS, logits, bias),
    ):
        convolution, passed = made_by(graph, outputs[name], name)
        for tensor in passed:
            patch.set_range(tensor, span)
        patch.set_kernel(convolution, weights, offset)
    return bytes(content)


def output_range(flatbuffer: bytes, name: str) -> Range | None:
    """What an integer output can span; None if it is a float one.

    Args:
        flatbuffer: a TFLite model of ours.
        name: of the output in the signature.
    """
    graph = read_graph(flatbuffer)
    convolution, _ = made_by(graph, output_tensors(flatbuffer)[name], name)
    tensor = convolution.outputs[0]
    if not tensor.scales:
        return None
    info = np.iinfo(tensor.dtype.lower())
    scale, zero = tensor.scales[0], tensor.zero_points[0]
    return Range((info.min - zero) * scale, (info.max - zero) * scale)


class _Patch:
    """A flatbuffer that is being changed."""

    def __init__(self, content: bytearray, graph: Graph) -> None:
        self._model: Any = require("tflite", "edge").Model.GetRootAs(content, 0)
        self._graph = graph

    def _quantization(self, tensor: Tensor) -> Any:
        return self._model.Subgraphs(0).Tensors(tensor.index).Quantization()

    def set_range(self, tensor: Tensor, span: Range) -> None:
        """Scale and zero point of an activation; a float one has none."""
        if not tensor.scales:
            return
        info = np.iinfo(tensor.dtype.lower())
        # Zero has to be one of the values; int16 activations are symmetric.
        low, high = min(span.low, 0.0), max(span.high, 0.0)
        if info.bits == 16:
            scale, zero = max(-low, high) / info.max, 0
        else:
            scale = (high - low) / (info.max - info.min)
            zero = round(info.min - low / scale)
        quantization = self._quantization(tensor)
        quantization.ScaleAsNumpy()[:] = scale
        quantization.ZeroPointAsNumpy()[:] = zero

    def set_kernel(self, convolution: Operator, weights: Array, bias: Array) -> None:
        """Kernel and bias, with their scales."""
        features, kernel, *rest = convolution.inputs
        stored = self._graph.stored(kernel)
        rows = np.asarray(weights, np.float64).T
        if stored.shape != (len(rows), 1, 1, rows.shape[1]):
            raise ModelError(
                f"the head's kernel has the shape {stored.shape}, not that of a 1x1 "
                "convolution"
            )
        scales = self._set_values(stored, rows)
        if rest:
            product = features.scales[0] * scales if features.scales else np.ones(1)
            self._set_bias(rest[0], np.asarray(bias, np.float64), product)

    def _set_values(self, stored: Tensor, rows: npt.NDArray[np.float64]) -> Any:
        """Writes the kernel; returns the scale of each class, 1 for floats."""
        scales = np.ones(len(rows))
        if stored.scales:
            limit = (
                np.abs(rows).max(1) if len(stored.scales) > 1 else np.abs(rows).max()
            )
            scales = np.maximum(np.broadcast_to(limit / 127, len(rows)), 1e-9)
            scales = scales.astype(np.float32).astype(np.float64)
            self._quantization(stored).ScaleAsNumpy()[:] = scales[: len(stored.scales)]
            rows = np.clip(np.rint(rows / scales[:, None]), -127, 127)
        self._write(stored, rows)
        return scales

    def _set_bias(
        self, stored: Tensor, bias: npt.NDArray[np.float64], scales: Any
    ) -> None:
        stored = self._graph.stored(stored)
        if stored.scales:
            self._quantization(stored).ScaleAsNumpy()[:] = scales[: len(stored.scales)]
            info = np.iinfo(stored.dtype.lower())
            bias = np.clip(np.rint(bias / scales), info.min, info.max)
        self._write(stored, bias)

    def _write(self, stored: Tensor, values: npt.NDArray[np.float64]) -> None:
        raw = self._model.Buffers(stored.buffer).DataAsNumpy()
        typed = raw.view(stored.dtype.lower())
        typed[:] = values.ravel().astype(typed.dtype)
