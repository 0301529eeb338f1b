"""The same network with other weights, for the model-randomisation check.

Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018: a map that stays the same
when the weights become random does not explain the model. In a TFLite file the weights
of each output channel are shuffled among themselves, so that scales, zero points and
the distribution stay right and the file still runs; biases stay.
"""

import tempfile
from pathlib import Path

import numpy as np

from edgecell.model.classifier import Classifier
from edgecell.model.graph import read_graph
from edgecell.model.modelfile import write_tflite
from edgecell.optional import require

_CHANNEL_AXIS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}


def randomised(classifier: Classifier, head_only: bool, seed: int) -> Classifier:
    """A copy of a model with shuffled weights.

    Args:
        classifier: the model.
        head_only: shuffles the linear head alone, for maps and logits alike, so that
            mean(map) + bias = logit still holds; otherwise every layer.
        seed: of the shuffle.

    Raises:
        MissingPackageError: the package 'tflite' is not installed.
    """
    tflite = require("tflite", "edge")
    content = bytearray(classifier.flatbuffer)
    model = tflite.Model.GetRootAs(content, 0)
    graph = read_graph(classifier.flatbuffer)
    weighted = [op for op in graph.operators if op.name in _CHANNEL_AXIS]
    classes = len(classifier.record.classes)
    if head_only:
        weighted = [op for op in weighted if op.inputs[1].shape[0] == classes]
    seen: set[int] = set()
    for operator in weighted:
        weights = graph.stored(operator.inputs[1])
        assert weights.buffer is not None
        if weights.buffer in seen:
            continue
        seen.add(weights.buffer)
        stored = model.Buffers(weights.buffer).DataAsNumpy()
        width = len(stored) // weights.elements
        values = stored.reshape(*weights.shape, width)
        rows = np.moveaxis(values, _CHANNEL_AXIS[operator.name], 0)
        flat = rows.reshape(rows.shape[0], -1, width)
        # The same draw for layers of one shape, so for the heads of maps and logits.
        order = np.random.default_rng(seed).permuted(
            np.tile(np.arange(flat.shape[1]), (len(flat), 1)), axis=1
        )
        shuffled = np.take_along_axis(flat, order[..., None], 1)
        rows[...] = shuffled.reshape(rows.shape)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "randomised.tflite"
        write_tflite(path, bytes(content), classifier.record)
        return Classifier(path)
