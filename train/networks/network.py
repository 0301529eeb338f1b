"""GRsNet as data: a record describes a network, one builder makes it.

GRsNet (Nguyen, Nguyen, Phan; CMES 2025, 145(2), 2435-2456) is ResNet34's layout
built from Ghost Bottlenecks (Han et al., GhostNet, CVPR 2020). The paper leaves
kernel, ratio and expansion open; the presets say what was chosen, for the speed that
benchmarks/networks/network_choice.py measures.
"""

from dataclasses import asdict, dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from edgecell.model.kerasfile import FEATURES_LAYER, HEAD_LAYER
from edgecell.optional import require

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class StageSpec:
    """A run of equal Ghost Bottlenecks.

    Attributes:
        blocks: number of bottlenecks.
        width: output channels.
        stride: stride of the first bottleneck, 1 or 2.
    """

    blocks: int
    width: int
    stride: int

    def __post_init__(self) -> None:
        if self.blocks < 1 or self.width < 1 or self.stride not in (1, 2):
            raise ValueError("a stage needs blocks, a width, and stride 1 or 2")


@dataclass(frozen=True)
class NetworkSpec:
    """Everything that fixes a GRsNet.

    Attributes:
        name: the preset's name.
        stem_width: channels of the stem convolution.
        stem_kernel: kernel of the stem convolution, stride 2.
        stem_pool: whether a 3x3 max pooling of stride 2 follows the stem.
        stages: four stages in ResNet34's 3-4-6-3 layout.
        expansion: hidden channels of a bottleneck over its output channels.
        ratio: output maps of a ghost module over its primary maps, at least 2.
        kernel: kernel of the primary convolutions (1 in GhostNet).
        cheap_kernel: kernel of the cheap depthwise operation.
        dropout: dropout rate before the classifier.
    """

    name: str
    stem_width: int
    stem_kernel: int
    stem_pool: bool
    stages: tuple[StageSpec, ...]
    expansion: float = 1.0
    ratio: int = 2
    kernel: int = 3
    cheap_kernel: int = 3
    dropout: float = 0.2

    def __post_init__(self) -> None:
        if not self.stages or self.expansion <= 0 or not 0 <= self.dropout < 1:
            raise ValueError("stages, expansion > 0 and 0 <= dropout < 1 are needed")
        if self.ratio < 2 or any(s.width % self.ratio for s in self.stages):
            raise ValueError("ratio must be at least 2 and divide every width")

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready copy."""
        return asdict(self)


def _stages(*rows: tuple[int, int, int]) -> tuple[StageSpec, ...]:
    return tuple(StageSpec(*row) for row in rows)


PRESETS: dict[str, NetworkSpec] = {
    spec.name: spec
    for spec in (
        NetworkSpec(
            name="grsnet",
            stem_width=32,
            stem_kernel=5,
            stem_pool=False,
            stages=_stages((3, 64, 1), (4, 80, 2), (6, 144, 2), (3, 368, 2)),
        ),
        NetworkSpec(
            name="grsnet-lite",
            stem_width=32,
            stem_kernel=3,
            stem_pool=True,
            stages=_stages((3, 32, 1), (4, 64, 2), (6, 96, 1), (3, 224, 2)),
        ),
    )
}


def hidden_width(width: int, spec: NetworkSpec) -> int:
    """Hidden channels: a multiple of 8 per ghost share, as others are slow."""
    step = 8 * spec.ratio
    return max(step, step * round(width * spec.expansion / step))


def build(
    spec: NetworkSpec,
    classes: int = 12,
    input_size: int | None = 112,
    framework: ModuleType | None = None,
) -> "keras.Model":
    """Builds a network.

    Args:
        spec: what to build.
        classes: number of classes C.
        input_size: side of the input in pixels; None for any size.
        framework: tf_keras instead of Keras 3, for tensorflow-model-optimization.

    Returns:
        A functional Keras model from standardised float32 (N, S, S, 3) to logits
        float32 (N, C). The layer ``FEATURES_LAYER`` is the last feature map, and
        ``HEAD_LAYER`` the one linear layer after global average pooling.
    """
    framework = framework or require("keras", "train")
    layers = framework.layers

    def conv_bn(x: Any, width: int, kernel: int, stride: int, relu: bool) -> Any:
        x = layers.Conv2D(
            width,
            kernel,
            stride,
            "same",
            use_bias=False,
            kernel_initializer="he_normal",
        )(x)
        x = layers.BatchNormalization(momentum=0.97)(x)
        return layers.ReLU()(x) if relu else x

    def depthwise_bn(
        x: Any, kernel: int, stride: int, relu: bool, multiplier: int = 1
    ) -> Any:
        x = layers.DepthwiseConv2D(
            kernel, stride, "same", depth_multiplier=multiplier, use_bias=False
        )(x)
        x = layers.BatchNormalization(momentum=0.97)(x)
        return layers.ReLU()(x) if relu else x

    def ghost(x: Any, width: int, stride: int, relu: bool) -> Any:
        # Ghost module (GhostNet eq. 2-3): one map in `ratio` comes from a
        # convolution, the others from a cheap depthwise one over those.
        primary = conv_bn(x, width // spec.ratio, spec.kernel, stride, relu)
        cheap = depthwise_bn(primary, spec.cheap_kernel, 1, relu, spec.ratio - 1)
        return layers.Concatenate()([primary, cheap])

    def bottleneck(x: Any, width: int, stride: int) -> Any:
        # A strided 1x1 convolution would skip three pixels of four, so with
        # 1x1 kernels a depthwise convolution strides, as in GhostNet.
        in_primary = stride if spec.kernel > 1 else 1
        y = ghost(x, hidden_width(width, spec), in_primary, relu=True)
        if stride > in_primary:
            y = depthwise_bn(y, 3, stride, relu=False)
        y = ghost(y, width, 1, relu=False)
        if stride > 1:
            x = layers.AveragePooling2D(stride, padding="same")(x)
        if x.shape[-1] != width:
            x = conv_bn(x, width, 1, 1, relu=False)
        return layers.Add()([x, y])

    image = framework.Input((input_size, input_size, 3), name="image")
    x = conv_bn(image, spec.stem_width, spec.stem_kernel, 2, relu=True)
    if spec.stem_pool:
        x = layers.MaxPooling2D(3, 2, "same")(x)
    for stage in spec.stages:
        for i in range(stage.blocks):
            x = bottleneck(x, stage.width, stage.stride if i == 0 else 1)
    x = layers.ReLU(name=FEATURES_LAYER)(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(spec.dropout)(x)
    logits = layers.Dense(classes, name=HEAD_LAYER)(x)
    return framework.Model(image, logits, name=spec.name.replace("-", "_"))
