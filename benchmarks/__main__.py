"""``python -m edgecell.benchmarks``: the measurements behind the figures in docs/."""

import click

from edgecell.cli import LazyGroup

# As in `edgecell.cli`: the help stands here, so that listing imports nothing heavy.
COMMANDS: dict[str, tuple[str, str]] = {
    name.rpartition(".")[2].replace("_", "-"): (f"edgecell.benchmarks.{name}", text)
    for name, text in {
        "attribute_cells": "Draw cells with their attributes in words.",
        "cam_agreement": "Compare the device's maps with TensorFlow's gradients.",
        "slides.counting": "Check that each cell of a slide is counted once.",
        "frame_evaluation": "Red cells and white cells in fields of any size.",
        "lime_speed": "Compare LIME here with the lime package's defaults.",
        "memory": "Peak memory of the loop on frames of 0.3 to 24 megapixels.",
        "networks.job": "Report the test figures of jobs on a GPU.",
        "networks.network_choice": "Speed of the forms that GRsNet can take.",
        "networks.peers": "Parameters and FLOPs of every network.",
        "schemes": "Accuracy and speed of every way to convert.",
        "networks.training_cost": "Time that the input pipeline adds to a training "
        "step.",
        "slides.make_mosaic": "Film a slide whose cells are known.",
        "slides.make_samples": "Make the bundled samples.",
        "stage.scanning": "Scan 400 known cells with a simulated microscope.",
    }.items()
} | {
    "page": (
        "edgecell.benchmarks.page.measure",
        "Processor time and memory of the page and its viewers.",
    ),
    "microscopes": (
        "edgecell.benchmarks.microscopes.measure",
        "Accuracy on microscopes that the model knows, and on others.",
    ),
    "archive": (
        "edgecell.benchmarks.speed.archive",
        "Images per second of an archive, with one worker and with more.",
    ),
    "start": (
        "edgecell.benchmarks.speed.start",
        "Time to show the help, and to a run's first result.",
    ),
}


@click.group("benchmarks", cls=LazyGroup, lazy=COMMANDS)
def cli() -> None:
    """Measure again what the documentation states, or make its inputs.

    Each command says what it takes: python -m edgecell.benchmarks NAME --help
    """


if __name__ == "__main__":
    cli(prog_name="python -m edgecell.benchmarks")
