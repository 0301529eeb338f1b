"""The bundled model on a microscope that it has not seen, and trained further there.

    python -m edgecell.benchmarks adapt OUT.json SEGWBC.zip

SegWBC (Zheng et al., Micron 107:55-71, 2018): 100 cells of other laboratories in five
classes, reactive lymphocytes, erythroblasts and blasts among them under the nearest of
the five. Before: by the bundled model, of its twelve classes and of these five alone.
After: training has gone on from it with one half of the cells, measured on the other
half; each half in turn. A neutrophil is right as band or segmented.
"""

import csv
import hashlib
import json
import tempfile
from dataclasses import replace
from pathlib import Path, PurePosixPath

import click
import numpy as np
import numpy.typing as npt

from edgecell.classes import CODES, GROUPS
from edgecell.cli import OutputFile, PoliteCommand
from edgecell.data.audit import Selection
from edgecell.data.dataset import CellFile, Split, labels, load_images
from edgecell.data.members import open_files
from edgecell.data.scale import field_in_red_cells
from edgecell.errors import InputError
from edgecell.files import write_atomically
from edgecell.model import BUNDLED
from edgecell.model.decision import review_reasons
from edgecell.model.kerasfile import load_keras
from edgecell.model.modelfile import bundled_model, read_tflite
from edgecell.model.predict import predict
from edgecell.train.config import TrainConfig
from edgecell.train.run import train

LABELS = {"1": "SNE", "2": "LY", "3": "MO", "4": "EO", "5": "BA"}
VALIDATED = 5
"""One cell in so many of the half that is trained on is for validation."""


def read_segwbc(path: Path) -> list[CellFile]:
    """The labelled cells of the ZIP file, in the order of their hashes.

    Raises:
        InputError: it is not SegWBC, or cannot be read.
    """
    cells = []
    with open_files(path) as files:
        try:
            table = files[PurePosixPath("segwbc/labels.csv")]().decode()
            for row in csv.DictReader(table.splitlines()):
                name = f"segwbc/images/{int(row['image ID']):03d}.png"
                data = files[PurePosixPath(name)]()
                sha256 = hashlib.sha256(data).hexdigest()
                code = LABELS[row["class"]]
                cells.append(CellFile(name, code, "segwbc", sha256, data))
        except (KeyError, ValueError) as e:
            raise InputError(f"{path} is not the second set of SegWBC ({e})") from e
    return sorted(cells, key=lambda c: c.sha256)


def _right(logits: npt.NDArray[np.float32], y: npt.NDArray[np.int32]) -> list[bool]:
    bands, segmented = (CODES.index(code) for code in GROUPS["neutrophils"])
    named = logits.argmax(1)
    named[named == bands] = segmented
    return [bool(x) for x in named == y]


@click.command("adapt", cls=PoliteCommand, no_args_is_help=True)
@click.argument("out", type=OutputFile("JSON"))
@click.argument("segwbc", type=click.Path(path_type=Path))
def command(out: Path, segwbc: Path) -> None:
    """Measure the bundled model on another microscope, and after training there.

    SEGWBC is the second set of SegWBC as a ZIP file. Writes OUT, a JSON file.
    """
    cells = read_segwbc(segwbc)
    record = read_tflite(bundled_model())[1]
    prep = record.preprocessing
    crop = round(prep.crop_red_cells / field_in_red_cells(cells), 2)
    cfg = TrainConfig(
        init=BUNDLED,
        epochs=60,
        batch_size=16,
        learning_rate=5e-4,
        crop_fraction=crop,
    )
    seen = load_images(cells, replace(prep, crop_fraction=crop))
    logits = predict(bundled_model(), seen).logits
    before = _right(logits, labels(cells))
    accepted = [not review_reasons(row, record) for row in logits]
    others = [i for i, c in enumerate(CODES) if c not in (*LABELS.values(), "BNE")]
    logits[:, others] = -np.inf
    before_of_five = _right(logits, labels(cells))
    after = [False] * len(cells)
    for half in (0, 1):
        splits: list[Split] = [
            "test" if i % 2 == half else "val" if i // 2 % VALIDATED == 0 else "train"
            for i in range(len(cells))
        ]
        assigned = [replace(c, assigned=s) for c, s in zip(cells, splits, strict=True)]
        with tempfile.TemporaryDirectory() as folder:
            train(Selection(tuple(assigned), ()), cfg, Path(folder))
            model = Path(folder) / "model.keras"
            tested = [i for i, s in enumerate(splits) if s == "test"]
            part = [cells[i] for i in tested]
            images = load_images(part, load_keras(model)[1].preprocessing)
            right = _right(predict(model, images).logits, labels(part))
        for i, x in zip(tested, right, strict=True):
            after[i] = x
    codes = np.array([c.code for c in cells])
    rows = {
        code: {
            "n": int((codes == code).sum()),
            "before": int(np.sum(before, where=codes == code)),
            "before_of_five": int(np.sum(before_of_five, where=codes == code)),
            "after": int(np.sum(after, where=codes == code)),
        }
        for code in LABELS.values()
    }
    result = {
        "model_sha256": record.model_sha256,
        "cells": len(cells),
        "before": sum(before),
        "accepted_before": sum(accepted),
        "accepted_before_right": int(np.sum(before, where=accepted)),
        "before_of_five": sum(before_of_five),
        "after": sum(after),
        "classes": rows,
        "config": cfg.to_dict(),
    }
    write_atomically(out, json.dumps(result, indent=1) + "\n")
    click.echo(
        f"right of {len(cells)}: {sum(before)} before ({sum(before_of_five)} with "
        f"these five classes only), {sum(after)} after; accepted without review "
        f"before: {sum(accepted)}, of which right: {result['accepted_before_right']}"
    )


if __name__ == "__main__":
    command()
