"""The networks that GRsNet is compared with, under the same head as ours.

The paper's comparison models (its Table 4), and EfficientNet-Lite0, which a user
would pick instead. Each ends in the layers that ours ends in, so training,
conversion, class activation maps and evaluation are the same for all.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edgecell.model.kerasfile import FEATURES_LAYER, HEAD_LAYER

if TYPE_CHECKING:
    import keras

DROPOUT = 0.2

# (repeats, kernel, stride, expansion, width): EfficientNet-B0's stages, which its
# Lite variant keeps (Tan, Le, EfficientNet, ICML 2019, table 1).
_LITE0_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def _efficientnet_lite0(image: Any) -> Any:
    """EfficientNet-B0 without squeeze-and-excitation, ReLU6 for swish."""
    from keras import layers

    def bn(x: Any, name: str, relu: bool = True) -> Any:
        x = layers.BatchNormalization(momentum=0.97, epsilon=1e-3, name=name)(x)
        return layers.ReLU(6)(x) if relu else x

    def conv(x: Any, width: int, kernel: int, stride: int, name: str) -> Any:
        return layers.Conv2D(width, kernel, stride, "same", use_bias=False, name=name)(
            x
        )

    # Layers are called as the ImageNet weights are (see imagenet.py).
    x = bn(conv(image, 32, 3, 2, "conv_stem"), "bn0")
    number = 0
    for repeats, kernel, first_stride, expansion, width in _LITE0_STAGES:
        for repeat in range(repeats):
            block = f"blocks_{number}_"
            stride = first_stride if repeat == 0 else 1
            y = x
            if expansion > 1:
                hidden = expansion * int(x.shape[-1])
                y = conv(y, hidden, 1, 1, block + "expand_conv")
                y = bn(y, block + "bn0")
            y = layers.DepthwiseConv2D(
                kernel, stride, "same", use_bias=False, name=block + "depthwise_conv"
            )(y)
            y = bn(y, block + "bn1")
            y = conv(y, width, 1, 1, block + "project_conv")
            y = bn(y, block + "bn2", relu=False)
            x = y if repeat == 0 else layers.Add()([x, y])
            number += 1
    return bn(conv(x, 1280, 1, 1, "conv_head"), "bn1")


def _mobilenet_v2(image: Any) -> Any:
    from keras import Input, models
    from keras.applications import MobileNetV2

    # Keras pads by whether a feature map's side is even, so what is trained with any
    # size would be another network than what is built for one: that of any size is it.
    anywhere = MobileNetV2(
        input_tensor=Input((None, None, 3)), include_top=False, weights=None
    )
    return models.clone_model(anywhere, input_tensors=[image]).output


def _resnet50(image: Any) -> Any:
    from keras.applications import ResNet50

    return ResNet50(input_tensor=image, include_top=False, weights=None).output


def _efficientnet_v2m(image: Any) -> Any:
    from keras.applications import EfficientNetV2M

    return EfficientNetV2M(
        input_tensor=image,
        include_top=False,
        weights=None,
        include_preprocessing=False,
    ).output


def _vit_b16(image: Any) -> Any:
    """ViT-B/16 (Dosovitskiy et al., ICLR 2021, table 1), tokens averaged.

    Averaging the tokens in place of a class token (its appendix D.3 finds both
    equal) gives this network class activation maps like the others.
    """
    from keras import layers

    width, depth, heads, mlp, patch = 768, 12, 12, 3072, 16
    if image.shape[1] is None or image.shape[1] % patch:
        raise ValueError(f"vit-b16 needs a fixed input of a multiple of {patch} pixels")
    side = image.shape[1] // patch
    x = layers.Reshape((side, patch, side, patch * 3))(image)
    x = layers.Permute((1, 3, 2, 4))(x)
    x = layers.Reshape((side * side, patch * patch * 3))(x)
    # One bias for each token is a learned position embedding.
    x = layers.EinsumDense("npi,io->npo", (side * side, width), bias_axes="po")(x)
    for _ in range(depth):
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        y = layers.MultiHeadAttention(heads, width // heads)(y, y)
        x = layers.Add()([x, y])
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        y = layers.Dense(mlp, activation="gelu")(y)
        x = layers.Add()([x, layers.Dense(width)(y)])
    x = layers.LayerNormalization(epsilon=1e-6)(x)
    return layers.Reshape((side, side, width))(x)


PEERS: dict[str, Callable[[Any], Any]] = {
    "mobilenet-v2": _mobilenet_v2,
    "resnet50": _resnet50,
    "efficientnet-v2m": _efficientnet_v2m,
    "vit-b16": _vit_b16,
    "efficientnet-lite0": _efficientnet_lite0,
}
"""Last feature map (N, h, w, D) of an image tensor (N, S, S, 3), by name."""


def build_peer(name: str, classes: int, input_size: int | None) -> "keras.Model":
    """Builds a comparison network, with random weights.

    Args:
        name: a key of `PEERS`.
        classes: number of classes C.
        input_size: side of the input in pixels; None for any size, which
            'vit-b16' can't have.

    Returns:
        A functional Keras model as `edgecell.train.networks.network.build` returns it.
    """
    import keras
    from keras import layers

    image = keras.Input((input_size, input_size, 3), name="image")
    x = PEERS[name](image)
    x = layers.Activation("linear", name=FEATURES_LAYER)(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(DROPOUT)(x)
    logits = layers.Dense(classes, name=HEAD_LAYER)(x)
    model = keras.Model(image, logits, name=name.replace("-", "_"))
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.97  # as ours: hundreds of steps an epoch, not thousands
    return model
