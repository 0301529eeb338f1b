"""The finder in PyTorch, with the layers of `edgecell.train.networks.finder`."""

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from edgecell.errors import InputError
from edgecell.train.job.networks.network import (
    ConvNorm,
    Weights,
    as_array,
    convolutions,
    put,
    same_shapes,
    set_convolutions,
)
from edgecell.train.networks.finder import HEADS, FinderSpec

_FIRST_HEAT = -3.5
"""Logit of the heat before training: nearly nowhere is the centre of a cell."""


class _Residual(nn.Module):
    """A 3x3 convolution, of each channel by itself unless dense, and a 1x1 one."""

    def __init__(self, channels: int, dense: bool) -> None:
        super().__init__()
        groups = 1 if dense else channels
        self.wide = ConvNorm(channels, channels, 3, 1, dense, groups)
        self.narrow = ConvNorm(channels, channels, 1, 1, False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(x + self.narrow(self.wide(x)))


class _Larger(nn.Module):
    """Brings a map to the resolution of the one beside it, and both together."""

    def __init__(self, channels: int, beside: int) -> None:
        super().__init__()
        self.spread = ConvNorm(channels, 4 * beside, 1, 1, False)
        self.after = _Residual(beside, dense=False)

    def forward(self, x: torch.Tensor, beside: torch.Tensor) -> torch.Tensor:
        return self.after(functional.relu(beside + _into_space(self.spread(x))))


def _into_space(x: torch.Tensor) -> torch.Tensor:
    """Channels in groups of four to twice the height and width, as TensorFlow does."""
    n, channels, h, w = x.shape
    x = x.view(n, 2, 2, channels // 4, h, w).permute(0, 3, 4, 1, 5, 2)
    return x.reshape(n, channels // 4, 2 * h, 2 * w)


class FinderNetwork(nn.Module):
    """Heat maps of centres, and sizes; see `FinderSpec`."""

    def __init__(self, spec: FinderSpec) -> None:
        super().__init__()
        half, quarter, eighth, sixteenth = spec.widths
        self.stem = ConvNorm(3, half, 3, 2, True)
        self.quarter = nn.Sequential(
            ConvNorm(half, quarter, 3, 2, True), _Residual(quarter, dense=False)
        )
        self.eighth = nn.Sequential(
            ConvNorm(quarter, eighth, 3, 2, True), _Residual(eighth, dense=True)
        )
        self.sixteenth = nn.Sequential(
            ConvNorm(eighth, sixteenth, 3, 2, True),
            *(_Residual(sixteenth, dense=True) for _ in range(spec.blocks)),
        )
        self.to_eighth = _Larger(sixteenth, eighth)
        self.to_quarter = _Larger(eighth, quarter)
        self.last = _Residual(quarter, dense=False)
        self.heads = nn.ModuleDict(
            {name: nn.Conv2d(quarter, n, 1) for name, n in HEADS.items()}
        )
        for name, first in (("heat", _FIRST_HEAT), ("size", 0.0)):
            bias = self.heads[name].bias
            assert isinstance(bias, torch.Tensor)
            nn.init.constant_(bias, first)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Heat and sizes.

        Args:
            x: float32 (N, 3, H, W), standardised.

        Returns:
            (N, 3, H / 4, W / 4), logits; (N, 2, H / 4, W / 4), logs of sizes.
        """
        at_quarter = self.quarter(self.stem(x))
        at_eighth = self.eighth(at_quarter)
        x = self.to_eighth(self.sixteenth(at_eighth), at_eighth)
        x = self.last(self.to_quarter(x, at_quarter))
        return self.heads["heat"](x), self.heads["size"](x)


def finder_weights(network: FinderNetwork) -> Weights:
    """The network's weights as float32 arrays in Keras' layouts."""
    weights = convolutions(network)
    for name, head in network.heads.items():
        assert isinstance(head, nn.Conv2d)
        assert head.bias is not None
        weights[f"{name}.kernel"] = as_array(head.weight.permute(2, 3, 1, 0))
        weights[f"{name}.bias"] = as_array(head.bias)
    return weights


def set_finder_weights(
    network: FinderNetwork, weights: Mapping[str, npt.NDArray[Any]]
) -> None:
    """Inverse of `finder_weights`.

    Raises:
        InputError: the weights are another network's.
    """
    if not same_shapes(finder_weights(network), weights):
        raise InputError("the weights are not those of this finder")
    set_convolutions(network, weights)
    for name, head in network.heads.items():
        assert isinstance(head, nn.Conv2d)
        assert head.bias is not None
        put(head.weight, weights[f"{name}.kernel"].transpose(3, 2, 0, 1))
        put(head.bias, weights[f"{name}.bias"])
