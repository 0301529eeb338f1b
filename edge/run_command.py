"""``edgecell run``."""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecell import RESEARCH_USE
from edgecell.classes import CLASSES
from edgecell.cli import json_option, report
from edgecell.files import check_writable
from edgecell.modelfile import BUNDLED, resolve
from edgecell.optional import require

if TYPE_CHECKING:
    from edgecell.edge.pipeline import CellRecord, FrameResult
    from edgecell.edge.run_loop import Tally

MAX_THREADS = 64
_MOST_ROWS = 60
_NAMES = {c.code: f"{c.code:<4}{c.name}" for c in CLASSES}
_HEADER = (
    f"{'frame':>6}  {'name':<14}{'time':>7}  {'centre':<10}{'found as':<9} "
    f"{'class':<24}{'conf.':>6}  runner-up"
)


def row(r: "CellRecord") -> str:
    """A record as a line of the table."""
    x, y = r.box.centre
    time = "" if r.time_s is None else f"{r.time_s:.1f} s"
    best, *others = r.top
    second = f"{others[0].code} {others[0].probability:.0%}" if others else ""
    cut = "  cut" if r.cut_by_border else ""
    name = r.name if len(r.name) <= 14 else f"{r.name[:12]}.."
    return (
        f"{r.frame:>6}  {name:<14}{time:>7}  {f'{x:.0f},{y:.0f}':<10}{r.kind:<9} "
        f"{_NAMES[best.code]:<24}{best.probability:>6.0%}  {second:<9}{cut}"
    ).rstrip()


def rows_table(records: Sequence["CellRecord"]) -> list[str]:
    """The cells as a table, cut off where nobody would read on."""
    if not records:
        return []
    lines = [_HEADER, *(row(r) for r in records[:_MOST_ROWS])]
    if len(records) > _MOST_ROWS:
        lines.append(f"... and {len(records) - _MOST_ROWS} more")
    return [*lines, ""]


def counts_table(tally: "Tally") -> list[str]:
    """Cells by class: counted in stills, sighted in moving pictures."""
    if not tally.cells:
        return ["No white cells or platelets were found.", ""]
    columns = {"counted": tally.counts, "sightings": tally.sightings}
    shown = {name: counts for name, counts in columns.items() if counts}
    lines = []
    if shown:
        lines.append(f"{'class':<26}" + "".join(f"{name:>11}" for name in shown))
    for cell_class in CLASSES:
        code = cell_class.code
        if any(counts[code] for counts in shown.values()):
            cells = "".join(f"{counts[code] or '':>11}" for counts in shown.values())
            lines.append(f"{_NAMES[code]:<26}{cells}".rstrip())
    if tally.cut_by_border:
        lines.append(f"cut by the border, left out: {tally.cut_by_border}")
    if tally.sightings:
        lines.append("A cell is sighted in every video frame that shows it.")
    return [*lines, ""]


def _skipped_line(names: Sequence[str]) -> list[str]:
    return [f"not readable and left out: {', '.join(names)}"] if names else []


@contextmanager
def interruptible(live: bool) -> Iterator[list[bool]]:
    """Lets Ctrl-C end a live run after the frame in hand; a second one breaks it off.

    Args:
        live: False leaves Ctrl-C as it is.

    Yields:
        A list that gets an item when the run is to end.
    """
    asked: list[bool] = []

    def ask(number: int, _: object) -> None:
        asked.append(True)
        signal.signal(number, signal.default_int_handler)

    if not live:
        yield asked
        return
    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


@click.command("run", short_help="Find and classify cells in frames.")
@click.argument("source")
@click.option(
    "--model",
    default=BUNDLED,
    show_default=True,
    metavar="FILE",
    help="TFLite file that 'edgecell convert' wrote; 'bundled' is the built-in one.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="New or empty folder.  [default: edgecell-out/<source>-<time>]",
)
@click.option(
    "--red-cell-px",
    type=float,
    metavar="PX",
    help="Diameter of a red cell in pixels, instead of measuring it in each frame.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, MAX_THREADS),
    help="Threads of the network.  [default: half the machine's cores]",
)
@click.option(
    "--max-frames", type=click.IntRange(min=1), help="End after so many frames."
)
@json_option
def command(
    source: str,
    model: str,
    out: Path | None,
    red_cell_px: float | None,
    threads: int | None,
    max_frames: int | None,
    json_file: str | None,
) -> None:
    """Find and classify the white cells and platelets in SOURCE.

    SOURCE is an image, a folder of images, a video, a camera's number such as 0
    (Ctrl-C ends it), or 'demo' for the built-in samples.

    The results folder gets cells.jsonl, one JSON line for each cell, and frames/,
    pictures with each cell's class and Grad-CAM heat map: one of each still image,
    and of a video or camera at most one a second.
    """
    require("cv2", "edge")
    from edgecell.edge.classifier import Classifier
    from edgecell.edge.pipeline import FrameAnalyser
    from edgecell.edge.run_loop import run
    from edgecell.edge.sources import open_source
    from edgecell.edge.writer import CELLS, PICTURES, ResultFolder, default_folder

    path = resolve(model)
    frames = open_source(source)
    if json_file and json_file != "-":
        check_writable(Path(json_file))
    # With all cores, tflite-runtime took 5 times as long beside another busy program.
    cores = os.cpu_count() or 1
    classifier = Classifier(path, threads or max(1, min(cores // 2, MAX_THREADS)))
    analyser = FrameAnalyser(classifier, red_cell_px)
    out = out or default_folder(frames.name, datetime.now())
    live_rows = frames.live and json_file != "-"
    kept: list[CellRecord] = []

    def show(result: "FrameResult") -> None:
        records = [cell.record for cell in result.cells]
        if live_rows:
            for record in records:
                click.echo(row(record))
        elif not frames.live:
            kept.extend(records)

    with frames, ResultFolder(out) as folder, interruptible(frames.live) as asked:
        if live_rows:
            click.echo(f"Results go to {out}; Ctrl-C ends the run.\n{_HEADER}")
        tally = run(frames, analyser, folder, max_frames, show, lambda: bool(asked))
    runtime = f"{classifier.runtime.name} {classifier.runtime.version}"
    fps = tally.frames / tally.seconds
    lines = [
        *rows_table(kept),
        *counts_table(tally),
        *_skipped_line(frames.skipped),
        f"Frames: {tally.frames} in {tally.seconds:.1f} s ({fps:.1f} a second), "
        f"model {path.name} on {runtime}",
        f"Results: {out} (cells in {CELLS}: {tally.cells}, pictures in {PICTURES}/: "
        f"{tally.pictures})",
        RESEARCH_USE,
    ]
    data = {
        "source": source,
        "out": str(out),
        "model": model,
        "model_sha256": classifier.record.model_sha256,
        "runtime": runtime,
        "skipped": frames.skipped,
        **tally.to_dict(),
    }
    report("\n".join(lines), data, json_file)
