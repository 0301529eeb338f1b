"""Every way to convert a network, side by side.

    python -m edgecell.benchmarks schemes OUT.csv FOLDER MODEL DATA...

Converts MODEL in each scheme, compares it with MODEL on the test split and times it on
both runtimes; OUT.csv grows by a line a scheme. FOLDER keeps the files, with their
figures beside them; those that are there already are not made again, so that a run can
be taken up, and the times be measured anew on a quiet machine.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from edgecell.cli import OutputFile, PoliteCommand
from edgecell.convert.convert import Request, convert
from edgecell.convert.export import QuantScheme
from edgecell.convert.finetune import FineTuning
from edgecell.convert.target import TARGETS, run_on_target
from edgecell.data.dataset import CellFile, load_images
from edgecell.data.manifest import check_split, scan_split
from edgecell.errors import ModelError
from edgecell.files import csv_text, write_atomically
from edgecell.model.kerasfile import read_keras_record

INT8 = QuantScheme("int8", "int8")
WAYS: dict[str, tuple[QuantScheme, FineTuning | None]] = {
    "float32": (QuantScheme("float32"), None),
    "float16": (QuantScheme("float16"), None),
    "dynamic": (QuantScheme("dynamic"), None),
    "int8": (INT8, None),
    # A step with simulated quantisation takes three times as long as one without.
    "int8, qat": (INT8, FineTuning(qat=True, steps=150)),
    "int8, prune 0.5": (INT8, FineTuning(prune=0.5)),
    "int8, cluster 16": (INT8, FineTuning(cluster=16)),
    # Last, since it runs on the runtimes' slow reference kernels.
    "int16x8": (QuantScheme("int16x8"), None),
}
_ROUNDS = 5
"""Of 32 images each; the round with the lowest median was disturbed least."""

COLUMNS = (
    "scheme", "mbytes", "mbytes_deflated", "accuracy", "points_lost", "agreement",
    "map_similarity", "drift_mean", "recalibrated_agreement",
    *(f"{target}_ms" for target in TARGETS),
)  # fmt: skip


def converted(
    name: str, folder: Path, model: Path, files: Sequence[CellFile]
) -> tuple[Path, dict[str, Any]]:
    """The file of one way to convert, with its figures; made if they aren't there."""
    path = folder / f"{name.replace(', ', '-').replace(' ', '-')}.tflite"
    figures = path.with_suffix(".json")
    if not figures.exists():
        scheme, tuning = WAYS[name]
        # Whatever it loses should be visible.
        request = Request(scheme, tuning, split="test", max_drop=100)
        made, _ = convert(model, request, files, path)
        write_atomically(figures, json.dumps(made.to_dict(), indent=1) + "\n")
    loaded: dict[str, Any] = json.loads(figures.read_text())
    return path, loaded


def row(name: str, path: Path, made: dict[str, Any], cells: Any) -> list[str]:
    """One line of the table; a time is empty where the runtime doesn't run the file."""
    compared = made["comparison"]
    times = []
    for target in TARGETS:
        try:
            runs = [run_on_target(path, cells, target) for _ in range(_ROUNDS)]
        except ModelError as e:
            click.echo(f"{name}: {e}", file=sys.stderr)
            times.append("")
            continue
        medians = [run.median_ms for run in runs if run.median_ms]
        times.append(f"{min(medians):.2f}" if medians else "")
    again = made["recalibrated"]
    return [
        name,
        f"{made['bytes'] / 1e6:.2f}",
        f"{made['deflated_bytes'] / 1e6:.2f}",
        f"{compared['accuracy_after']:.4f}",
        f"{made['drop']:.2f}",
        f"{compared['agreement']:.4f}",
        f"{compared['map_similarity']:.4f}",
        f"{compared['drift_mean']:.4f}",
        "" if again is None else f"{again:.4f}",
        *times,
    ]


@click.command("schemes", cls=PoliteCommand, no_args_is_help=True)
@click.argument("out", type=OutputFile("CSV"))
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
def command(out: Path, folder: Path, model: Path, data: tuple[Path, ...]) -> None:
    """Convert a network in every way, and compare accuracy and speed.

    MODEL is a .keras file, DATA what it was trained on. FOLDER keeps the files that
    are made. Writes OUT, a CSV file with a row for each way.
    """
    files = scan_split(data, None)
    check_split(read_keras_record(model), files)
    folder.mkdir(parents=True, exist_ok=True)
    held_out = sorted((f for f in files if f.split == "test"), key=lambda f: f.sha256)
    cells = load_images(held_out[:32], read_keras_record(model).preprocessing)
    rows = []
    for name in WAYS:
        rows.append(row(name, *converted(name, folder, model, files), cells))
        write_atomically(out, csv_text(COLUMNS, rows))
    click.echo(csv_text(COLUMNS, rows), nl=False)


if __name__ == "__main__":
    command()
