"""A tiny model whose cost is worked out by hand in the tests."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecell.classes import CLASSES
from edgecell.image.preprocess import Preprocessing
from edgecell.model.modelfile import ModelRecord, write_tflite


def _converted(
    network: Any,
    optimizations: Sequence[Any] = (),
    supported_types: Sequence[Any] = (),
) -> bytes:
    """A ``tf.function`` as a TFLite flatbuffer with the signature of our models."""
    import tensorflow as tf

    module: Any = tf.Module()
    module.network = network
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, {"serving_default": network})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = list(optimizations)
        converter.target_spec.supported_types = list(supported_types)
        return bytes(converter.convert())


@pytest.fixture(scope="session")
def tiny_network() -> Any:
    """Convolution, depthwise convolution, dense logits and maps on 8x8 pixels.

    Returns:
        A ``tf.function`` from float32 (1, 8, 8, 3) to logits (1, 12) and maps
        (1, 4, 4, 12).
    """
    import tensorflow as tf

    rng = np.random.default_rng(0)

    def weights(*shape: int) -> Any:
        return tf.constant(rng.normal(size=shape).astype(np.float32))

    conv, conv_bias = weights(3, 3, 3, 4), weights(4)
    depthwise, depthwise_bias = weights(3, 3, 4, 2), weights(8)
    dense, dense_bias = weights(8, 12), weights(12)
    # As in the real network, the maps share the classifier's weights.
    maps, maps_bias = dense[None, None], weights(12)

    def network(image: Any) -> dict[str, Any]:
        x = tf.nn.relu(tf.nn.conv2d(image, conv, 2, "SAME") + conv_bias)
        x = tf.nn.depthwise_conv2d(x, depthwise, (1, 1, 1, 1), "SAME")
        x = tf.nn.relu(x + depthwise_bias)
        pooled = tf.reduce_mean(x, (1, 2))
        return {
            "logits": tf.matmul(pooled, dense) + dense_bias,
            "maps": tf.nn.conv2d(x, maps, 1, "SAME") + maps_bias,
        }

    image = tf.TensorSpec((1, 8, 8, 3), tf.float32, "image")
    return tf.function(network, input_signature=[image])


@pytest.fixture(scope="session")
def tiny_profile(tiny_network: Any) -> dict[str, int]:
    """FLOPs of the tiny network by operator, counted by TensorFlow's profiler."""
    import tensorflow as tf

    profiler = tf.compat.v1.profiler
    builder = profiler.ProfileOptionBuilder
    options = builder(builder.float_operation()).with_empty_output().build()
    graph = tiny_network.get_concrete_function().graph
    profile = profiler.profile(graph, cmd="op", options=options)
    found = {}
    while profile.children:
        profile = profile.children[0]
        found[profile.name] = profile.float_ops
    return found


@pytest.fixture(scope="session")
def tiny_float16(tiny_network: Any) -> bytes:
    """The tiny network as a flatbuffer with float16 weights."""
    import tensorflow as tf

    return _converted(
        tiny_network,
        optimizations=[tf.lite.Optimize.DEFAULT],
        supported_types=[tf.float16],
    )


@pytest.fixture(scope="session")
def tiny_path(tiny_network: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file with the tiny network in float32."""
    record = ModelRecord(
        classes=CLASSES,
        preprocessing=Preprocessing(
            input_size=8,
            crop_fraction=1.0,
            crop_red_cells=2.3,
            white_percentile=95.0,
            white_level=240.0,
            mean=(128.0, 128.0, 128.0),
            std=(64.0, 64.0, 64.0),
        ),
        network={"name": "tiny"},
        head_bias=(0.0,) * 12,
        scheme="float32",
    )
    path = tmp_path_factory.mktemp("tiny") / "tiny.tflite"
    write_tflite(path, _converted(tiny_network), record)
    return path
