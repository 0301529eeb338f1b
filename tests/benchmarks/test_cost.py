"""Parameters and FLOPs against numbers worked out by hand."""

import sys
from pathlib import Path

import pytest

from edgecell.benchmarks.cost import LayerCost, model_cost
from edgecell.errors import MissingPackageError
from edgecell.model.modelfile import read_tflite

# Output elements x weights that each of them takes, and weights + biases:
TINY = (
    # 3x3 convolution of 3 channels to 4, stride 2: 8x8 -> 4x4.
    LayerCost("CONV_2D", (1, 4, 4, 4), 4 * 4 * 4 * 3 * 3 * 3, 3 * 3 * 3 * 4 + 4),
    # 3x3 depthwise convolution of 4 channels to 8.
    LayerCost("DEPTHWISE_CONV_2D", (1, 4, 4, 8), 4 * 4 * 8 * 3 * 3, 3 * 3 * 8 + 8),
    # Maps: 1x1 convolution of 8 channels to 12.
    LayerCost("CONV_2D", (1, 4, 4, 12), 4 * 4 * 12 * 8, 8 * 12 + 12),
    # Logits: a dense layer with the weights of the maps, so its bias alone is new.
    LayerCost("FULLY_CONNECTED", (1, 12), 8 * 12, 12),
)


def test_layers(tiny_path: Path) -> None:
    cost = model_cost(read_tflite(tiny_path)[0])
    assert cost.layers == TINY
    assert cost.uncounted == {"MEAN": 1}


def test_totals(tiny_path: Path) -> None:
    cost = model_cost(read_tflite(tiny_path)[0])
    assert cost.parameters == 112 + 80 + 108 + 12
    assert cost.macs == 1728 + 1152 + 1536 + 96
    assert cost.flops == 2 * 4512


def test_float16_weights_count_behind_their_dequantise(tiny_float16: bytes) -> None:
    cost = model_cost(tiny_float16)
    assert cost.layers == TINY
    assert cost.uncounted["DEQUANTIZE"] > 0


def test_agrees_with_tensorflows_profiler(
    tiny_path: Path, tiny_profile: dict[str, int]
) -> None:
    kinds = {
        "Conv2D": "CONV_2D",
        "DepthwiseConv2dNative": "DEPTHWISE_CONV_2D",
        "MatMul": "FULLY_CONNECTED",
    }
    layers = model_cost(read_tflite(tiny_path)[0]).layers
    for theirs, ours in kinds.items():
        flops = sum(2 * layer.macs for layer in layers if layer.op == ours)
        assert flops == tiny_profile[theirs]


def test_without_the_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tflite", None)
    with pytest.raises(MissingPackageError, match="pip install"):
        model_cost(b"")
