"""``edgecell explain evaluate``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecell import RESEARCH_USE
from edgecell.cli import OutputFile, json_option, manifest_option, report
from edgecell.explain.commands.options import drawn_cells
from edgecell.explainers import EXPLAINERS, check_installed
from edgecell.files import several

if TYPE_CHECKING:
    from edgecell.explain.evaluation import ExplainReport

# measure, heading, decimals
_COLUMNS = (
    ("deletion", "deletion-", 3),
    ("insertion", "insertion+", 3),
    ("road", "ROAD-", 3),
    ("in_nucleus", "nucleus", 3),
    ("in_cell", "cell", 3),
    ("stability", "stable+", 2),
    ("random_head", "head", 2),
    ("random_weights", "weights", 2),
    ("evaluations", "runs", 0),
    ("seconds", "s", 3),
)
_LEGEND = """\
deletion, insertion: area under the class's probability; ROAD: share of imputed images
still called the same. nucleus, cell: share of the heat inside the expert's mask.
stable: rank correlation under slight noise and another seed. head, weights: with the
map under shuffled weights; near 1 the map does not depend on the model."""


def table(found: "ExplainReport") -> str:
    """The figures as text."""
    lines = ["".join(f"{h:>11}" for h in ("", *(c[1] for c in _COLUMNS)))]
    lines[0] = f"{'method':<15}" + lines[0][11:] + f"{'empty':>7}"
    for m in found.methods:
        cells = []
        for measure, _, decimals in _COLUMNS:
            mean = m.mean(measure)
            cells.append(f"{'-' if mean is None else f'{mean:.{decimals}f}':>11}")
        lines.append(f"{m.method:<15}" + "".join(cells) + f"{m.empty:>7}")
    if found.nucleus_area is not None and found.cell_area is not None:
        lines.append(
            f"share of the image that is nucleus {found.nucleus_area:.3f}, "
            f"cell {found.cell_area:.3f}"
        )
    lines += ["", _LEGEND, ""]
    for measure, heading in (
        ("deletion", "deletion"),
        ("insertion", "insertion"),
        ("road", "ROAD"),
        ("in_nucleus", "heat in the nucleus"),
        ("in_cell", "heat in the cell"),
    ):
        if any(c.measure == measure for c in found.comparisons):
            names = ", ".join(found.beating(measure)) or "none"
            lines.append(f"better than both controls in {heading}: {names}")
    lines.append("(the 95 % interval of the paired difference is above 0)")
    return "\n".join(lines)


@click.command("evaluate", short_help="Measure how reliable explanations are.")
@click.argument("model")
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
@drawn_cells("test", 4, "Measure only this method. May be given more than once.")
@manifest_option
@click.option(
    "--masks",
    type=click.Path(path_type=Path, exists=True),
    help="Folder or zip file with images/ and masks/ (nucleus white, cytoplasm grey). "
    "Also measure how much of the heat lies inside the masks, on as many cells as from "
    "DATA.",
)
@click.option(
    "--plot",
    type=OutputFile("PNG"),
    help="Also draw the curves of deletion, insertion and ROAD into this PNG file.",
)
@json_option
def command(
    model: str,
    data: tuple[Path, ...],
    split: str,
    manifest: Path | None,
    cells: int,
    methods: tuple[str, ...],
    masks: Path | None,
    seed: int,
    plot: Path | None,
    json_file: str | None,
) -> None:
    """Measure how reliable the explanations of MODEL are.

    Every method explains the class that MODEL gives. Two controls that know nothing of
    MODEL are measured too: a random map, and a disc in the middle of the image. MODEL
    is a .tflite file, or 'bundled'. DATA are folders or zip files in which the
    directory above an image names its class.
    """
    import numpy as np

    from edgecell.data.dataset import load_images, sample
    from edgecell.data.manifest import check_split, scan_split
    from edgecell.explain.evaluation import evaluate
    from edgecell.explain.masks import read_masked
    from edgecell.model.classifier import Classifier
    from edgecell.model.modelfile import resolve
    from edgecell.optional import require

    path = resolve(model)
    classifier = Classifier(path)
    chosen = methods or tuple(EXPLAINERS)
    require("scipy.stats", "explain")
    for method in chosen:
        check_installed(method)
    found = scan_split(data, manifest)
    if split != "all":
        check_split(classifier.record, found)
    of_split = [f for f in found if split in ("all", f.split)]
    files = sample(of_split, cells, seed)
    prep = classifier.record.preprocessing
    masked = read_masked(masks, prep) if masks else []
    order = np.random.default_rng(seed).permutation(len(masked))[: len(files)]
    result = evaluate(
        classifier,
        list(load_images(files, prep)),
        [masked[i] for i in sorted(order)],
        chosen,
        seed,
        repeats=len({f.code for f in files}),
    )
    settings = {
        "model": path.name,
        "model_sha256": classifier.record.model_sha256,
        "split": split,
        "cells_per_class": cells,
        "seed": seed,
    }
    if plot:
        from edgecell.explain.panels import draw_curves

        draw_curves(result, plot)
    counted = several(result.cells, "cell")
    title = f"{path.name}, split {split}: {counted}, {result.masked} masked"
    text = f"{title}\n{table(result)}\n{RESEARCH_USE}"
    report(text, settings | result.to_dict(), json_file)
