"""The classifier's job: packed cells and first weights in; weights and figures out."""

import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edgecell.data.pack import Pack
from edgecell.errors import InputError
from edgecell.files import write_atomically
from edgecell.train.job.cells import dealt
from edgecell.train.job.config import JobConfig
from edgecell.train.job.files import RESULT, SUMMARY
from edgecell.train.job.judge import SourceFigures, attribute_accuracy, judge
from edgecell.train.job.loss import attribute_loss, partial_label_loss
from edgecell.train.job.network import GRsNet, get_weights, set_weights
from edgecell.train.job.training import Training, device_name, half_kernels
from edgecell.train.job.views import Views
from edgecell.train.networks.network import PRESETS

_JUDGE_BATCH = 256


class Job(Training[GRsNet, dict[str, SourceFigures]]):
    """One run of a GRsNet.

    Attributes:
        config: the settings.
        train: cells to train on.
        val: cells to validate on.
        scheme: the attributes that are trained beside the classes.
        attributes_right: accuracy of each at the last validation.
    """

    def __init__(
        self,
        config: JobConfig,
        pack: Pack,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        device: torch.device,
    ) -> None:
        """
        Args:
            config: the settings.
            pack: cells to train and validate on; those of the test split are not used.
            mean: of the standardised input, by channel, pixel units.
            std: the same.
            device: where to train.

        Raises:
            InputError: no such network, nothing to train or validate on, or shares of
                sources that don't exist.
        """
        if config.model not in PRESETS:
            raise InputError(
                f"no network '{config.model}'; there are {', '.join(PRESETS)}"
            )
        self.config = config
        self.mean, self.std = mean, std
        self.train, self.val = dealt(
            pack, config.exclude, config.shares, config.balance, device
        )
        self.scheme = pack.scheme
        sizes = [len(attribute.values) for attribute in self.scheme]
        torch.manual_seed(config.seed)
        network, averaged = (
            _built(config.model, len(pack.codes), sizes, device) for _ in range(2)
        )
        super().__init__(config, network, averaged, device)
        self.attributes_right: dict[str, float] = {}
        self.views = Views(config.views, pack.prep.input_size, self.generator)
        self._mean = torch.tensor(mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(std, device=device).view(1, 3, 1, 1)

    def set_first_weights(self, weights: Mapping[str, npt.NDArray[Any]]) -> None:
        """Starts from other weights than random ones; see `set_weights`."""
        set_weights(self.network, weights)
        set_weights(self.averaged, weights)

    def train_step(self) -> torch.Tensor:
        """Takes one step; returns the mean loss of its batch, on the device."""
        cfg = self.config
        self.begin_step()
        chosen = torch.multinomial(
            self.train.weights, cfg.batch_size, True, generator=self.generator
        )
        with torch.no_grad():
            x = (self.views(self.train.images[chosen]) - self._mean) / self._std
        with self.autocast():
            pooled = self.network.pooled(x)
            logits = self.network.head(pooled)
        sets = self.train.sets[chosen]
        loss = partial_label_loss(logits.float(), sets, cfg.smoothing).mean()
        if self.network.attributes is not None:
            with self.autocast():
                told = self.network.attributes(pooled)
            known = self.train.attributes[chosen]
            each = attribute_loss(told.float(), known, self.network.sizes)
            loss = loss + cfg.attribute_weight * each.mean()
        return self.learn(loss)

    def logits(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Logits of the averaged weights.

        Args:
            images: uint8 (N, S, S, 3), cropped to the input size.

        Returns:
            float32 (N, C).
        """
        return self._outputs(images)[0]

    @torch.no_grad()
    def _outputs(
        self, images: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Logits of the averaged weights, and those of the attributes, (N, V)."""
        network = self.averaged.eval()
        parts, told = [], [np.empty((0, sum(network.sizes)), np.float32)]
        for i in range(0, len(images), _JUDGE_BATCH):
            batch = torch.from_numpy(images[i : i + _JUDGE_BATCH]).to(self.device)
            x = (batch.permute(0, 3, 1, 2).float() - self._mean) / self._std
            with self.autocast():
                pooled = network.pooled(x)
                parts.append(network.head(pooled).float().cpu().numpy())
                if network.attributes is not None:
                    told.append(network.attributes(pooled).float().cpu().numpy())
        return np.concatenate(parts), np.concatenate(told)

    def judged(self) -> dict[str, SourceFigures]:
        """Figures of the validation split by source."""
        val = self.val
        logits, told = self._outputs(val.images)
        right = attribute_accuracy(told, val.attributes, self.network.sizes)
        names = (attribute.name for attribute in self.scheme)
        self.attributes_right = dict(zip(names, right, strict=True))
        return judge(logits, val.sets, val.sources)

    def row(self, found: dict[str, SourceFigures]) -> dict[str, float]:
        """Accuracy, that of groups, and loss of each source; and of attributes."""
        return {
            f"{source} {name}": getattr(figures, name)
            for source, figures in found.items()
            for name in ("accuracy", "grouped", "loss")
        } | self.attributes_right

    def line(self, found: dict[str, SourceFigures]) -> str:
        """Accuracy of each source, and of groups."""
        each = ", ".join(
            f"{source} {100 * f.accuracy:.1f} ({100 * f.grouped:.1f})"
            for source, f in found.items()
        )
        return f"accuracy (grouped) %: {each}"

    def write_result(self, out: Path, found: dict[str, SourceFigures]) -> None:
        """Writes weights with validation logits, and a summary."""
        weights = half_kernels(get_weights(self.averaged))
        # Judged as they will be read back.
        set_weights(self.averaged, weights)
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            allow_pickle=False,
            **weights,
            val_logits=self.logits(self.val.images),
            val_sets=self.val.sets,
            val_sources=np.array(self.val.sources),
            val_hashes=np.array(self.val.hashes),
        )
        write_atomically(out / RESULT, buffer.getvalue())
        summary = {
            "config": self.config.to_dict(),
            "mean": self.mean,
            "std": self.std,
            "step": self.step,
            "seconds": self.trained_s,
            "cells": self.step * self.config.batch_size,
            "trained_on": dict(sorted(Counter(self.train.sources).items())),
            "val": {source: f.to_dict() for source, f in found.items()},
            "device": device_name(self.device),
            "torch": torch.__version__,
        }
        write_atomically(out / SUMMARY, json.dumps(summary, indent=1) + "\n")


def _built(
    model: str, classes: int, sizes: Sequence[int], device: torch.device
) -> GRsNet:
    """A network with random weights on the device."""
    network = GRsNet(PRESETS[model], classes, sizes).to(device)
    layout: Any = {"memory_format": torch.channels_last}
    return network.to(**layout)
