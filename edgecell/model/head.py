"""The weights of a model's linear head, read from its file."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from edgecell.errors import ModelError
from edgecell.model.graph import read_graph, real_values
from edgecell.model.modelfile import FEATURES, MAPS
from edgecell.optional import require


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
    tflite = require("tflite", "edge")
    model = tflite.Model.GetRootAs(flatbuffer, 0)
    signature = model.SignatureDefs(0)
    outputs = [signature.Outputs(i) for i in range(signature.OutputsLength())]
    maps = next(o.TensorIndex() for o in outputs if o.Name() == MAPS.encode())
    graph = read_graph(flatbuffer)
    operator = next(
        op for op in graph.operators if maps in (t.index for t in op.outputs)
    )
    if operator.name != "CONV_2D":
        raise ModelError(f"the model's '{MAPS}' are no 1x1 convolution of '{FEATURES}'")
    kernel = real_values(flatbuffer, graph.stored(operator.inputs[1]))
    return np.ascontiguousarray(kernel[:, 0, 0].T, np.float32)
