"""Parameters and FLOPs of a TFLite model, read from the flatbuffer itself.

Counting the file and not the Keras network is what makes the figures hold for what
the device runs: batch normalisation is folded, and the maps are an output.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from edgecell.model.graph import read_graph

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
    graph = read_graph(flatbuffer)
    # float16 files keep weights behind a DEQUANTIZE operator.
    stored = {
        op.outputs[0].index: op.inputs[0]
        for op in graph.operators
        if op.name == "DEQUANTIZE"
    }
    seen: set[int] = set()
    layers = []
    for op in graph.operators:
        if op.name not in _MACS:
            continue
        parameters = 0
        for tensor in op.inputs[1:]:
            weights = stored.get(tensor.index, tensor)
            if weights.buffer is not None and weights.buffer not in seen:
                parameters += weights.elements
                seen.add(weights.buffer)
        output = op.outputs[0].shape
        macs = _MACS[op.name](output, op.inputs[1].shape)
        layers.append(LayerCost(op.name, output, macs, parameters))
    uncounted = Counter(op.name for op in graph.operators if op.name not in _MACS)
    return Cost(tuple(layers), dict(uncounted.most_common()))
