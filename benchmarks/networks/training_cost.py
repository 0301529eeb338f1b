"""What the input pipeline costs beside the bare training step.

    python -m edgecell.benchmarks training-cost benchmarks/results/training-cost.json

Random images at the size of training; epochs of 15 steps of 32, after one to warm up,
with and without the pipeline by turns: the fastest of each was disturbed least.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np

from edgecell.benchmarks.latency import this_machine
from edgecell.cli import OutputFile, PoliteCommand
from edgecell.files import write_atomically
from edgecell.image.preprocess import Preprocessing
from edgecell.optional import require
from edgecell.train.config import TrainConfig
from edgecell.train.trainer import Trainer

STEPS, ROUNDS = 15, 5
PREP = Preprocessing(112, 0.66, 3.0, 95.0, 240.0, (128.0,) * 3, (64.0,) * 3)


@dataclass(frozen=True)
class TrainingCost:
    """Time of a training step at one view size.

    Attributes:
        view_size: side of the views, pixels.
        bare_ms: a step on a batch that is there already.
        whole_ms: a step with drawing, augmenting and handing over its batch.
        pipeline_share: (whole - bare) / bare.
        images_per_second: of the whole.
    """

    view_size: int
    bare_ms: float
    whole_ms: float
    pipeline_share: float
    images_per_second: float


def measure(view_size: int) -> TrainingCost:
    """Measures the default network with the default recipe."""
    small = 9 if view_size < PREP.input_size else 0
    cfg = TrainConfig(epochs=9, small_epochs=small, small_size=view_size)
    n = STEPS * cfg.batch_size
    rng = np.random.default_rng(0)
    side = round(PREP.input_size * cfg.margin)
    images = rng.integers(0, 256, (n, side, side, 3), np.uint8)
    sets = np.eye(12, dtype=bool)[rng.integers(0, 12, n)]
    tf = require("tensorflow", "train")
    trainer = Trainer(cfg, PREP, sets, tf.distribute.get_strategy())
    trainer.run_epoch(images, sets)
    batch = next(iter(trainer.batches(images, sets, 0)))

    def bare_steps() -> None:
        for _ in range(STEPS):
            loss, _ = trainer.step(*batch)
            float(loss)

    def seconds(work: Callable[[], object]) -> float:
        start = time.perf_counter()
        work()
        return (time.perf_counter() - start) / STEPS

    rounds = [
        (seconds(bare_steps), seconds(lambda: trainer.run_epoch(images, sets)))
        for _ in range(ROUNDS)
    ]
    bare, whole = (min(times) for times in zip(*rounds, strict=True))
    return TrainingCost(
        view_size,
        round(1e3 * bare, 1),
        round(1e3 * whole, 1),
        round(whole / bare - 1, 4),
        round(cfg.batch_size / whole, 1),
    )


@click.command("training-cost", cls=PoliteCommand, no_args_is_help=True)
@click.argument("out", type=OutputFile("JSON"))
def command(out: Path) -> None:
    """Time a training step with and without the input pipeline.

    Writes OUT, a JSON file.
    """
    rows = [asdict(measure(size)) for size in (80, 112)]
    machine = asdict(this_machine())
    result = {"machine": machine, "steps": STEPS, "rounds": ROUNDS, "rows": rows}
    write_atomically(out, json.dumps(result, indent=1) + "\n")
    for row in rows:
        click.echo(
            f"{row['view_size']} px: bare step {row['bare_ms']} ms, with the input "
            f"pipeline {row['whole_ms']} ms ({row['pipeline_share']:+.1%}), "
            f"{row['images_per_second']} images/s"
        )


if __name__ == "__main__":
    command()
