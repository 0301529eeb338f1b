"""Parameters and FLOPs of a Keras network, counted over its graph."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Cost:
    """What a network costs.

    Attributes:
        parameters: all weights, batch-normalisation statistics included, as Keras
            counts them.
        flops: 2 x multiply-accumulate operations of convolutions, linear layers and
            attention for one image, as the paper counts them (its Table 4).
    """

    parameters: int
    flops: int


def count(model: "keras.Model") -> Cost:
    """Counts a functional model whose input size is fixed."""
    import keras

    macs = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.MultiHeadAttention):
            macs += _attention(layer)
            continue
        kernel = getattr(layer, "kernel", None)
        if kernel is None:
            continue
        # (N, H, W, C) or (N, C): positions that the kernel is applied at. A
        # depthwise kernel (k, k, C, m) is applied once at each, like a dense one.
        positions = math.prod(layer.output.shape[1:-1])
        macs += positions * math.prod(kernel.shape)
    return Cost(model.count_params(), 2 * macs)


def _attention(layer: "keras.layers.MultiHeadAttention") -> int:
    """Multiply-accumulate operations of self-attention."""
    _, tokens, width = layer.output.shape
    inner = layer.num_heads * layer.key_dim
    # Queries, keys, values and output; scores, and the values weighted by them.
    return int(4 * tokens * width * inner + 2 * tokens * tokens * inner)
