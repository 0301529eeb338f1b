"""From a Keras network to the TFLite graph that devices run."""

import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from edgecell.modelfile import LOGITS, MAPS
from edgecell.quiet import quiet_stderr

if TYPE_CHECKING:
    import keras

Scheme = Literal["float32", "int8"]
IoType = Literal["int8", "uint8"]


@dataclass(frozen=True)
class QuantScheme:
    """How numbers are stored in the TFLite file.

    Attributes:
        name: 'float32', or 'int8' for full integer quantisation (Jacob et al.,
            CVPR 2018): int8 activations per tensor, weights per channel.
        io: type of the input tensor of an int8 model.
    """

    name: Scheme
    io: IoType = "int8"


def deployed(
    model: "keras.Model", features: str, head: str, batch: int = 1
) -> "keras.Model":
    """The network as it is shipped: two outputs, and no fully connected layer.

    The class activation maps are a 1x1 convolution of the last feature map with
    the classifier's weights. The logits are the same convolution, with its bias,
    of the pooled map: tflite-runtime 2.14 refuses newer FULLY_CONNECTED operators.

    Args:
        model: a trained network.
        features: name of the layer that puts out the last feature map.
        head: name of the linear classifier.
        batch: fixed batch size; TFLite plans its memory for it.

    Returns:
        A model from float32 (batch, S, S, 3) to a dictionary of ``logits``
        (batch, C) and ``maps`` (batch, h, w, C).
    """
    import keras

    kernel, bias = model.get_layer(head).get_weights()
    backbone = keras.Model(model.input, model.get_layer(features).output)
    image = keras.Input(model.input_shape[1:], batch_size=batch, name="image")
    feature_map = backbone(image)
    classes = len(bias)
    maps = keras.layers.Conv2D(classes, 1, use_bias=False, name=MAPS)
    logits = keras.layers.Conv2D(classes, 1, name=LOGITS)
    pooled = keras.layers.GlobalAveragePooling2D(keepdims=True)(feature_map)
    outputs = {
        LOGITS: keras.layers.Reshape((classes,))(logits(pooled)),
        MAPS: maps(feature_map),
    }
    maps.set_weights([kernel[None, None]])
    logits.set_weights([kernel[None, None], bias])
    return keras.Model(image, outputs)


def to_tflite(
    model: "keras.Model",
    scheme: QuantScheme,
    calibration: npt.NDArray[np.float32] | None = None,
) -> bytes:
    """Converts a deployed network.

    Args:
        model: what `deployed` made.
        scheme: the number format.
        calibration: float32 (N, S, S, 3), standardised; needed for 'int8'.

    Returns:
        The TFLite flatbuffer, outputs named in the signature 'serving_default'.

    Raises:
        ValueError: 'int8' without a calibration set.
    """
    import tensorflow as tf

    # The converter prints statistics and warns of an interpreter that it uses itself.
    with (
        tempfile.TemporaryDirectory() as folder,
        quiet_stderr(),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        model.export(folder, format="tf_saved_model", verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if scheme.name == "int8":
            if calibration is None or not len(calibration):
                raise ValueError("int8 needs a calibration set")
            images = calibration

            def batches() -> Iterator[dict[str, Any]]:
                for image in images:
                    yield {"image": image[None]}

            io = getattr(tf, scheme.io)
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = batches
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = io
            converter.inference_output_type = tf.int8
        flatbuffer: bytes = converter.convert()
    return flatbuffer
