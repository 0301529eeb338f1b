"""The classifier's job: packed cells and first weights in; weights and figures out."""

import io
import json
from collections import Counter
from collections.abc import Mapping
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
from edgecell.train.job.fold import folded
from edgecell.train.job.judge import SourceFigures, attribute_accuracy, judge
from edgecell.train.job.loss import (
    attribute_loss,
    partial_label_loss,
    teacher_loss,
    together,
)
from edgecell.train.job.networks.finished import (
    FinishedNetwork,
    built,
    kept,
    put_back,
)
from edgecell.train.job.networks.network import Classifier, GRsNet
from edgecell.train.job.networks.peers import Peer, set_peer_weights
from edgecell.train.job.styles import mix_styles
from edgecell.train.job.training import Learner, Training, device_name
from edgecell.train.job.views import Views
from edgecell.train.networks.imagenet import STEM, for_inputs
from edgecell.train.networks.models import check_name

_JUDGE_BATCH = 256
_TRUSTED = 0.1
"""Share of the run in which a network comes to follow its teachers: one learns, too."""


class Job(Training[Classifier, dict[str, SourceFigures]]):
    """One run of a classifier.

    Attributes:
        config: the settings.
        train: cells to train on.
        val: cells to validate on.
        test: cells that the result is judged by once, at the end; may be none.
        teacher: the network that learns beside it and teaches it; None without.
        finished: networks that teach it and learn no more.
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
            pack: cells to train and validate on; those of the test split are looked at
                once, when the result is written.
            mean: of the standardised input, by channel, pixel units.
            std: the same.
            device: where to train.

        Raises:
            InputError: no such network, nothing to train or validate on, or shares of
                sources that don't exist.
        """
        for name in filter(None, (config.model, config.teacher)):
            check_name(name)
        self.config = config
        self.mean, self.std = mean, std
        if config.fold:
            pack = folded(pack, config.fold)
        self.train, self.val, self.test = dealt(
            pack, config.exclude, config.shares, config.balance, device
        )
        self.scheme = pack.scheme
        sizes = [len(attribute.values) for attribute in self.scheme]
        side, classes = pack.prep.input_size, len(pack.codes)
        torch.manual_seed(config.seed)
        network, averaged = (
            built(config.model, side, classes, sizes, device) for _ in range(2)
        )
        super().__init__(config, network, averaged, device)
        if config.style:
            if not isinstance(network, GRsNet):
                raise InputError(f"{config.model} mixes no styles; a GRsNet does")
            mix_styles(network, config.style, self.generator)
        if config.frozen:
            for layer in network.modules():
                if isinstance(layer, torch.nn.BatchNorm2d):
                    layer.eval()
        self.teacher: Learner[Classifier] | None = None
        if config.teacher:
            pair = (built(config.teacher, side, classes, (), device) for _ in range(2))
            self.teacher = Learner(config, *pair)
        self.finished = [
            FinishedNetwork(Path(run), side, classes, device) for run in config.finished
        ]
        self.attributes_right: dict[str, float] = {}
        self.views = Views(config.views, side, self.generator)
        self._mean = torch.tensor(mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(std, device=device).view(1, 3, 1, 1)

    def set_first_weights(self, weights: Mapping[str, npt.NDArray[Any]]) -> None:
        """Starts from other weights than random ones.

        Args:
            weights: what a run kept, see `kept`; or ImageNet's for EfficientNet-Lite0.

        Raises:
            InputError: they are another network's.
        """
        if STEM in weights:
            self._set_imagenet(self.learner, weights)
            return
        for network in (self.network, self.averaged):
            put_back(network, weights)

    def set_teacher_weights(self, weights: Mapping[str, npt.NDArray[Any]]) -> None:
        """Starts the teacher that learns from ImageNet's weights.

        Raises:
            InputError: there is no such teacher, or they are another network's.
        """
        if self.teacher is None:
            raise InputError(
                "first weights of a teacher are given, but none that learns"
            )
        self._set_imagenet(self.teacher, weights)

    def _set_imagenet(
        self, learner: Learner[Classifier], weights: Mapping[str, npt.NDArray[Any]]
    ) -> None:
        try:
            own = for_inputs(weights, self.mean, self.std)
        except KeyError as e:
            raise InputError("the first weights are another network's") from e
        for network in (learner.network, learner.averaged):
            if not isinstance(network, Peer):
                raise InputError("ImageNet's first weights are EfficientNet-Lite0's")
            set_peer_weights(network, own)

    def train_step(self) -> torch.Tensor:
        """Takes one step; returns the mean loss of its batch, on the device."""
        cfg = self.config
        chosen = torch.multinomial(
            self.train.weights, cfg.batch_size, True, generator=self.generator
        )
        with torch.no_grad():
            images = self.views(self.train.images[chosen])
            x = (images - self._mean) / self._std
        sets = self.train.sets[chosen]
        with self.autocast():
            logits, told = self.network.outputs(x)
        loss = partial_label_loss(logits.float(), sets, cfg.smoothing).mean()
        if self.teacher or self.finished:
            share = cfg.teacher_weight * min(1.0, self.progress / _TRUSTED)
            followed = teacher_loss(logits.float(), self._taught(images, x)).mean()
            loss = (1 - share) * loss + share * followed
        if self.teacher:
            self._teach(self.teacher, x, sets)
        if self.network.attributes is not None:
            values = self.train.attributes[chosen]
            each = attribute_loss(told.float(), values, self.network.sizes)
            loss = loss + cfg.attribute_weight * each.mean()
        return self.learn(loss)

    @torch.no_grad()
    def _taught(self, images: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Logits of all teachers together, float32 (N, C); see `together`.

        Args:
            images: float32 (N, 3, S, S), pixels 0..255.
            x: the same, standardised for the network that learns.
        """
        with self.autocast():
            each = [network.logits(images) for network in self.finished]
            if self.teacher:
                each.append(self.teacher.averaged(x))
        return together(each)

    def _teach(
        self, teacher: Learner[Classifier], x: torch.Tensor, sets: torch.Tensor
    ) -> None:
        """The teacher learns a batch by its labels."""
        with self.autocast():
            logits, _ = teacher.network.outputs(x)
        loss = partial_label_loss(logits.float(), sets, self.config.smoothing).mean()
        teacher.learn(loss, self.rate, self.step)

    def state(self) -> dict[str, Any]:
        """The teacher's."""
        return {"teacher": self.teacher.state()} if self.teacher else {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Inverse of `state`."""
        if self.teacher:
            self.teacher.set_state(state["teacher"])

    @torch.no_grad()
    def predicted(
        self, images: npt.NDArray[np.uint8], network: Classifier | None = None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Logits of the classes and of the attributes.

        Args:
            images: uint8 (N, S, S, 3), cropped to the input size.
            network: whose; the averaged weights' by default.

        Returns:
            float32 (N, C) and (N, V).
        """
        network = (network or self.averaged).eval()
        parts = []
        for i in range(0, max(1, len(images)), _JUDGE_BATCH):
            batch = torch.from_numpy(images[i : i + _JUDGE_BATCH]).to(self.device)
            x = (batch.permute(0, 3, 1, 2).float() - self._mean) / self._std
            with self.autocast():
                found = network.outputs(x)
            parts.append([values.float().cpu().numpy() for values in found])
        logits, told = (np.concatenate(part) for part in zip(*parts, strict=True))
        return logits, told

    def judged(self) -> dict[str, SourceFigures]:
        """Figures of the validation split by source."""
        val = self.val
        logits, told = self.predicted(val.images)
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
        """Writes weights with the judged cells' logits, and a summary.

        Weights that would take more than 16 MB are not written; their figures are what
        such networks are trained for.
        """
        weights = kept(self.averaged)
        if weights:
            # Judged as they will be read back.
            put_back(self.averaged, weights)
        arrays: dict[str, npt.NDArray[Any]] = {}
        for split, cells in (("val", self.val), ("test", self.test)):
            arrays |= {
                f"{split}_logits": self.predicted(cells.images)[0],
                f"{split}_sets": cells.sets,
                f"{split}_sources": np.array(cells.sources, str),
                f"{split}_hashes": np.array(cells.hashes, str),
            }
            if self.teacher:
                taught, _ = self.predicted(cells.images, self.teacher.averaged)
                arrays[f"{split}_teacher_logits"] = taught
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **weights, **arrays)
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
