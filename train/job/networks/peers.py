"""The networks that GRsNet is compared with, or learns from, as timm builds them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt
import torch

from edgecell.errors import InputError
from edgecell.optional import require
from edgecell.train.job.networks.network import Classifier, put
from edgecell.train.networks.peers import DROPOUT

_NAMES = {
    "efficientnet-lite0": "tf_efficientnet_lite0",
    "mobilenet-v2": "mobilenetv2_100",
    "resnet50": "resnet50",
    "efficientnet-v2m": "tf_efficientnetv2_m",
    "vit-b16": "vit_base_patch16_224",
}
"""timm's names of what `edgecell.train.networks.peers` builds for Keras."""

PEERS = tuple(_NAMES)


class Peer(Classifier):
    """Another network under the heads of ours."""

    def __init__(
        self, name: str, side: int, classes: int, sizes: Sequence[int]
    ) -> None:
        """
        Args:
            name: one of `PEERS`.
            side: of the images, pixels.
            classes: their number.
            sizes: number of values of each attribute.
        """
        timm = require("timm", "torch")
        size = {"img_size": side} if name == "vit-b16" else {}
        backbone = timm.create_model(_NAMES[name], num_classes=0, **size)
        super().__init__(backbone.num_features, classes, sizes, DROPOUT)
        self.backbone = backbone

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        """What all heads are applied to: (N, 3, S, S) to (N, K)."""
        pooled: torch.Tensor = self.backbone(x)
        return pooled


def set_peer_weights(peer: Peer, weights: Mapping[str, npt.NDArray[Any]]) -> None:
    """Puts weights of another PyTorch implementation into a network.

    Args:
        peer: the network.
        weights: arrays in the order of layers, which is timm's order, too; those of a
            classifier at the end are left out.

    Raises:
        InputError: they are another network's.
    """
    own = {k: v for k, v in peer.backbone.state_dict().items() if _learned(k)}
    values = [v for k, v in weights.items() if _learned(k)][: len(own)]
    if [tuple(v.shape) for v in own.values()] != [v.shape for v in values]:
        raise InputError("the first weights are another network's")
    for target, value in zip(own.values(), values, strict=True):
        put(target, value)


def _learned(name: str) -> bool:
    """Whether it is a weight or a statistic, not a normalisation's counter."""
    return not name.endswith("num_batches_tracked")
