"""Networks of finished runs: what is kept of them, and how they teach others."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch

from edgecell.errors import InputError
from edgecell.train.job.files import SUMMARY, read_first
from edgecell.train.job.networks.network import (
    Classifier,
    GRsNet,
    Weights,
    as_array,
    get_weights,
    put,
    same_shapes,
    set_weights,
)
from edgecell.train.job.networks.peers import Peer
from edgecell.train.job.training import half_kernels
from edgecell.train.networks.network import PRESETS

_LARGEST = 16 << 20
"""Bytes of a result file; see `edgecell.train.job.job.Job.write_result`."""


def built(
    model: str, side: int, classes: int, sizes: Sequence[int], device: torch.device
) -> Classifier:
    """A network with random weights on the device."""
    network: Classifier
    if model in PRESETS:
        network = GRsNet(PRESETS[model], classes, sizes)
    else:
        network = Peer(model, side, classes, sizes)
    layout: Any = {"memory_format": torch.channels_last}
    return network.to(device).to(**layout)


def kept(network: Classifier) -> Weights:
    """What a result keeps of a network: its weights in half precision.

    Those of networks that would take more than a file of results are not kept.
    """
    if isinstance(network, GRsNet):
        return half_kernels(get_weights(network))
    weights = half_kernels(_peer_weights(network))
    return weights if sum(w.nbytes for w in weights.values()) < _LARGEST else {}


def put_back(network: Classifier, weights: Mapping[str, npt.NDArray[Any]]) -> None:
    """Inverse of `kept`; heads of attributes that the network lacks are left out.

    Raises:
        InputError: they are another network's.
    """
    if network.attributes is None:
        weights = {k: w for k, w in weights.items() if not k.startswith("attributes.")}
    if isinstance(network, GRsNet):
        set_weights(network, weights)
        return
    own = _peer_weights(network)
    if not same_shapes(own, weights):
        raise InputError("the weights are another network's")
    state = network.state_dict()
    for name, w in weights.items():
        put(state[name], w)


def _peer_weights(network: Classifier) -> Weights:
    """All weights under PyTorch's names, without the normalisations' counters."""
    return {k: as_array(v) for k, v in network.state_dict().items() if v.ndim}


class FinishedNetwork:
    """The network that a run ended with; it learns no more."""

    def __init__(
        self, run: Path, side: int, classes: int, device: torch.device
    ) -> None:
        """
        Args:
            run: folder of the run.
            side: of the images, pixels.
            classes: number of them that the logits must have.
            device: where to compute.

        Raises:
            InputError: it is not the folder of a finished run, which kept its weights,
                with these classes.
        """
        weights, mean, std = read_first(run)
        model = _model(run)
        network = built(model, side, classes, (), device)
        put_back(network, weights)
        self._network = network.eval()
        self._mean, self._std = (
            torch.tensor(values, device=device).view(1, 3, 1, 1)
            for values in (mean, std)
        )

    @torch.no_grad()
    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of the classes.

        Args:
            images: float32 (N, 3, S, S), pixels 0..255.

        Returns:
            (N, C), float32 or the autocast type.
        """
        logits: torch.Tensor = self._network((images - self._mean) / self._std)
        return logits


def _model(run: Path) -> str:
    try:
        name: str = json.loads((run / SUMMARY).read_text())["config"]["model"]
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise InputError(f"{run} is not the folder of a finished run ({e})") from e
    return name
