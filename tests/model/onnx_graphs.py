"""ONNX graphs written byte by byte: what a test needs without a converter."""

from functools import lru_cache
from typing import Any

import numpy as np

from edgecell.model.modelfile import ModelRecord


@lru_cache(maxsize=1)
def _made(side: int, bias: tuple[float, ...]) -> bytes:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    classes = len(bias)
    # Maps: the red channel's mean of 16 x 16 pixels, times 1, 1/2, 1/3, ...
    weights = np.zeros((classes, 3, 1, 1), np.float32)
    weights[:, 0, 0, 0] = 1 / np.arange(1, classes + 1)
    constants = [
        numpy_helper.from_array(weights, "weights"),
        numpy_helper.from_array(np.array(bias, np.float32), "bias"),
        numpy_helper.from_array(np.array([2, 3], np.int64), "places"),
    ]
    node = helper.make_node
    stride: dict[str, Any] = {"kernel_shape": [16, 16], "strides": [16, 16]}
    nodes = [
        node("Transpose", ["image"], ["x"], perm=[0, 3, 1, 2]),
        node("AveragePool", ["x"], ["pooled"], **stride),
        node("Conv", ["pooled", "weights"], ["c"]),
        node("Transpose", ["c"], ["maps"], perm=[0, 2, 3, 1]),
        node("Transpose", ["pooled"], ["features"], perm=[0, 2, 3, 1]),
        node("ReduceMean", ["c"], ["mean"], axes=[2, 3], keepdims=0),
        node("Add", ["mean", "bias"], ["logits"]),
    ]

    def value(name: str, *shape: int) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        nodes,
        "small",
        [value("image", 1, side, side, 3)],
        [
            value("logits", 1, classes),
            value("maps", 1, 7, 7, classes),
            value("features", 1, 7, 7, 3),
        ],
        constants[:2],
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def linear_graph(record: ModelRecord) -> bytes:
    """A network of one layer that fits a record of 112 x 112 pixels."""
    return _made(record.preprocessing.input_size, record.head_bias)
