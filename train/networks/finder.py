"""The finder as a network: heat maps of cells' centres, and sizes beside them.

Fully convolutional, so that it takes a frame of any shape whose sides are multiples
of `STRIDE`. It looks at an eighth and a sixteenth of the working image for what a cell
is, and at a quarter for where it is (objects as points: Zhou et al., 2019,
arXiv:1904.07850). What is made larger is made so by moving channels into space, which
leaves no constant size in the TFLite graph.
"""

from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from edgecell.optional import require

if TYPE_CHECKING:
    import keras

STRIDE = 16
"""Both sides of an input are multiples of it."""

HEADS = {"heat": 3, "size": 2}
"""Outputs and their channels: logits for white cells, red cells and platelets; natural
logs of width and height over `edgecell.model.finder.SIZE_UNIT`."""


@dataclass(frozen=True)
class FinderSpec:
    """Everything that fixes a finder.

    Attributes:
        widths: channels at a half, a quarter, an eighth and a sixteenth of the input.
        blocks: residual blocks at a sixteenth.
    """

    widths: tuple[int, int, int, int] = (12, 24, 40, 64)
    blocks: int = 3


def build_finder(
    spec: FinderSpec,
    height: int | None = None,
    width: int | None = None,
    framework: ModuleType | None = None,
) -> "keras.Model":
    """Builds a finder.

    Args:
        spec: what to build.
        height: of the input, pixels; None for any.
        width: of the input, pixels; None for any.
        framework: Keras on another backend, to compare with.

    Returns:
        A functional Keras model from standardised float32 (N, H, W, 3) to a dictionary
        of ``heat`` (N, H / 4, W / 4, 3) and ``size`` (N, H / 4, W / 4, 2).
    """
    keras = framework or require("keras", "train")
    layers = keras.layers

    class IntoSpace(keras.layers.Layer):  # type: ignore[misc, name-defined]
        """Channels in groups of four to twice the height and width."""

        def call(self, x: Any) -> Any:
            if keras.config.backend() == "tensorflow":  # one operator of TFLite's
                import tensorflow as tf

                return tf.nn.depth_to_space(x, 2)
            _, h, w, channels = x.shape
            y = keras.ops.reshape(x, (-1, h, w, 2, 2, channels // 4))
            y = keras.ops.transpose(y, (0, 1, 3, 2, 4, 5))
            return keras.ops.reshape(y, (-1, 2 * h, 2 * w, channels // 4))

    def conv(x: Any, filters: int, kernel: int, stride: int, relu: bool) -> Any:
        x = layers.Conv2D(filters, kernel, stride, "same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        return layers.ReLU()(x) if relu else x

    def residual(x: Any, dense: bool) -> Any:
        """A 3x3 convolution, of each channel by itself unless dense, and a 1x1 one."""
        if dense:
            y = conv(x, x.shape[-1], 3, 1, relu=True)
        else:
            y = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
            y = layers.BatchNormalization()(y)
        y = conv(y, x.shape[-1], 1, 1, relu=False)
        return layers.ReLU()(layers.Add()([x, y]))

    def larger(x: Any, beside: Any) -> Any:
        y = IntoSpace()(conv(x, 4 * beside.shape[-1], 1, 1, relu=False))
        return residual(layers.ReLU()(layers.Add()([beside, y])), dense=False)

    image = keras.Input((height, width, 3), name="image")
    half, quarter, eighth, sixteenth = spec.widths
    x = conv(image, half, 3, 2, relu=True)
    at_quarter = residual(conv(x, quarter, 3, 2, relu=True), dense=False)
    at_eighth = residual(conv(at_quarter, eighth, 3, 2, relu=True), dense=True)
    x = conv(at_eighth, sixteenth, 3, 2, relu=True)
    for _ in range(spec.blocks):
        x = residual(x, dense=True)
    x = larger(larger(x, at_eighth), at_quarter)
    x = residual(x, dense=False)
    outputs = {
        name: layers.Conv2D(channels, 1, name=name)(x)
        for name, channels in HEADS.items()
    }
    return keras.Model(image, outputs, name="finder")
