"""Runs of the job on the synthetic cells."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from edgecell.data.pack import Pack
from edgecell.train.job.config import JobConfig
from edgecell.train.job.job import Job
from edgecell.train.job.networks.network import get_weights

MEAN, STD = (200.0, 190.0, 210.0), (50.0, 60.0, 40.0)


def job(pack: Pack, config: JobConfig) -> Job:
    return Job(config, pack, MEAN, STD, torch.device("cpu"))


def config(model: str, steps: int = 10) -> JobConfig:
    return JobConfig(model=model, seconds=0, steps=steps, batch_size=24, ema=0.9)


def half_way(pack: Pack, settings: JobConfig, folder: Path) -> tuple[Job, Job]:
    """A run of six steps, and the same one killed and resumed after three."""
    runs = []
    for steps in (6, 3):
        run = job(pack, settings)
        for _ in range(steps):
            run.train_step()
        runs.append(run)
    whole, killed = runs
    killed.save(folder)
    torch.manual_seed(99)
    second = job(pack, settings)
    second.restore(folder)
    assert second.step == 3
    for _ in range(3):
        second.train_step()
    return whole, second


def same(one: Any, other: Any) -> bool:
    """Whether two networks have the same weights."""
    a, b = get_weights(one), get_weights(other)
    return all(np.array_equal(a[k], b[k]) for k in a)
