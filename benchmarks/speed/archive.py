"""Images a second of 'edgecell classify --out', with one worker and with more.

python -m edgecell.benchmarks archive cells-pbc.zip --out archive.json
"""

import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from edgecell.benchmarks.latency import resident_bytes, this_machine
from edgecell.cli import OutputFile, PoliteCommand
from edgecell.edge.commands.archive.run import classify_archive
from edgecell.edge.commands.archive.work import Task
from edgecell.files import write_atomically
from edgecell.model.modelfile import bundled_model


def measure(roots: tuple[str, ...], workers: int) -> dict[str, Any]:
    """One archive with so many workers: images a second, start included."""
    with tempfile.TemporaryDirectory(prefix="edgecell-bench-") as folder:
        start = time.perf_counter()
        done = classify_archive(
            roots, bundled_model(), Task(), Path(folder) / "table.csv", workers
        )
        seconds = time.perf_counter() - start
    return {
        "workers": workers,
        "images": done.images,
        "seconds": round(seconds, 2),
        "images_per_s": round(done.images / seconds, 1),
        "rss_bytes": resident_bytes(),
    }


@click.command("archive", cls=PoliteCommand, no_args_is_help=True)
@click.argument("data", nargs=-1, required=True)
@click.option("--workers", multiple=True, type=int, default=(1, 2), show_default=True)
@click.option("--out", type=OutputFile("JSON"))
def command(data: tuple[str, ...], workers: tuple[int, ...], out: Path | None) -> None:
    """Classify DATA, folders or zip files of cells, with each number of workers."""
    rows = [measure(data, count) for count in workers]
    text = json.dumps({"machine": asdict(this_machine()), "runs": rows}, indent=1)
    if out:
        write_atomically(out, text + "\n")
    click.echo(text)


if __name__ == "__main__":
    command()
