"""What is in a TFLite flatbuffer: operators and tensors, read with its own schema."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt

from edgecell.errors import ModelError
from edgecell.model.modelfile import MAPS
from edgecell.model.onnx.file import is_onnx
from edgecell.optional import require


@dataclass(frozen=True)
class Tensor:
    """A tensor of the main graph.

    Attributes:
        index: its number, as the interpreter counts.
        name: its name.
        shape: its shape.
        dtype: 'FLOAT32', 'INT8', ...
        buffer: where its values are stored in the file; tensors may share one. None
            if they are computed.
        scales: quantisation scales: none, one, or one a channel.
        zero_points: as many.
        axis: axis of the channels.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    buffer: int | None
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int

    @property
    def constant(self) -> bool:
        """Whether its values are stored in the file."""
        return self.buffer is not None

    @property
    def elements(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Operator:
    """An operator of the main graph, in the order of execution.

    Attributes:
        index: its number.
        name: builtin name: 'CONV_2D', ...
        version: version of its definition; a runtime knows them up to some number.
        inputs: its inputs; absent optional ones are left out.
        outputs: its outputs.
    """

    index: int
    name: str
    version: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def __str__(self) -> str:
        return f"{self.name} (operator {self.index}, {self.outputs[0].name})"


@dataclass(frozen=True)
class Graph:
    """The main graph of a model.

    Attributes:
        operators: in the order of execution.
        inputs: the graph's inputs.
        outputs: the graph's outputs.
    """

    operators: tuple[Operator, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def stored(self, weights: Tensor) -> Tensor:
        """Where an operator's weights are: float16 ones are behind a DEQUANTIZE."""
        widened = (o for o in self.operators if o.name == "DEQUANTIZE")
        return next((o.inputs[0] for o in widened if weights in o.outputs), weights)

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor that an operator reads or writes, once."""
        seen: set[int] = set()
        for operator in self.operators:
            for tensor in (*operator.inputs, *operator.outputs):
                if tensor.index not in seen:
                    seen.add(tensor.index)
                    yield tensor


def real_values(flatbuffer: bytes, tensor: Tensor) -> npt.NDArray[np.float64]:
    """The numbers that a stored tensor stands for.

    Args:
        flatbuffer: the TFLite model.
        tensor: a constant of it.

    Returns:
        float64 in the tensor's shape, dequantised: (value - zero point) x scale.
    """
    model = require("tflite", "edge").Model.GetRootAs(flatbuffer, 0)
    stored = model.Buffers(tensor.buffer).DataAsNumpy()
    real = stored.view(tensor.dtype.lower()).reshape(tensor.shape).astype(np.float64)
    if tensor.scales:
        shape = [1] * real.ndim
        shape[tensor.axis] = -1
        real -= np.reshape(tensor.zero_points, shape)
        real *= np.reshape(tensor.scales, shape)
    return np.asarray(real)


def _check_kind(graph: bytes) -> None:
    if is_onnx(graph):
        raise ModelError(
            "this needs a .tflite file; give the one that the .onnx was made from"
        )


@lru_cache(maxsize=4)
def read_graph(flatbuffer: bytes) -> Graph:
    """Reads a model's main graph.

    Args:
        flatbuffer: the TFLite model.

    Raises:
        ModelError: it is an ONNX graph.
        MissingPackageError: the package 'tflite' is not installed.
    """
    _check_kind(flatbuffer)
    tflite = require("tflite", "edge")
    model = tflite.Model.GetRootAs(flatbuffer, 0)
    graph = model.Subgraphs(0)
    dtypes = {
        value: name
        for name, value in vars(tflite.TensorType).items()
        if not name.startswith("_")
    }

    @cache
    def tensor(index: int) -> Tensor:
        t = graph.Tensors(index)
        q = t.Quantization()
        quantized = q is not None and q.ScaleLength() > 0
        return Tensor(
            index,
            t.Name().decode(),
            tuple(t.Shape(i) for i in range(t.ShapeLength())),
            dtypes[t.Type()],
            t.Buffer() if model.Buffers(t.Buffer()).DataLength() else None,
            tuple(q.ScaleAsNumpy().tolist()) if quantized else (),
            tuple(q.ZeroPointAsNumpy().tolist()) if quantized else (),
            q.QuantizedDimension() if q else 0,
        )

    operators = []
    for i in range(graph.OperatorsLength()):
        op = graph.Operators(i)
        code = model.OperatorCodes(op.OpcodeIndex())
        # The old field has one byte; the new one took over for codes above 127.
        number = max(code.DeprecatedBuiltinCode(), code.BuiltinCode())
        inputs = (op.Inputs(k) for k in range(op.InputsLength()))
        operators.append(
            Operator(
                i,
                tflite.utils.BUILTIN_OPCODE2NAME.get(number, f"OPERATOR_{number}"),
                code.Version(),
                tuple(tensor(k) for k in inputs if k >= 0),
                tuple(tensor(op.Outputs(k)) for k in range(op.OutputsLength())),
            )
        )
    return Graph(
        tuple(operators),
        tuple(tensor(graph.Inputs(i)) for i in range(graph.InputsLength())),
        tuple(tensor(graph.Outputs(i)) for i in range(graph.OutputsLength())),
    )


def output_tensors(flatbuffer: bytes) -> dict[str, int]:
    """Indices of the output tensors by the names in the model's signature.

    Raises:
        ModelError: it is an ONNX graph.
        MissingPackageError: the package 'tflite' is not installed.
    """
    _check_kind(flatbuffer)
    tflite = require("tflite", "edge")
    signature = tflite.Model.GetRootAs(flatbuffer, 0).SignatureDefs(0)
    outputs = [signature.Outputs(i) for i in range(signature.OutputsLength())]
    return {o.Name().decode(): o.TensorIndex() for o in outputs}


_PASSED_ON = ("RESHAPE", "DEQUANTIZE", "QUANTIZE")
"""Operators between a convolution and the output that it makes."""


def made_by(graph: Graph, index: int, name: str) -> tuple[Operator, list[Tensor]]:
    """The convolution behind an output, and the tensors that have its values.

    Args:
        graph: of a TFLite model of ours.
        index: of the output's tensor.
        name: of the output, for messages.

    Raises:
        ModelError: it is made otherwise.
    """
    passed = []
    while True:
        operator = next(
            (o for o in graph.operators if index in [t.index for t in o.outputs]), None
        )
        if operator is None or operator.name not in (*_PASSED_ON, "CONV_2D"):
            raise ModelError(f"the model's '{name}' are not made by a 1x1 convolution")
        passed.append(operator.outputs[0])
        if operator.name == "CONV_2D":
            return operator, passed
        index = operator.inputs[0].index


@lru_cache(maxsize=4)
def head_weights(flatbuffer: bytes) -> npt.NDArray[np.float32]:
    """The classifier's weights: those of the 1x1 convolution that makes the maps.

    Args:
        flatbuffer: a TFLite model of ours.

    Returns:
        float32 (K, C), dequantised: maps = features @ weights.

    Raises:
        ModelError: the maps are made otherwise.
    """
    maps = output_tensors(flatbuffer)[MAPS]
    graph = read_graph(flatbuffer)
    operator, _ = made_by(graph, maps, MAPS)
    kernel = real_values(flatbuffer, graph.stored(operator.inputs[1]))
    return np.ascontiguousarray(kernel[:, 0, 0].T, np.float32)
