"""Proves that a converted file is what its scheme says."""

from edgecell.convert.export import QuantScheme
from edgecell.errors import ModelError
from edgecell.model.graph import Graph, Operator, Tensor, read_graph

_KERNELS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
# Between a float input or output and integers; half-precision weights come out of a
# DEQUANTIZE as well.
_CASTS = ("QUANTIZE", "DEQUANTIZE")
# Shapes and the arithmetic on them are int32 in every scheme.
_ACTIVATIONS = {
    "float32": {"FLOAT32"},
    "float16": {"FLOAT32"},
    "dynamic": {"FLOAT32"},
    "int8": {"INT8"},
    "int16x8": {"INT16"},
}
_WEIGHTS = {
    "float32": {"FLOAT32"},
    "float16": {"FLOAT16"},
    "dynamic": {"INT8"},
    "int8": {"INT8"},
    "int16x8": {"INT8"},
}
_SMALL = 1024
"""Kernels with fewer values may stay float32 under 'dynamic', as TensorFlow finds
that they aren't worth it."""


def prove(flatbuffer: bytes, scheme: QuantScheme) -> Graph:
    """Checks tensor, input and output types of a converted model.

    Args:
        flatbuffer: the TFLite model.
        scheme: what it claims to be.

    Returns:
        Its graph.

    Raises:
        ModelError: it is something else; names the operator.
    """
    graph = read_graph(flatbuffer)
    for (tensor,), expected in (
        (graph.inputs, scheme.io.upper()),
        *(
            ((output,), "FLOAT32" if scheme.io == "float32" else "INT8")
            for output in graph.outputs
        ),
    ):
        if tensor.dtype != expected:
            raise ModelError(
                f"the {scheme.name} model's {tensor.name} is {tensor.dtype}, not "
                f"{expected}"
            )
    stored = {
        operator.outputs[0].index: operator.inputs[0]
        for operator in graph.operators
        if operator.name == "DEQUANTIZE" and operator.inputs[0].constant
    }
    for operator in graph.operators:
        if operator.name not in _CASTS:
            _check(operator, scheme, stored)
    return graph


def _check(operator: Operator, scheme: QuantScheme, stored: dict[int, Tensor]) -> None:
    if operator.name in _KERNELS:
        kernel = operator.inputs[1]
        kernel = stored.get(kernel.index, kernel)
        small = scheme.name == "dynamic" and kernel.elements < _SMALL
        if kernel.dtype not in _WEIGHTS[scheme.name] and not small:
            raise ModelError(
                f"not a {scheme.name} model: the kernel of {operator} is "
                f"{kernel.dtype}, not {' or '.join(_WEIGHTS[scheme.name])}"
            )
    allowed = _ACTIVATIONS[scheme.name] | {"INT32"}
    for tensor in (*operator.inputs, *operator.outputs):
        if tensor.constant or tensor.index in stored:
            continue
        if tensor.dtype not in allowed:
            raise ModelError(
                f"not a {scheme.name} model: {operator} works on {tensor.dtype}"
            )
