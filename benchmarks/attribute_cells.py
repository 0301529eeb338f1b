"""Draws twelve cells of the test split with their attributes in words.

    python -m edgecell.benchmarks attribute-cells bundled OUT.jpg DATA...

Two cells of each class whose attributes the model predicts. A seed draws them, not a
person's eye.
"""

import textwrap
from pathlib import Path

import click
import numpy as np

from edgecell import RESEARCH_USE
from edgecell.cli import OutputFile, PoliteCommand
from edgecell.data.dataset import decode, sample, scan
from edgecell.edge.analyse.single import classify_single, words_of
from edgecell.errors import InputError
from edgecell.files import several
from edgecell.image.preprocess import cell_pixels
from edgecell.model.cam import class_activation, enlarge
from edgecell.model.classifier import Classifier
from edgecell.model.microscopes.microscope import judge
from edgecell.plots import figure, save

_EACH, _ACROSS = 2, 2
_LINE = 46
_OPACITY = 0.6


@click.command("attribute-cells", cls=PoliteCommand, no_args_is_help=True)
@click.argument("model")
@click.argument("out", type=OutputFile("JPEG"))
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
def command(model: str, out: Path, data: tuple[Path, ...]) -> None:
    """Draw two test cells of each class that MODEL has words for, with the words.

    DATA are folders or zip files in which the directory above an image names its class.
    Beside each cell is the map of its nucleus' shape. Writes OUT, a .jpg file.
    """
    classifier = Classifier(model)
    heads = classifier.record.attributes
    if heads is None:
        raise InputError(
            f"{model} predicts no attributes; convert it with --attributes"
        )
    files = [
        f
        for f in scan(data)
        if f.split == "test"
        and f.code in heads.classes
        and f.source in heads.microscopes
    ]
    chosen = sorted(sample(files, _EACH, seed=0), key=lambda f: f.code)
    rows = -(-len(chosen) // _ACROSS)
    fig = figure(6.4 * _ACROSS, 2.05 * rows + 0.4)
    grid = fig.subplots(
        rows, 3 * _ACROSS, squeeze=False, width_ratios=[1, 1, 1.9] * _ACROSS
    )
    for axes in grid.ravel():
        axes.set_axis_off()
    record = classifier.record
    images = [decode(f.data, f.name) for f in chosen]
    cells = [classify_single(classifier, image) for image in images]
    pooled = np.stack([cell.prediction.pooled for cell in cells])
    verdict = judge(pooled, record.microscopes)
    for number, (file, image, cell) in enumerate(
        zip(chosen, images, cells, strict=True)
    ):
        row, block = divmod(number, _ACROSS)
        plain, mapped, told = grid[row, 3 * block : 3 * block + 3]
        pixels = cell_pixels(image, record.preprocessing)
        for axes in (plain, mapped):
            axes.imshow(pixels, extent=(0, 1, 0, 1))
        plain.set_title(f"label {file.code}", fontsize=8)
        words = words_of(record, cell.prediction, verdict)
        for value in words.values if words else ():
            features = cell.prediction.features
            if value.attribute == "nucleus_shape" and features is not None:
                slot = heads.slot(value.attribute, value.value)
                heat = class_activation(heads.maps(features), slot)
                shown = enlarge(heat, len(cell.seen))
                mapped.imshow(
                    shown,
                    cmap="viridis",
                    alpha=_OPACITY * np.sqrt(shown),
                    extent=(0, 1, 0, 1),
                )
                mapped.set_title(value.value, fontsize=8)
        lines = [f"{cell.code} {cell.probability:.0%}"]
        if words is not None:
            lines += textwrap.wrap(words.sentence, _LINE)
            lines += ["", *textwrap.wrap(str(words), _LINE)]
        told.text(0, 1, "\n".join(lines), va="top", fontsize=7.5)
    fig.supxlabel(RESEARCH_USE, fontsize=8)
    save(fig, out)
    click.echo(f"{out}: {several(len(chosen), 'cell')}")
