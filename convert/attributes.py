"""Heads that predict attributes of cells, fitted to a converted model's own features.

    python -m edgecell.convert.attributes MODEL.tflite DATA... --attributes FILE
        [--out FILE]

adds them to a model file that was converted without. `edgecell convert --attributes`
does the same for the file that it writes.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt

from edgecell.cli import OutputFile
from edgecell.convert.microscopes import pooled_features
from edgecell.data.dataset import CellFile
from edgecell.data.manifest import check_split, scan_split
from edgecell.errors import InputError
from edgecell.model.modelfile import read_tflite, resolve, write_tflite
from edgecell.model.probabilities import fit_temperature
from edgecell.morphology.heads import AttributeHeads, packed
from edgecell.morphology.table import (
    UNKNOWN,
    Attribute,
    AttributeTable,
    read_attributes,
)
from edgecell.optional import require

Array = npt.NDArray[np.float64]

_PENALTY = 2e-3
"""Of the squared weights (halved), on features of unit variance, beside the mean loss
of a cell: chosen on the validation split from 2e-4 to 2e-2."""

LEAST_CELLS = 50
"""Training cells with attributes, below which nothing is said of a class or source."""


def fit_heads(
    path: Path,
    files: Sequence[CellFile],
    table: AttributeTable,
    least_cells: int = LEAST_CELLS,
) -> AttributeHeads:
    """Fits a head for each attribute: multinomial regression, then a temperature.

    Args:
        path: the converted model, with any record.
        files: the data that it was trained on. Its training split gives weights and
            what is typical of each class, the validation split the temperatures.
        table: attributes of some of the cells.
        least_cells: training cells of a class or source with which something is said
            of it.

    Raises:
        InputError: too few cells have attributes.
    """
    given = table.of(files)
    train, val = (
        [i for i, f in enumerate(files) if f.split == split and (given[i] >= 0).all()]
        for split in ("train", "val")
    )
    classes = _frequent([files[i].code for i in train], least_cells)
    sources = _frequent([files[i].source for i in train], least_cells)
    if not classes or not val:
        raise InputError(
            "too few of the images that the model was trained on have attributes; give "
            "these images as DATA, and the table that names them"
        )
    seen = [np.unique(column) for column in given[train].T]
    if min(map(len, seen)) < 2:
        raise InputError(
            "an attribute has the same value in all cells of the training split; leave "
            "it out of the table"
        )
    attributes = tuple(
        Attribute(a.name, tuple(a.values[v] for v in values))
        for a, values in zip(table.attributes, seen, strict=True)
    )
    y, y_val = _numbered(given[train], seen), _numbered(given[val], seen)
    x = pooled_features(path, [files[i] for i in train]).astype(np.float64)
    x_val = pooled_features(path, [files[i] for i in val]).astype(np.float64)
    parts = [_fit(x, y[:, i]) for i in range(len(attributes))]
    temperatures = []
    for i, (weights, bias) in enumerate(parts):
        known = y_val[:, i] >= 0
        truth = np.eye(len(bias), dtype=bool)[y_val[known, i]]
        logits = x_val[known] @ weights + bias
        temperatures.append(fit_temperature(logits, truth))
    codes = np.array([files[i].code for i in train])
    return AttributeHeads(
        attributes=attributes,
        weights=packed(np.concatenate([weights for weights, _ in parts], 1)),
        bias=tuple(float(b) for _, bias in parts for b in bias),
        temperatures=tuple(temperatures),
        classes=classes,
        typical=tuple(_shares(y[codes == code], attributes) for code in classes),
        microscopes=sources,
        cells=len(train),
    )


def _frequent(names: Sequence[str], least: int) -> tuple[str, ...]:
    return tuple(sorted(k for k, n in Counter(names).items() if n >= least))


def _numbered(
    given: npt.NDArray[np.int8], seen: Sequence[npt.NDArray[np.int8]]
) -> npt.NDArray[np.int64]:
    """Indices of values among those that training has seen; `UNKNOWN` for others."""
    columns = []
    for column, values in zip(given.T, seen, strict=True):
        place = np.minimum(np.searchsorted(values, column), len(values) - 1)
        columns.append(np.where(values[place] == column, place, UNKNOWN))
    return np.stack(columns, 1).astype(np.int64)


def _fit(x: Array, y: npt.NDArray[np.int64]) -> tuple[Array, Array]:
    """Weights (K, M) and bias (M,) of one attribute, each summing to 0 over values."""
    linear = require("sklearn.linear_model", "train")
    mean, deviation = x.mean(0), x.std(0) + 1e-6
    fit = linear.LogisticRegression(C=1 / (_PENALTY * len(x)), max_iter=1000)
    fit.fit((x - mean) / deviation, y)
    weights, bias = fit.coef_.T, fit.intercept_
    if weights.shape[1] == 1:  # of two values it fits the difference
        weights, bias = weights * (-0.5, 0.5), bias * (-0.5, 0.5)
    weights = weights / deviation[:, None]
    bias = bias - mean @ weights
    return weights - weights.mean(1, keepdims=True), bias - bias.mean()


def _shares(
    y: npt.NDArray[np.int64], attributes: Sequence[Attribute]
) -> tuple[float, ...]:
    """Share of each value of each attribute among some cells."""
    return tuple(
        float((y[:, i] == v).mean())
        for i, attribute in enumerate(attributes)
        for v in range(len(attribute.values))
    )


@click.command()
@click.argument("model")
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--attributes",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="CSV table: img_name,nucleus_shape,...",
)
@click.option("--manifest", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--out", type=OutputFile("TFLite"))
def main(
    model: str,
    data: tuple[Path, ...],
    attributes: Path,
    manifest: Path | None,
    out: Path | None,
) -> None:
    """Adds heads for the attributes of the cells in DATA to MODEL, or to --out."""
    path = resolve(model)
    flatbuffer, record = read_tflite(path)
    table = read_attributes(attributes)
    files = scan_split(data, manifest)
    check_split(record, files)
    heads = fit_heads(path, files, table)
    write_tflite(out or path, flatbuffer, replace(record, attributes=heads))
    click.echo(
        f"{heads.cells} cells of {', '.join(heads.classes)}; temperatures "
        + ", ".join(
            f"{a.name} {t:.2f}"
            for a, t in zip(heads.attributes, heads.temperatures, strict=True)
        )
    )


if __name__ == "__main__":
    main()
