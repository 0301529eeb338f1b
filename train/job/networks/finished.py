"""Networks of finished runs, which teach others."""

import json
from pathlib import Path
from typing import Any

import torch

from edgecell.errors import InputError
from edgecell.train.job.files import SUMMARY, read_first
from edgecell.train.job.networks.network import GRsNet, set_weights
from edgecell.train.networks.network import PRESETS


class FinishedNetwork:
    """The GRsNet that a run ended with; it learns no more."""

    def __init__(self, run: Path, classes: int, device: torch.device) -> None:
        """
        Args:
            run: folder of the run.
            classes: number of them that the logits must have.
            device: where to compute.

        Raises:
            InputError: it is not the folder of a finished run of a GRsNet, or its
                classes are others.
        """
        weights, mean, std = read_first(run)
        model = _model(run)
        if model not in PRESETS:
            raise InputError(f"{run} holds no GRsNet but {model}, which can't teach")
        network = GRsNet(PRESETS[model], classes)
        own = {k: w for k, w in weights.items() if not k.startswith("attributes.")}
        set_weights(network, own)
        layout: Any = {"memory_format": torch.channels_last}
        self._network = network.to(device).to(**layout).eval()
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
        return self._network((images - self._mean) / self._std)


def _model(run: Path) -> str:
    try:
        name: str = json.loads((run / SUMMARY).read_text())["config"]["model"]
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise InputError(f"{run} is not the folder of a finished run ({e})") from e
    return name
