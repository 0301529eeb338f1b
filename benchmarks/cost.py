"""Parameters and FLOPs of a TFLite model, read from the flatbuffer itself.

Counting the file and not the Keras network is what makes the figures hold for what
the device runs: batch normalisation is folded, and the maps are an output.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from edgecell.optional import require

Shape = tuple[int, ...]

# Multiply-accumulates of an operator from the shapes of its output and its
# weights. TFLite keeps the weights of a convolution as (out, kh, kw, in / groups),
# of a depthwise one as (1, kh, kw, out), of a dense layer as (out, in).
_MACS: dict[str, Callable[[Shape, Shape], int]] = {
    "CONV_2D": lambda out, weights: math.prod(out) * math.prod(weights[1:]),
    "DEPTHWISE_CONV_2D": lambda out, weights: math.prod(out) * math.prod(weights[1:3]),
    "FULLY_CONNECTED": lambda out, weights: math.prod(out) * weights[1],
}


@dataclass(frozen=True)
class LayerCost:
    """Cost of one operator with weights.

    Attributes:
        op: TFLite's name of the operator.
        output: shape of its output.
        macs: multiply-accumulates of one inference.
        parameters: elements of its weights and bias; 0 for those that it shares
            with an earlier layer.
    """

    op: str
    output: Shape
    macs: int
    parameters: int


@dataclass(frozen=True)
class Cost:
    """Cost of one inference.

    Attributes:
        layers: the operators with weights, in the order of execution.
        uncounted: the other operators and how often they occur. Their
            arithmetic (additions, pooling) is not in the figures, as is usual.
    """

    layers: tuple[LayerCost, ...]
    uncounted: dict[str, int]

    @property
    def parameters(self) -> int:
        """Elements of all weights and biases, shared ones counted once."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return sum(layer.macs for layer in self.layers)

    @property
    def flops(self) -> int:
        """Floating-point operations, or integer ones: 2 x multiply-accumulates."""
        return 2 * self.macs


def model_cost(flatbuffer: bytes) -> Cost:
    """Counts what a TFLite model costs.

    Args:
        flatbuffer: the model; its main graph is counted.

    Returns:
        The cost of one run at the batch size of the graph.

    Raises:
        MissingPackageError: the package 'tflite' is not installed.
    """
    tflite = require("tflite", "edge")
    model = tflite.Model.GetRootAs(flatbuffer, 0)
    graph = model.Subgraphs(0)
    operators = [
        (_op_name(model, op, tflite), op)
        for op in map(graph.Operators, range(graph.OperatorsLength()))
    ]
    # float16 files keep weights behind a DEQUANTIZE operator.
    stored = {
        op.Outputs(0): op.Inputs(0) for name, op in operators if name == "DEQUANTIZE"
    }
    seen: set[int] = set()
    layers = []
    for name, op in operators:
        if name not in _MACS:
            continue
        parameters = 0
        for i in range(1, op.InputsLength()):
            index = stored.get(op.Inputs(i), op.Inputs(i))
            if index < 0:  # an optional bias that is absent
                continue
            tensor = graph.Tensors(index)
            buffer = tensor.Buffer()
            if buffer not in seen and model.Buffers(buffer).DataLength():
                parameters += math.prod(_shape(tensor))
                seen.add(buffer)
        output = _shape(graph.Tensors(op.Outputs(0)))
        macs = _MACS[name](output, _shape(graph.Tensors(op.Inputs(1))))
        layers.append(LayerCost(name, output, macs, parameters))
    uncounted = Counter(name for name, _ in operators if name not in _MACS)
    return Cost(tuple(layers), dict(uncounted.most_common()))


def _op_name(model: Any, operator: Any, tflite: ModuleType) -> str:
    code = model.OperatorCodes(operator.OpcodeIndex())
    # The old field has one byte; the new one took over for codes above 127.
    number = max(code.DeprecatedBuiltinCode(), code.BuiltinCode())
    return str(tflite.utils.BUILTIN_OPCODE2NAME.get(number, f"OPERATOR_{number}"))


def _shape(tensor: Any) -> Shape:
    return tuple(tensor.Shape(i) for i in range(tensor.ShapeLength()))
