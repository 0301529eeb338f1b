"""Weights of a converted GRsNet, read back so that training can go on from it.

Conversion folds each batch normalisation into the convolution before it. Here it is
unfolded again: with the mean and variance of what the convolution puts out, the
network's logits are the file's, and training may go on as from the original.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgecell.errors import InputError
from edgecell.model.graph import read_graph, real_values
from edgecell.model.kerasfile import HEAD_LAYER
from edgecell.model.modelfile import read_tflite
from edgecell.train.networks.keras_weights import building_order

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

Array = npt.NDArray[Any]


def _convolutions(flatbuffer: bytes) -> tuple[list[tuple[Array, Array]], Array]:
    """Kernels and biases with their batch normalisations folded in, and the head.

    Returns:
        For each batch normalisation, in the order of building, kernel (O, h, w, I), or
        (1, h, w, O) of a depthwise convolution, and bias (O,); kernel (C, 1, 1, K) of
        the head. All are real numbers.
    """
    graph = read_graph(flatbuffer)
    folded: dict[tuple[int, ...], tuple[Array, Array]] = {}
    head = np.empty(0)
    for operator in graph.operators:
        if operator.name not in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            continue
        weights = [graph.stored(t) for t in operator.inputs[1:]]
        kernel, *bias = (real_values(flatbuffer, t) for t in weights)
        names = (t.name for t in (*operator.outputs, *weights))
        place = next((p for p in map(building_order, names) if p is not None), None)
        if place is None:
            head = kernel
        else:
            folded[place] = kernel, bias[0]
    return [folded[place] for place in sorted(folded)], head


def load_tflite(model: "keras.Model", path: Path, views: Iterable["tf.Tensor"]) -> None:
    """Puts a converted network's weights into a GRsNet of the same specification.

    Args:
        model: the network.
        path: what `edgecell convert` made of such a network.
        views: float32 (N, S, S, 3), standardised: batches like those of training,
            which give the batch normalisations their mean and variance.

    Raises:
        InputError: the file's convolutions are not this network's.
        ModelError: the file is damaged, or none of ours.
    """
    import keras

    flatbuffer, record = read_tflite(path)
    convolutions, head = _convolutions(flatbuffer)
    made_by = {id(layer.output): layer for layer in model.layers}
    norms = sorted(
        (x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)),
        key=lambda layer: building_order(layer.name) or (),
    )
    if len(norms) != len(convolutions):
        raise InputError(
            f"{path}: its weights cannot be read back; give the .keras file that it "
            "was converted from"
        )
    for norm, (kernel, bias) in zip(norms, convolutions, strict=True):
        convolution = made_by[id(norm.input)]
        # (O, h, w, I) to (h, w, I, O), and (1, h, w, O) to (h, w, O, 1).
        shape = convolution.get_weights()[0].shape
        convolution.set_weights([kernel.transpose(1, 2, 3, 0).reshape(shape)])
        one, zero = np.ones_like(bias), np.zeros_like(bias)
        norm.set_weights([one, bias, zero, one - norm.epsilon])
    model.get_layer(HEAD_LAYER).set_weights(
        [head.reshape(len(head), -1).T, np.array(record.head_bias)]
    )
    probe = keras.Model(model.input, [norm.input for norm in norms])
    sums = [np.zeros((2, len(bias))) for _, bias in convolutions]
    counts = np.zeros(len(norms))
    for batch in views:
        for i, output in enumerate(probe(batch, training=False)):
            x = output.numpy().reshape(-1, output.shape[-1]).astype(np.float64)
            sums[i] += x.sum(0), np.square(x).sum(0)
            counts[i] += len(x)
    for norm, (_, bias), total, n in zip(
        norms, convolutions, sums, counts, strict=True
    ):
        mean = total[0] / n
        variance = np.maximum(total[1] / n - mean**2, 0.0)
        deviation = np.sqrt(variance + norm.epsilon)
        norm.set_weights([deviation, bias + mean, mean, variance])
