"""The microscopes of the training data, described so that a device recognises them.

    python -m edgecell.convert.microscopes MODEL.tflite DATA... [--out FILE]

adds the description to a model file that was converted without it. `edgecell convert`
does the same for each file that it writes.
"""

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from edgecell.cli import OutputFile
from edgecell.data.dataset import CellFile, decode, sample
from edgecell.data.manifest import check_split, scan_split
from edgecell.image.preprocess import (
    Preprocessing,
    Rgb,
    cell_image,
    crop_square,
    network_view,
    white_gains,
)
from edgecell.model.classifier import Classifier
from edgecell.model.microscopes.fit import LEAST_CELLS, LEAST_HELD_OUT, fit_microscope
from edgecell.model.microscopes.microscope import Microscope
from edgecell.model.modelfile import read_tflite, resolve, write_tflite

logger = logging.getLogger(__name__)

_TRAIN_CELLS = 300
_VAL_CELLS = 120
"""Cells of each class and source that are looked at, at most."""

_ZOOM = 0.09
_SHIFT = 0.04
"""Standard deviations with which a device's cut varies: the log of its size (the red
cells are measured anew in each still), and its centre as a share of its side."""


def as_found(image: Rgb, prep: Preprocessing, rng: np.random.Generator) -> Rgb:
    """A training image as the device might cut its cell out: not quite centred.

    Args:
        image: uint8 RGB (H, W, 3), a training image.
        prep: the model's preprocessing.
        rng: draws how far off centre and off scale.

    Returns:
        uint8 RGB (S, S, 3), the network's view.
    """
    gains = white_gains(image, prep.white_percentile, prep.white_level)
    height, width = image.shape[:2]
    zoom, (right, down) = np.exp(rng.normal(0, _ZOOM)), rng.normal(0, _SHIFT, 2)
    side = prep.crop_fraction * min(height, width) * zoom
    centre = (width / 2 + right * side, height / 2 + down * side)
    return network_view(crop_square(image, centre, side), gains, prep.input_size)


def pooled_features(
    path: Path, files: Sequence[CellFile], jitter: bool = False
) -> npt.NDArray[np.float32]:
    """Pooled features of cells, an interpreter for each core.

    Args:
        path: a converted model.
        files: N >= 1 images.
        jitter: whether to cut them out as a device does, see `as_found`.

    Returns:
        float32 (N, K).
    """
    cores = min(os.cpu_count() or 1, len(files))
    classifiers = [Classifier(path) for _ in range(cores)]
    record = classifiers[0].record
    rows: list[npt.NDArray[np.float32]] = [np.empty(0, np.float32)] * len(files)
    with (
        ThreadPoolExecutor(cores) as pool,
        tqdm(total=len(files), desc="features", disable=None, leave=False) as bar,
    ):

        def work(first: int) -> None:
            for i in range(first, len(files), cores):
                image = decode(files[i].data, files[i].name)
                prep = record.preprocessing_of(files[i].source)
                rng = np.random.default_rng(int(files[i].sha256[:8], 16))
                view = as_found(image, prep, rng) if jitter else cell_image(image, prep)
                rows[i] = classifiers[first].classify(view, features=True).pooled
                bar.update()

        list(pool.map(work, range(cores)))
    return np.stack(rows)


def describe(path: Path, files: Sequence[CellFile]) -> tuple[Microscope, ...]:
    """Describes each source of the training data that has enough cells.

    Args:
        path: the converted model, with any record.
        files: the data that it was trained on; a source stands for a microscope.
    """
    found = []
    for source in sorted({f.source for f in files}):
        here = [f for f in files if f.source == source]

        train, val = (
            sample([f for f in here if f.split == split], per_class, seed=1)
            for split, per_class in (("train", _TRAIN_CELLS), ("val", _VAL_CELLS))
        )
        if len(train) < LEAST_CELLS or len(val) < LEAST_HELD_OUT:
            logger.warning(
                "%s has too few cells (%d and %d for validation) to be recognised; the "
                "device will call its microscope unknown",
                source,
                len(train),
                len(val),
            )
            continue
        found.append(
            fit_microscope(
                source,
                pooled_features(path, train),
                [f.code for f in train],
                pooled_features(path, val, jitter=True),
                [f.slide for f in val],
            )
        )
    return tuple(found)


@click.command()
@click.argument("model")
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--manifest", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--out", type=OutputFile("TFLite"))
def main(
    model: str, data: tuple[Path, ...], manifest: Path | None, out: Path | None
) -> None:
    """Adds the microscopes of DATA to the record of MODEL, or writes it to --out."""
    path = resolve(model)
    flatbuffer, record = read_tflite(path)
    files = scan_split(data, manifest)
    check_split(record, files)
    microscopes = describe(path, files)
    write_tflite(out or path, flatbuffer, replace(record, microscopes=microscopes))
    for m in microscopes:
        click.echo(f"{m.name}: {m.cells} cells, limit {m.limits[-1]:.2f}")


if __name__ == "__main__":
    main()
