from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgecell.model.kerasfile import FEATURES_LAYER
from edgecell.train.networks.cost import count
from edgecell.train.networks.network import PRESETS, NetworkSpec, StageSpec, build
from tests.factories import TINY


def test_grsnet_has_the_papers_size() -> None:
    cost = count(build(PRESETS["grsnet"]))
    assert cost.parameters == pytest.approx(4.82e6, rel=0.01)
    assert cost.flops == pytest.approx(1.80e9, rel=0.01)


def test_grsnet_lite_keeps_its_budget() -> None:
    cost = count(build(PRESETS["grsnet-lite"]))
    assert cost.parameters <= 4.82e6
    assert cost.flops <= 0.5e9


@pytest.mark.parametrize("name", PRESETS)
def test_layout_and_last_feature_map(name: str) -> None:
    spec = PRESETS[name]
    assert [s.blocks for s in spec.stages] == [3, 4, 6, 3]
    model = build(spec)
    _, h, w, c = model.get_layer(FEATURES_LAYER).output.shape
    assert h >= 7
    assert w >= 7
    assert c == spec.stages[-1].width
    assert model.output.shape == (None, 12)


def test_cost_by_hand() -> None:
    spec = NetworkSpec("one", 8, 3, False, (StageSpec(1, 16, 1),))
    cost = count(build(spec, classes=12, input_size=32))
    # 16x16 positions: stem 3x3x3x8; two ghost modules, each a 3x3 convolution to
    # 8 maps and 3x3 depthwise over them; a 1x1 shortcut from 8 to 16; the head.
    per_position = 27 * 8 + (72 * 8 + 72) + (144 * 8 + 72) + 8 * 16
    assert cost.flops == 2 * (256 * per_position + 16 * 12)
    norms = 4 * (8 + 8 + 8 + 8 + 8 + 16)
    assert cost.parameters == per_position + norms + 16 * 12 + 12


def test_a_ghost_module_of_ratio_four() -> None:
    spec = replace(TINY, ratio=4, stages=(StageSpec(1, 32, 1),))
    model = build(spec, input_size=32)
    depthwise = [w for w in model.layers if "depthwise_conv2d" in w.name]
    # One map in four is primary: 32 = 8 + 8 x 3.
    assert [layer.kernel.shape for layer in depthwise] == [(3, 3, 8, 3)] * 2


@pytest.mark.parametrize("name", ["tiny", "grsnet-lite"])
def test_flops_agree_with_tensorflows_profiler(name: str) -> None:
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    model = build((PRESETS | {"tiny": TINY})[name])
    forward = tf.function(lambda x: model(x, training=False))
    concrete = forward.get_concrete_function(tf.TensorSpec((1, 112, 112, 3)))
    graph = convert_variables_to_constants_v2(concrete).graph
    options = (
        tf.compat.v1.profiler.ProfileOptionBuilder(
            tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
        )
        .with_empty_output()
        .build()
    )
    profile = tf.compat.v1.profiler.profile(graph, cmd="op", options=options)
    counted = {node.name: node.float_ops for node in _rows(profile)}
    kinds = ("Conv2D", "DepthwiseConv2dNative", "MatMul")
    assert sum(counted[k] for k in kinds) == count(model).flops


def _rows(node: Any) -> Iterator[Any]:
    yield node
    for child in node.children:
        yield from _rows(child)


def test_logits_are_a_linear_head_on_the_pooled_feature_map() -> None:
    import keras

    model = build(TINY, input_size=64)
    x = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)
    features = keras.Model(model.input, model.get_layer(FEATURES_LAYER).output)(x)
    kernel, bias = model.get_layer("logits").get_weights()
    by_hand = np.asarray(features).mean((1, 2)) @ kernel + bias
    np.testing.assert_allclose(model(x), by_hand, atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: StageSpec(0, 16, 1),
        lambda: StageSpec(1, 16, 3),
        lambda: replace(TINY, stages=()),
        lambda: replace(TINY, ratio=1),
        lambda: replace(TINY, ratio=5),
        lambda: replace(TINY, dropout=1.0),
    ],
)
def test_nonsense_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"must|need"):
        make()
