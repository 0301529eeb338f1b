"""What every job is: a time budget, averaged weights, checkpoints and a history."""

import csv
import io
import logging
import math
import platform
import time
from abc import ABC, abstractmethod
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from edgecell.errors import InputError
from edgecell.files import write_atomically
from edgecell.train.job.config import RunConfig
from edgecell.train.job.files import CHECKPOINT, HISTORY
from edgecell.train.job.networks.network import Weights

logger = logging.getLogger(__name__)

# Early averages forget the first weights fast, as `Trainer` does.
_EMA_START = 10.0

N = TypeVar("N", bound=nn.Module)
"""The network."""

F = TypeVar("F")
"""What a validation finds."""


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


class Learner(Generic[N]):
    """A network that learns by AdamW.

    Attributes:
        network: the network in training.
        averaged: exponential moving average of its weights and statistics.
    """

    def __init__(self, settings: RunConfig, network: N, averaged: N) -> None:
        """
        Args:
            settings: limits and rates.
            network: to train, on the device.
            averaged: one like it.
        """
        self.settings, self.network, self.averaged = settings, network, averaged.eval()
        self.averaged.load_state_dict(network.state_dict())
        # Biases and normalisations have no reason to be small.
        decays = {True: settings.weight_decay, False: 0.0}
        groups = [
            {
                "params": [p for p in network.parameters() if (p.ndim > 1) == kernel],
                "weight_decay": decay,
            }
            for kernel, decay in decays.items()
        ]
        self._optimizer = torch.optim.AdamW(
            groups, lr=settings.learning_rate, fused=True
        )

    def learn(self, loss: torch.Tensor, rate: float, step: int) -> None:
        """Moves the weights against a loss, and their averages after them.

        Args:
            loss: of a batch.
            rate: learning rate.
            step: batches seen before.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip)
        self._optimizer.step()
        self._average(min(self.settings.ema, (1 + step) / (_EMA_START + step)))

    @torch.no_grad()
    def _average(self, keep: float) -> None:
        pairs = zip(
            (*self.averaged.parameters(), *self.averaged.buffers()),
            (*self.network.parameters(), *self.network.buffers()),
            strict=True,
        )
        real = [(a, b) for a, b in pairs if a.is_floating_point()]
        averages, values = [a for a, _ in real], [b for _, b in real]
        torch._foreach_lerp_(averages, values, 1 - keep)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return {
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Inverse of `state`."""
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        self._optimizer.load_state_dict(state["optimizer"])


class Training(ABC, Generic[N, F]):
    """One run: a network in training, its averaged weights and where it stands.

    Attributes:
        settings: limits and rates.
        device: where it trains.
        learner: the network in training, and its averaged weights.
        step: batches seen.
        trained_s: seconds of training so far, validation included.
        history: one row a validation.
    """

    def __init__(
        self, settings: RunConfig, network: N, averaged: N, device: torch.device
    ) -> None:
        """
        Args:
            settings: limits and rates.
            network: to train, on the device.
            averaged: one like it.
            device: where to train.
        """
        self.settings, self.device = settings, device
        self.learner = Learner(settings, network, averaged)
        self.generator = torch.Generator(device).manual_seed(settings.seed)
        self.step = 0
        self.trained_s = 0.0
        self.history: list[dict[str, Any]] = []

    @abstractmethod
    def train_step(self) -> torch.Tensor:
        """Takes one step; returns the mean loss of its batch, on the device."""

    @abstractmethod
    def judged(self) -> F:
        """Figures of the averaged weights on the validation split."""

    @abstractmethod
    def row(self, found: F) -> dict[str, float]:
        """Figures as columns of the history."""

    @abstractmethod
    def line(self, found: F) -> str:
        """Figures in a line for people."""

    @abstractmethod
    def write_result(self, out: Path, found: F) -> None:
        """Writes the averaged weights and their figures into the run's folder."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds besides what every job has."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Inverse of `state`."""

    @property
    def network(self) -> N:
        """The network in training."""
        return self.learner.network

    @property
    def averaged(self) -> N:
        """Its averaged weights."""
        return self.learner.averaged

    @property
    def progress(self) -> float:
        """Share of the run that is over, by the limit that is nearer: 0..1."""
        by_time = (
            self.trained_s / self.settings.seconds if self.settings.seconds else 0.0
        )
        by_steps = self.step / self.settings.steps if self.settings.steps else 0.0
        return min(1.0, max(by_time, by_steps))

    def autocast(self) -> torch.autocast:
        kind, on = self.device.type, self.settings.bf16
        return torch.autocast(kind, torch.bfloat16, enabled=on)

    @property
    def rate(self) -> float:
        """Learning rate of the next step."""
        cfg = self.settings
        return rate_at(self.progress, cfg.learning_rate, cfg.warmup)

    def learn(self, loss: torch.Tensor) -> torch.Tensor:
        """Ends a step: moves the weights against its loss, which is returned."""
        self.learner.learn(loss, self.rate, self.step)
        self.step += 1
        return loss.detach()

    def validate(self, loss: float) -> F:
        """Judges the averaged weights, and adds a row to the history.

        Args:
            loss: mean training loss since the last time.
        """
        found = self.judged()
        row: dict[str, Any] = {
            "step": self.step,
            "seconds": round(self.trained_s, 1),
            "images": self.step * self.settings.batch_size,
            "rate": self.rate,
            "loss": round(loss, 4),
        }
        figures = {name: round(value, 4) for name, value in self.row(found).items()}
        self.history.append(row | figures)
        logger.info(
            "%3.0f %%, step %d, %.0f images/s, loss %.3f; %s",
            100 * self.progress,
            self.step,
            row["images"] / max(self.trained_s, 1e-9),
            loss,
            self.line(found),
        )
        return found

    def save(self, out: Path) -> None:
        """Writes a checkpoint, whole or not at all."""
        state = {
            "config": self.settings.to_dict(),
            **self.learner.state(),
            "generator": self.generator.get_state(),
            "dropout": torch.get_rng_state(),
            "step": self.step,
            "trained_s": self.trained_s,
            "history": self.history,
            "own": self.state(),
        }
        if self.device.type == "cuda":
            state["cuda_dropout"] = torch.cuda.get_rng_state(self.device)
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_atomically(out / CHECKPOINT, buffer.getvalue())

    def restore(self, out: Path) -> None:
        """Resumes from the checkpoint in a folder.

        Raises:
            InputError: there is none, or it is another job's.
        """
        path = out / CHECKPOINT
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            self.learner.set_state(state)
            self.generator.set_state(state["generator"].cpu())
            torch.set_rng_state(state["dropout"].cpu())
            if "cuda_dropout" in state and self.device.type == "cuda":
                torch.cuda.set_rng_state(state["cuda_dropout"].cpu(), self.device)
            self.step, self.trained_s = state["step"], state["trained_s"]
            self.history = state["history"]
            self.set_state(state.get("own", {}))
        except (
            OSError,
            EOFError,
            RuntimeError,
            KeyError,
            ValueError,
            UnpicklingError,
        ) as e:
            raise InputError(f"{path} is not a checkpoint of this job ({e})") from e

    def run(self, out: Path) -> F:
        """Trains until a limit is reached, and writes the result.

        Args:
            out: folder of the run.

        Returns:
            Figures of the validation split.
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
                if now - validated >= self.settings.validate_s and self.progress < 1:
                    self.validate(float(total) / seen)
                    self._write_history(out)
                    total.zero_()
                    seen, validated = 0, time.monotonic()
                if now - saved >= self.settings.checkpoint_s:
                    self.save(out)
                    saved = time.monotonic()
        if seen or not self.history:
            found = self.validate(float(total) / max(seen, 1))
        else:  # killed before the result was written
            found = self.judged()
        self._write_history(out)
        self.save(out)
        self.write_result(out, found)
        return found

    def _write_history(self, out: Path) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.history)
        write_atomically(out / HISTORY, text.getvalue())


def half_kernels(weights: Weights) -> Weights:
    """Kernels in float16; the few other weights stay float32."""
    return {
        name: w.astype(np.float16) if w.ndim > 1 else w for name, w in weights.items()
    }


def device_name(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
