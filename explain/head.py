"""The weights of a model's linear head, read from its file."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from edgecell.errors import ModelError
from edgecell.graph import read_graph
from edgecell.modelfile import FEATURES, MAPS
from edgecell.optional import require

_DTYPES = {"INT8": np.int8, "FLOAT16": np.float16, "FLOAT32": np.float32}


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
    made = {t.index: op for op in read_graph(flatbuffer).operators for t in op.outputs}
    operator = made[maps]
    if operator.name != "CONV_2D":
        raise ModelError(f"the model's '{MAPS}' are no 1x1 convolution of '{FEATURES}'")
    weights = operator.inputs[1]
    if not weights.constant:  # float16 files keep weights behind a DEQUANTIZE
        weights = made[weights.index].inputs[0]
    stored = model.Buffers(weights.buffer).DataAsNumpy().view(_DTYPES[weights.dtype])
    values = stored.reshape(weights.shape)[:, 0, 0].astype(np.float32)
    if weights.scales:  # symmetric: zero points are 0
        values = values * np.asarray(weights.scales, np.float32)[:, None]
    return np.ascontiguousarray(values.T)
