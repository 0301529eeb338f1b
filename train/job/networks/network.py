"""GRsNet in PyTorch, with the layers of `edgecell.train.networks.network`.

The two are one network: weights move between them in the order in which both build
their layers. Keras' own PyTorch backend gives the same logits but takes twice the time
on a processor, since it normalises batches step by step.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from edgecell.errors import InputError
from edgecell.train.networks.network import NetworkSpec, hidden_width

Weights = dict[str, npt.NDArray[Any]]
"""Arrays in Keras' layouts: NNN.kernel, NNN.gamma, NNN.beta, NNN.mean and NNN.variance
for convolution NNN and its batch normalisation, in the order of building; head.kernel
and head.bias; and attributes.kernel and attributes.bias, if the network has these."""

_ATTRIBUTES = {"attributes.kernel", "attributes.bias"}

EPSILON = 1e-3
MOMENTUM = 0.97
"""Keras' epsilon, and the momentum that `build` sets."""


def _same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Pixels before and after, as TensorFlow's 'same' padding has them."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _pad(x: torch.Tensor, kernel: int, stride: int, value: float) -> torch.Tensor:
    top, bottom = _same_padding(x.shape[2], kernel, stride)
    left, right = _same_padding(x.shape[3], kernel, stride)
    return functional.pad(x, (left, right, top, bottom), value=value)


class ConvNorm(nn.Module):
    """A convolution with 'same' padding, its batch normalisation and maybe a ReLU."""

    def __init__(
        self,
        channels: int,
        width: int,
        kernel: int,
        stride: int,
        relu: bool,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.relu = kernel, stride, relu
        # At stride 1 'same' padding is symmetric, which the convolution does itself.
        self.conv = nn.Conv2d(
            channels,
            width,
            kernel,
            stride,
            padding=kernel // 2 if stride == 1 else 0,
            groups=groups,
            bias=False,
        )
        self.norm = nn.BatchNorm2d(width, eps=EPSILON, momentum=1 - MOMENTUM)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to (N, width, H / stride, W / stride)."""
        if self.stride > 1:
            x = _pad(x, self.kernel, self.stride, 0.0)
        x = self.norm(self.conv(x))
        return functional.relu(x, inplace=True) if self.relu else x


class Ghost(nn.Module):
    """A ghost module: primary maps and cheap ones made from them."""

    def __init__(
        self, channels: int, width: int, stride: int, relu: bool, spec: NetworkSpec
    ) -> None:
        super().__init__()
        primary = width // spec.ratio
        cheap = primary * (spec.ratio - 1)
        self.primary = ConvNorm(channels, primary, spec.kernel, stride, relu)
        self.cheap = ConvNorm(primary, cheap, spec.cheap_kernel, 1, relu, primary)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to (N, width, H / stride, W / stride)."""
        primary = self.primary(x)
        return torch.cat([primary, self.cheap(primary)], 1)


class Bottleneck(nn.Module):
    """A Ghost Bottleneck with its shortcut."""

    def __init__(
        self, channels: int, width: int, stride: int, spec: NetworkSpec
    ) -> None:
        super().__init__()
        hidden = hidden_width(width, spec)
        in_primary = stride if spec.kernel > 1 else 1
        main: list[nn.Module] = [Ghost(channels, hidden, in_primary, True, spec)]
        if stride > in_primary:
            main.append(ConvNorm(hidden, hidden, 3, stride, False, hidden))
        main.append(Ghost(hidden, width, 1, False, spec))
        self.main = nn.Sequential(*main)
        self.stride = stride
        self.shortcut = (
            ConvNorm(channels, width, 1, 1, False)
            if channels != width
            else nn.Identity()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to (N, width, H / stride, W / stride)."""
        y = self.main(x)
        if self.stride > 1:
            # 'same' average pooling counts no padding; sides are even here.
            x = functional.avg_pool2d(x, self.stride, ceil_mode=True)
        return y + self.shortcut(x)


class Classifier(nn.Module, ABC):
    """Heads on the pooled features of a network.

    Besides the classes it may predict attributes, by linear heads on the same features.

    Attributes:
        sizes: number of values of each attribute.
        head: of the classes.
        attributes: of the attributes, side by side; None without.
    """

    def __init__(
        self, channels: int, classes: int, sizes: Sequence[int], dropout: float
    ) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels, classes)
        # From 0 on, so that they don't push first weights that are trained about.
        self.attributes = nn.Linear(channels, sum(sizes)) if sizes else None
        if self.attributes is not None:
            nn.init.zeros_(self.attributes.weight)
            nn.init.zeros_(self.attributes.bias)

    @abstractmethod
    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        """What all heads are applied to: (N, 3, S, S) to (N, K)."""

    def outputs(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of the classes and of the attributes.

        Args:
            x: float32 (N, 3, S, S), standardised.

        Returns:
            float32 (N, C) and (N, V), or the autocast type; V is 0 without attributes.
        """
        pooled = self.dropout(self.pooled(x))
        if self.attributes is None:
            return self.head(pooled), pooled[:, :0]
        return self.head(pooled), self.attributes(pooled)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of the classes; see `outputs`."""
        return self.outputs(x)[0]


class GRsNet(Classifier):
    """GRsNet for standardised images; see `NetworkSpec`.

    Attributes:
        spec: the specification.
    """

    def __init__(
        self, spec: NetworkSpec, classes: int = 12, sizes: Sequence[int] = ()
    ) -> None:
        super().__init__(spec.stages[-1].width, classes, sizes, spec.dropout)
        self.spec = spec
        self.stem = ConvNorm(3, spec.stem_width, spec.stem_kernel, 2, True)
        blocks = []
        channels = spec.stem_width
        for stage in spec.stages:
            for i in range(stage.blocks):
                stride = stage.stride if i == 0 else 1
                blocks.append(Bottleneck(channels, stage.width, stride, spec))
                channels = stage.width
        self.blocks = nn.Sequential(*blocks)

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        """The mean of the last feature map: (N, 3, S, S) to (N, K)."""
        x = self.stem(x)
        if self.spec.stem_pool:
            x = functional.max_pool2d(_pad(x, 3, 2, float("-inf")), 3, 2)
        return functional.relu(self.blocks(x)).mean((2, 3))


def _layers(network: nn.Module) -> Iterator[tuple[str, ConvNorm]]:
    """Convolutions with their normalisation, named in the order of building."""
    found = (m for m in network.modules() if isinstance(m, ConvNorm))
    for i, layer in enumerate(found):
        yield f"{i:03d}", layer


def as_array(value: torch.Tensor) -> npt.NDArray[np.float32]:
    """A copy as float32."""
    return value.detach().float().cpu().numpy().copy()


def put(target: torch.Tensor, value: npt.NDArray[Any]) -> None:
    """Sets a weight."""
    with torch.no_grad():
        target.copy_(torch.from_numpy(np.array(value, np.float32, order="C")))


def convolutions(network: nn.Module) -> Weights:
    """Weights of all `ConvNorm` of a network, float32 in Keras' layouts."""
    weights: Weights = {}
    for name, layer in _layers(network):
        kernel = layer.conv.weight
        if layer.conv.groups > 1:
            # (C * m, 1, h, w) to (h, w, C, m).
            groups = layer.conv.groups
            kernel = kernel.reshape(groups, -1, *kernel.shape[2:]).permute(2, 3, 0, 1)
        else:
            kernel = kernel.permute(2, 3, 1, 0)
        assert layer.norm.running_mean is not None
        assert layer.norm.running_var is not None
        values = {
            "kernel": kernel,
            "gamma": layer.norm.weight,
            "beta": layer.norm.bias,
            "mean": layer.norm.running_mean,
            "variance": layer.norm.running_var,
        }
        weights |= {f"{name}.{key}": as_array(value) for key, value in values.items()}
    return weights


def set_convolutions(
    network: nn.Module, weights: Mapping[str, npt.NDArray[Any]]
) -> None:
    """Inverse of `convolutions`."""
    for name, layer in _layers(network):
        kernel = weights[f"{name}.kernel"]
        if layer.conv.groups > 1:
            h, w = kernel.shape[:2]
            kernel = kernel.transpose(2, 3, 0, 1).reshape(-1, 1, h, w)
        else:
            kernel = kernel.transpose(3, 2, 0, 1)
        assert layer.norm.running_mean is not None
        assert layer.norm.running_var is not None
        put(layer.conv.weight, kernel)
        put(layer.norm.weight, weights[f"{name}.gamma"])
        put(layer.norm.bias, weights[f"{name}.beta"])
        put(layer.norm.running_mean, weights[f"{name}.mean"])
        put(layer.norm.running_var, weights[f"{name}.variance"])


def same_shapes(one: Weights, other: Mapping[str, npt.NDArray[Any]]) -> bool:
    """Whether two sets of weights are of one network."""
    return {k: v.shape for k, v in one.items()} == {
        k: v.shape for k, v in other.items()
    }


def get_weights(network: GRsNet) -> Weights:
    """The network's weights as float32 arrays in Keras' layouts."""
    return convolutions(network) | {
        "head.kernel": as_array(network.head.weight.T),
        "head.bias": as_array(network.head.bias),
        **_attribute_weights(network),
    }


def _attribute_weights(network: GRsNet) -> Weights:
    if network.attributes is None:
        return {}
    return {
        "attributes.kernel": as_array(network.attributes.weight.T),
        "attributes.bias": as_array(network.attributes.bias),
    }


def set_weights(network: GRsNet, weights: Mapping[str, npt.NDArray[Any]]) -> None:
    """Puts weights into a network.

    Args:
        network: of the specification that the weights are for.
        weights: see `Weights`. If they have none of the attributes' heads, those of
            the network stay as they are.

    Raises:
        InputError: they are another network's.
    """
    own = get_weights(network)
    if not _ATTRIBUTES & weights.keys():
        own = {name: w for name, w in own.items() if name not in _ATTRIBUTES}
    if not same_shapes(own, weights):
        raise InputError(
            f"the weights are not those of a {network.spec.name} with "
            f"{network.head.out_features} classes"
        )
    set_convolutions(network, weights)
    put(network.head.weight, weights["head.kernel"].T)
    put(network.head.bias, weights["head.bias"])
    if network.attributes is not None and _ATTRIBUTES <= weights.keys():
        put(network.attributes.weight, weights["attributes.kernel"].T)
        put(network.attributes.bias, weights["attributes.bias"])
