"""LIME here against the lime package's defaults, on the same model and cells.

    python -m edgecell.benchmarks lime-speed MODEL OUT.csv CELLS_PER_CLASS DATA...

On the test split, each cell under five seeds. Both explain the class that the model
names and call the model through the same function, which uses all cores; `lime` has 10
images to a call by default. Its own segmentation differs from seed to seed, which no
index over segments could compare, so it is drawn once a cell.
"""

import os
import time
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from edgecell.benchmarks.latency import this_machine
from edgecell.cli import OutputFile, PoliteCommand
from edgecell.data.dataset import load_images, sample, scan
from edgecell.explain.lime_method import (
    STRENGTH,
    TOP,
    Bools,
    Floats,
    distances,
    fit,
    jaccard,
    kernel,
    observe,
    stability,
    top_segments,
)
from edgecell.explain.perturb import Hider
from edgecell.explain.segments import cell_segments
from edgecell.files import csv_text, write_atomically
from edgecell.image.preprocess import Rgb
from edgecell.model.classifier import Classifier
from edgecell.model.probabilities import softmax
from edgecell.optional import require

SEEDS = 5
_HELD_OUT = 200
"""Fresh perturbations of each method's own kind, on which its model is tried."""


@dataclass(frozen=True)
class Run:
    """One explanation of one cell.

    Attributes:
        cell: file of the cell.
        code: its class.
        method: 'edgecell' or 'lime'.
        seed: of the run.
        seconds: from the image to the weights.
        evaluations: of the model.
        segments: features of the linear model.
        r2: weighted R2 on the perturbations that it was fitted to, as lime reports it.
        r2_held_out: the same on fresh ones.
        stability: what the run itself says of its top 5; None for lime.
        jaccard: mean Jaccard index of the top 5 over all pairs of the cell's seeds.
    """

    cell: str
    code: str
    method: str
    seed: int
    seconds: float
    evaluations: int
    segments: int
    r2: float
    r2_held_out: float
    stability: float | None
    jaccard: float


def weighted_r2(
    weights: Floats, intercept: float, kept: Bools, values: Floats
) -> float:
    """R2 of a linear model under LIME's weights of the samples."""
    w = kernel(distances(kept))
    rest = values - (kept @ weights + intercept)
    spread = values - np.average(values, weights=w)
    return float(1 - (w * rest**2).sum() / (w * spread**2).sum())


def ours(
    classifier: Classifier, seen: Rgb, cell: str, code: str, index: int
) -> list[Run]:
    """Our LIME under each seed."""
    found, tops = [], []
    for seed in range(SEEDS):
        start = time.perf_counter()
        segments = cell_segments(seen)
        hider = Hider(classifier, seen, segments, index, STRENGTH)
        kept, values = observe(hider, seed)
        weights, r2 = fit(kept, values)
        stable = stability(kept, values, seed)
        seconds = time.perf_counter() - start
        evaluations = hider.evaluations
        tops.append(top_segments(weights))
        rng = np.random.default_rng((seed, 1))
        fresh = rng.random((_HELD_OUT, hider.count)) < 0.5
        w = kernel(distances(kept))
        intercept = float(np.average(values - kept @ weights, weights=w))
        held_out = weighted_r2(weights, intercept, fresh, hider(fresh))
        found.append((seconds, evaluations, hider.count, r2, held_out, stable))
    alike = jaccard(tops)
    return [Run(cell, code, "edgecell", s, *row, alike) for s, row in enumerate(found)]


def theirs(
    classifier: Classifier, seen: Rgb, cell: str, code: str, index: int
) -> list[Run]:
    """LimeImageExplainer with its defaults under each seed."""
    lime_image = require("lime.lime_image", "explain")
    wrappers = require("lime.wrappers.scikit_image", "explain")

    class Explainer(lime_image.LimeImageExplainer):  # type: ignore[misc, name-defined]
        """Keeps what it sampled."""

        def data_labels(self, *args: Any, **kwargs: Any) -> Any:
            self.samples = super().data_labels(*args, **kwargs)
            return self.samples

    def probabilities(images: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        return softmax(classifier.logits(images), classifier.record.temperature)

    # What explain_instance takes by itself, but with one seed a cell.
    segmentation = wrappers.SegmentationAlgorithm(
        "quickshift", kernel_size=4, max_dist=200, ratio=0.2, random_seed=0
    )
    found, tops = [], []
    for seed in range(SEEDS):
        explainer = Explainer(random_state=seed)
        start = time.perf_counter()
        with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
            made = explainer.explain_instance(
                seen, probabilities, segmentation_fn=segmentation
            )
        seconds = time.perf_counter() - start
        count = int(made.segments.max()) + 1
        weights = np.zeros(count)
        for segment, weight in made.local_exp[index]:
            weights[segment] = weight
        tops.append({int(segment) for segment, _ in made.local_exp[index][:TOP]})
        # made.score is that of the label that was fitted last.
        kept, values = explainer.samples
        score = partial(weighted_r2, weights, float(made.intercept[index]))
        r2 = score(kept > 0, values[:, index])
        hider = Hider(classifier, seen, made.segments.astype(np.int32), index)
        fresh = np.random.default_rng((seed, 1)).random((_HELD_OUT, count)) < 0.5
        held_out = score(fresh, probabilities(hider.images(fresh))[:, index])
        evaluations = len(values)
        found.append((seconds, evaluations, count, r2, held_out, None))
    alike = jaccard(tops)
    return [Run(cell, code, "lime", s, *row, alike) for s, row in enumerate(found)]


def summary(runs: Sequence[Run], method: str) -> str:
    """One method's means in a line."""
    mine = [r for r in runs if r.method == method]

    def mean(name: str) -> float:
        return float(np.mean([getattr(r, name) for r in mine]))

    return (
        f"{method:<9} {mean('seconds'):6.2f} s, {mean('evaluations'):5.0f} evaluations,"
        f" R2 {mean('r2'):.3f}, held out {mean('r2_held_out'):.3f}, top-5 Jaccard "
        f"{mean('jaccard'):.3f}"
    )


@click.command("lime-speed", cls=PoliteCommand, no_args_is_help=True)
@click.argument("model")
@click.argument("out", type=OutputFile("CSV"))
@click.argument("per_class", metavar="CELLS_PER_CLASS", type=click.IntRange(1, 10**6))
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
def command(model: str, out: Path, per_class: int, data: tuple[Path, ...]) -> None:
    """Compare LIME here with the lime package's defaults.

    Explains CELLS_PER_CLASS cells of each class from the test split of DATA. Writes
    OUT, a CSV file with a row for each run.
    """
    classifier = Classifier(model)
    files = [f for f in scan(data) if f.split == "test"]
    files = sample(files, per_class, 0)
    images = load_images(files, classifier.record.preprocessing)
    # Compiled lazily or imported by the first call; not part of any method.
    theirs(classifier, images[0], "", "", classifier.classify(images[0]).index)
    runs: list[Run] = []
    for file, seen in zip(tqdm(files, "explaining"), images, strict=True):
        index = classifier.classify(seen).index
        cell = (classifier, seen, Path(file.name).name, file.code, index)
        runs += ours(*cell) + theirs(*cell)
    columns, machine = [*(f.name for f in fields(Run)), "on"], this_machine().model
    rows = []
    for run in runs:
        row = asdict(run).values()
        cells = [f"{v:.4f}" if isinstance(v, float) else v for v in row]
        rows.append([*cells, machine])
    write_atomically(out, csv_text(columns, rows))
    for method in ("edgecell", "lime"):
        click.echo(summary(runs, method))


if __name__ == "__main__":
    command()
