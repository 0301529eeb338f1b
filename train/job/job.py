"""The job: packed cells and first weights in; averaged weights and figures out."""

import csv
import io
import json
import logging
import math
import platform
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from edgecell.data.pack import Pack
from edgecell.errors import InputError
from edgecell.files import write_atomically
from edgecell.train.job.cells import dealt
from edgecell.train.job.config import JobConfig
from edgecell.train.job.files import CHECKPOINT, HISTORY, RESULT, SUMMARY
from edgecell.train.job.judge import SourceFigures, attribute_accuracy, judge
from edgecell.train.job.loss import attribute_loss, partial_label_loss
from edgecell.train.job.network import GRsNet, Weights, get_weights, set_weights
from edgecell.train.job.views import Views
from edgecell.train.networks.network import PRESETS

logger = logging.getLogger(__name__)

# Early averages forget the first weights fast, as `Trainer` does.
_EMA_START = 10.0
_JUDGE_BATCH = 256


def rate_at(progress: float, highest: float, warmup: float) -> float:
    """Learning rate at a share of the run: a line up, then a cosine to 0.

    Args:
        progress: share of the run that is over, 0..1.
        highest: the highest rate.
        warmup: share of the run that the rise takes.
    """
    if progress < warmup:
        return highest * progress / warmup
    rest = min(1.0, (progress - warmup) / (1 - warmup))
    return highest * 0.5 * (1 + math.cos(math.pi * rest))


class Job:
    """One run: a network in training, its averaged weights and where it stands.

    Attributes:
        config: the settings.
        train: cells to train on.
        val: cells to validate on.
        scheme: the attributes that are trained beside the classes.
        network: the network in training.
        averaged: exponential moving average of its weights and statistics.
        step: batches seen.
        trained_s: seconds of training so far, validation included.
        history: one row a validation.
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
        self.config, self.device = config, device
        self.mean, self.std = mean, std
        self.train, self.val = dealt(
            pack, config.exclude, config.shares, config.balance, device
        )
        self.scheme = pack.scheme
        torch.manual_seed(config.seed)
        self.network, self.averaged = (
            self._built(len(pack.codes)),
            self._built(len(pack.codes)).eval(),
        )
        self.optimizer = self._optimizer()
        self.generator = torch.Generator(device).manual_seed(config.seed)
        self.views = Views(config.views, pack.prep.input_size, self.generator)
        self._mean = torch.tensor(mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(std, device=device).view(1, 3, 1, 1)
        self.step = 0
        self.trained_s = 0.0
        self.history: list[dict[str, Any]] = []

    def _built(self, classes: int) -> GRsNet:
        """A network with random weights on the device."""
        sizes = [len(a.values) for a in self.scheme]
        network = GRsNet(PRESETS[self.config.model], classes, sizes).to(self.device)
        layout: Any = {"memory_format": torch.channels_last}
        return network.to(**layout)

    def _optimizer(self) -> torch.optim.AdamW:
        """AdamW; biases and normalisations have no reason to be small."""
        decays = {True: self.config.weight_decay, False: 0.0}
        groups = [
            {
                "params": [
                    p for p in self.network.parameters() if (p.ndim > 1) == kernel
                ],
                "weight_decay": decay,
            }
            for kernel, decay in decays.items()
        ]
        return torch.optim.AdamW(groups, lr=self.config.learning_rate, fused=True)

    def set_first_weights(self, weights: Mapping[str, npt.NDArray[Any]]) -> None:
        """Starts from other weights than random ones; see `set_weights`."""
        set_weights(self.network, weights)
        set_weights(self.averaged, weights)

    @property
    def progress(self) -> float:
        """Share of the run that is over, by the limit that is nearer: 0..1."""
        by_time = self.trained_s / self.config.seconds if self.config.seconds else 0.0
        by_steps = self.step / self.config.steps if self.config.steps else 0.0
        return min(1.0, max(by_time, by_steps))

    def _autocast(self) -> torch.autocast:
        kind, on = self.device.type, self.config.bf16
        return torch.autocast(kind, torch.bfloat16, enabled=on)

    def train_step(self) -> torch.Tensor:
        """Takes one step; returns the mean loss of its batch, on the device."""
        cfg = self.config
        rate = rate_at(self.progress, cfg.learning_rate, cfg.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.network.train()
        chosen = torch.multinomial(
            self.train.weights, cfg.batch_size, True, generator=self.generator
        )
        with torch.no_grad():
            x = (self.views(self.train.images[chosen]) - self._mean) / self._std
        with self._autocast():
            pooled = self.network.pooled(x)
            logits = self.network.head(pooled)
        sets = self.train.sets[chosen]
        loss = partial_label_loss(logits.float(), sets, cfg.smoothing).mean()
        if self.network.attributes is not None:
            with self._autocast():
                told = self.network.attributes(pooled)
            known = self.train.attributes[chosen]
            each = attribute_loss(told.float(), known, self.network.sizes)
            loss = loss + cfg.attribute_weight * each.mean()
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), cfg.clip)
        self.optimizer.step()
        self._average()
        self.step += 1
        return loss.detach()

    @torch.no_grad()
    def _average(self) -> None:
        keep = min(self.config.ema, (1 + self.step) / (_EMA_START + self.step))
        pairs = zip(
            (*self.averaged.parameters(), *self.averaged.buffers()),
            (*self.network.parameters(), *self.network.buffers()),
            strict=True,
        )
        real = [(a, b) for a, b in pairs if a.is_floating_point()]
        averages, values = [a for a, _ in real], [b for _, b in real]
        torch._foreach_lerp_(averages, values, 1 - keep)

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
            with self._autocast():
                pooled = network.pooled(x)
                parts.append(network.head(pooled).float().cpu().numpy())
                if network.attributes is not None:
                    told.append(network.attributes(pooled).float().cpu().numpy())
        return np.concatenate(parts), np.concatenate(told)

    def validate(self, loss: float) -> dict[str, SourceFigures]:
        """Judges the averaged weights, adds a row to the history.

        Args:
            loss: mean training loss since the last time.

        Returns:
            Figures of the validation split by source.
        """
        val = self.val
        logits, told = self._outputs(val.images)
        found = judge(logits, val.sets, val.sources)
        row: dict[str, Any] = {
            "step": self.step,
            "seconds": round(self.trained_s, 1),
            "cells": self.step * self.config.batch_size,
            "rate": self.optimizer.param_groups[0]["lr"],
            "loss": round(loss, 4),
        }
        for source, figures in found.items():
            row[f"{source} accuracy"] = round(figures.accuracy, 4)
            row[f"{source} grouped"] = round(figures.grouped, 4)
            row[f"{source} loss"] = round(figures.loss, 4)
        right = attribute_accuracy(told, val.attributes, self.network.sizes)
        for attribute, accuracy in zip(self.scheme, right, strict=True):
            row[attribute.name] = round(accuracy, 4)
        self.history.append(row)
        return found

    def save(self, out: Path) -> None:
        """Writes a checkpoint, whole or not at all."""
        state = {
            "config": self.config.to_dict(),
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "dropout": torch.get_rng_state(),
            "step": self.step,
            "trained_s": self.trained_s,
            "history": self.history,
        }
        if self.device.type == "cuda":
            state["cuda_dropout"] = torch.cuda.get_rng_state(self.device)
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_atomically(out / CHECKPOINT, buffer.getvalue())

    def restore(self, out: Path) -> None:
        """Goes on from the checkpoint in a folder.

        Raises:
            InputError: there is none, or it is another job's.
        """
        path = out / CHECKPOINT
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.averaged.load_state_dict(state["averaged"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.generator.set_state(state["generator"].cpu())
            torch.set_rng_state(state["dropout"].cpu())
            if "cuda_dropout" in state and self.device.type == "cuda":
                torch.cuda.set_rng_state(state["cuda_dropout"].cpu(), self.device)
            self.step, self.trained_s = state["step"], state["trained_s"]
            self.history = state["history"]
        except (OSError, RuntimeError, KeyError, ValueError) as e:
            raise InputError(f"{path} is not a checkpoint of this job ({e})") from e

    def run(self, out: Path) -> dict[str, SourceFigures]:
        """Trains until a limit is reached, and writes what came out.

        Args:
            out: folder of the run.

        Returns:
            Figures of the validation split by source.
        """
        began, before = time.monotonic(), self.trained_s
        saved = validated = began
        total = torch.zeros((), device=self.device)
        seen = 0
        with tqdm(total=100, unit="%", disable=None, leave=False) as bar:
            while self.progress < 1:
                total += self.train_step()
                seen += 1
                now = time.monotonic()
                self.trained_s = before + now - began
                bar.update(100 * self.progress - bar.n)
                if now - validated >= self.config.validate_s and self.progress < 1:
                    self._report(self.validate(float(total) / seen))
                    self._write_history(out)
                    total.zero_()
                    seen, validated = 0, time.monotonic()
                if now - saved >= self.config.checkpoint_s:
                    self.save(out)
                    saved = time.monotonic()
        found = self.validate(float(total) / max(seen, 1))
        self._report(found)
        self._write_history(out)
        self.save(out)
        self._write_result(out, found)
        return found

    def _report(self, found: Mapping[str, SourceFigures]) -> None:
        each = ", ".join(
            f"{source} {100 * f.accuracy:.1f} ({100 * f.grouped:.1f})"
            for source, f in found.items()
        )
        row = self.history[-1]
        logger.info(
            "%3.0f %%, step %d, %.0f cells/s, loss %.3f; accuracy (grouped) %%: %s",
            100 * self.progress,
            self.step,
            row["cells"] / max(self.trained_s, 1e-9),
            row["loss"],
            each,
        )

    def _write_history(self, out: Path) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.history)
        write_atomically(out / HISTORY, text.getvalue())

    def _write_result(self, out: Path, found: Mapping[str, SourceFigures]) -> None:
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


def half_kernels(weights: Weights) -> Weights:
    """Kernels in float16; the few other weights stay float32."""
    return {
        name: w.astype(np.float16) if name.endswith("kernel") else w
        for name, w in weights.items()
    }


def device_name(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
