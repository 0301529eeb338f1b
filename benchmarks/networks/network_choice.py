"""Speed of the forms that GRsNet can take at the paper's size.

    python -m edgecell.benchmarks network-choice benchmarks/results/network-choice.csv

The paper leaves kernel and expansion open. Each form here has its 4.82 M parameters
and 1.80 GFLOPs within a few per cent; what differs is how fast it trains and runs.
"""

import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import click
import numpy as np

from edgecell.benchmarks.latency import this_machine
from edgecell.cli import OutputFile, PoliteCommand
from edgecell.convert.export import QuantScheme, exported, to_tflite
from edgecell.files import csv_text, write_atomically
from edgecell.model.kerasfile import deployed
from edgecell.model.runtime import open_interpreter
from edgecell.optional import require
from edgecell.train.networks.cost import count
from edgecell.train.networks.network import PRESETS, NetworkSpec, StageSpec, build

BATCH = 16
STEPS = 4
RUNS = 20

GHOSTNET_FORM = replace(
    PRESETS["grsnet"],
    name="grsnet-1x1-expansion-3.6",
    stem_width=64,
    stem_kernel=7,
    stages=tuple(
        StageSpec(*row) for row in ((3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2))
    ),
    kernel=1,
    expansion=3.6,
)
FORMS = (GHOSTNET_FORM, PRESETS["grsnet"], PRESETS["grsnet-lite"])


def training_rate(spec: NetworkSpec) -> float:
    """Images a second in bare training steps of 16 at 112x112, median of 4."""
    import keras
    import tensorflow as tf

    model, optimizer = build(spec), keras.optimizers.AdamW(1e-3)
    x = tf.random.normal((BATCH, 112, 112, 3))
    y = tf.zeros((BATCH,), tf.int32)

    def train() -> None:
        with tf.GradientTape() as tape:
            logits = model(x, training=True)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(loss, variables), variables)

    step = tf.function(train)
    step()
    seconds = []
    for _ in range(STEPS):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return BATCH / median(seconds)


def inference_ms(spec: NetworkSpec) -> float:
    """Median milliseconds of one float32 inference on one thread of LiteRT."""
    with exported(deployed(build(spec))) as saved:
        flatbuffer = to_tflite(saved, QuantScheme("float32"))
    interpreter, _, _ = open_interpreter(flatbuffer, threads=1)
    index = interpreter.get_input_details()[0]["index"]
    interpreter.set_tensor(index, np.zeros((1, 112, 112, 3), np.float32))
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        interpreter.invoke()
        seconds.append(time.perf_counter() - start)
    return 1e3 * median(seconds)


@click.command("network-choice", cls=PoliteCommand, no_args_is_help=True)
@click.argument("out", type=OutputFile("CSV"))
def command(out: Path) -> None:
    """Time the forms that GRsNet can take at the paper's size.

    Writes OUT, a CSV file with a row for each form.
    """
    require("tensorflow", "train")
    columns = ("form", "parameters", "flops", "training_images_per_s", "inference_ms")
    rows = []
    machine = this_machine().model
    for spec in FORMS:
        cost = count(build(spec))
        rate, ms = training_rate(spec), inference_ms(spec)
        rows.append(
            (
                spec.name,
                cost.parameters,
                cost.flops,
                f"{rate:.1f}",
                f"{ms:.1f}",
                machine,
            )
        )
    write_atomically(out, csv_text((*columns, "on"), rows))


if __name__ == "__main__":
    command()
