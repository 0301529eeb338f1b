"""``edgecell run``."""

import json
import logging
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecell import RESEARCH_USE
from edgecell.classes import CLASSES
from edgecell.cli import json_option, report
from edgecell.errors import OutputError
from edgecell.explainers import DEFERRED
from edgecell.files import check_writable, write_atomically
from edgecell.model.modelfile import BUNDLED, resolve
from edgecell.optional import require

if TYPE_CHECKING:
    from edgecell.edge.analyse.pipeline import CellRecord, FrameResult
    from edgecell.edge.loop.run_loop import Loop
    from edgecell.edge.show.health import Health
    from edgecell.edge.sources.base import Frame, Skipped

MAX_THREADS = 64
_MOST_ROWS = 60
_MOST_NAMES = 10
_NAMES = {c.code: f"{c.code:<4}{c.name}" for c in CLASSES}
_HEADER = (
    f"{'frame':>6}  {'name':<14}{'time':>7}  {'centre':<10}{'found as':<9} "
    f"{'class':<24}{'conf.':>6}  runner-up"
)


def row(frame: "Frame", r: "CellRecord") -> str:
    """A sighting as a line of the table."""
    x, y = r.box.centre
    time = "" if frame.time_s is None else f"{frame.time_s:.1f} s"
    cut = "  cut" if r.cut_by_border else ""
    name = frame.name if len(frame.name) <= 14 else f"{frame.name[:12]}.."
    place = f"{frame.index:>6}  {name:<14}{time:>7}  {f'{x:.0f},{y:.0f}':<10}"
    if r.gate is not None:
        return f"{place}{r.kind:<9} not judged: {r.gate}{cut}"
    best, second = r.top[:2]
    return (
        f"{place}{r.kind:<9} {_NAMES[best.code]:<24}{best.probability:>6.0%}  "
        f"{f'{second.code} {second.probability:.0%}':<9}{cut}"
    ).rstrip()


def rows_table(rows: Sequence[str], sightings: int) -> list[str]:
    """The first sightings as a table, cut off where nobody would read on.

    Args:
        rows: the first of them, see `row`.
        sightings: how many there are.
    """
    if not rows:
        return []
    lines = [_HEADER, *rows[:_MOST_ROWS]]
    if sightings > _MOST_ROWS:
        lines.append(f"... and {sightings - _MOST_ROWS} more sightings")
    return [*lines, ""]


def gated_line(gated: Mapping[str, int]) -> list[str]:
    """Frames that were too poor to be judged."""
    reasons = ", ".join(f"{reason} {n}" for reason, n in gated.items())
    return [f"Frames not judged: {reasons}"] if gated else []


def _skipped_line(skipped: "Skipped") -> list[str]:
    if not skipped.count:
        return []
    names = list(skipped.names)[:_MOST_NAMES]
    if names and skipped.count > len(names):
        names.append("...")
    listed = f": {', '.join(names)}" if names else ""
    return [f"{skipped.count} not readable and left out{listed}"]


@contextmanager
def stoppable() -> Iterator[list[int]]:
    """Lets Ctrl-C and SIGTERM end the run after the frame in hand; the next breaks off.

    Yields:
        A list that gets the signal's number when the run is to end.
    """
    asked: list[int] = []
    before: dict[int, Any] = {}

    def ask(number: int, _: object) -> None:
        asked.append(number)
        signal.signal(number, before[number])

    for number in (int(signal.SIGINT), int(signal.SIGTERM)):
        before[number] = signal.signal(number, ask)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _size(_: click.Context, __: click.Parameter, text: str | None) -> int | None:
    """Bytes of ``--keep``, when the command line is read."""
    from edgecell.edge.record.retention import parse_size

    return None if text is None else parse_size(text)


def _unbounded(context: click.Context, _: click.Parameter, file: Path | None) -> Any:
    """Refuses ``--video`` beside ``--keep``."""
    if file is not None and context.params.get("keep") is not None:
        raise click.UsageError(
            "a --video grows without end, which --keep is there to prevent; leave out "
            "one of them"
        )
    return file


class Screen:
    """The live differential, drawn over itself in a terminal."""

    def __init__(self, loop: "Loop", target: int | None) -> None:
        """Takes what is to be shown."""
        self._loop, self._target = loop, target
        self._height = 0
        for handler in logging.getLogger().handlers:
            handler.addFilter(self._interrupted)

    def _interrupted(self, _: logging.LogRecord) -> bool:
        """A message stands below the drawing: the next one starts below it."""
        self._height = 0
        return True

    def show(self, health: "Health") -> None:
        """Draws the present state over the one before."""
        columns = shutil.get_terminal_size().columns
        lines = [health.line(), *self._loop.differential.lines(self._target)]
        # A line that wraps would take two rows, and the next drawing would climb.
        shown = "\n".join(f"{line[: columns - 1]}\x1b[K" for line in lines)
        up = f"\x1b[{self._height}A" if self._height else ""
        click.echo(f"{up}\r{shown}")
        self._height = len(lines)


@click.command("run", short_help="Find, classify and count cells in frames.")
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
    "--keep",
    metavar="SIZE",
    callback=_size,
    is_eager=True,  # `_unbounded` asks for it
    help="Bound on the disk use of all sessions beside this one, such as 5GB: the "
    "oldest pictures go first.",
)
@click.option(
    "--target",
    type=click.IntRange(min=1),
    metavar="N",
    help="End once N white cells are counted, such as 100 or 200.",
)
@click.option("--watch", is_flag=True, help="Wait for more images in a folder or glob.")
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
@click.option(
    "--video",
    type=click.Path(path_type=Path),
    callback=_unbounded,
    help="Draw the frames into this .avi, too, 15 a second; not together with --keep.",
)
@click.option(
    "--explain",
    "which",
    default="none",
    show_default=True,
    metavar="WHICH",
    help="Cells to put on the queue of 'edgecell explain work': none, flagged (those "
    "to review), all, or sample:N (N of each class).",
)
@click.option(
    "--explain-by",
    "methods",
    type=click.Choice(DEFERRED),
    multiple=True,
    default=DEFERRED[:1],
    show_default=True,
    help="Method of these explanations; may be given more than once.",
)
@click.option(
    "--health",
    "health_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="JSON file that tells every second how the loop does.",
)
@json_option
def command(
    source: str,
    model: str,
    out: Path | None,
    keep: int | None,
    target: int | None,
    watch: bool,
    red_cell_px: float | None,
    threads: int | None,
    max_frames: int | None,
    video: Path | None,
    which: str,
    methods: tuple[str, ...],
    health_file: Path | None,
    json_file: str | None,
) -> None:
    """Find, classify and count the white cells and platelets in SOURCE, each once.

    SOURCE is an image, a folder or quoted glob of images, a video, 'demo' for the
    built-in samples, or a camera: its number such as 0, its device such as
    /dev/v4l/by-id/..., csi://0, rtsp://..., http://... (Motion JPEG) or
    gst://PIPELINE. Ctrl-C ends a run, and what was found is reported.

    The results folder gets session.sqlite (see 'edgecell session'), differential.json
    and .csv, and frames/, pictures with each cell's class and Grad-CAM heat map: one
    of each still image, and of a video or camera at most one a second.
    """
    require("cv2", "edge")
    from tqdm import tqdm

    from edgecell.edge.analyse.pipeline import FrameAnalyser
    from edgecell.edge.count.tracking import Tracker
    from edgecell.edge.count.votes import Rule
    from edgecell.edge.loop.run_loop import STOPPED, Limits, Loop
    from edgecell.edge.record.policy import parse_policy
    from edgecell.edge.record.recorder import Recorder
    from edgecell.edge.record.store import Session, Store, default_folder
    from edgecell.edge.show.film import Film
    from edgecell.edge.show.health import Monitor
    from edgecell.edge.sources.address import open_source, public_address
    from edgecell.edge.sources.capture import Capture
    from edgecell.model.classifier import Classifier

    path = resolve(model)
    policy = parse_policy(which, methods)
    frames = open_source(source, watch)
    film = Film(video) if video else None
    for file in (json_file if json_file != "-" else None, video, health_file):
        if file:
            check_writable(Path(file))
    # With all cores, tflite-runtime took 5 times as long beside another busy program.
    cores = os.cpu_count() or 1
    threads = threads or max(1, min(cores // 2, MAX_THREADS))
    classifier = Classifier(path, threads)
    analyser = FrameAnalyser(classifier, red_cell_px)
    model_record = classifier.record
    out = out or default_folder(frames.name, datetime.now())
    settings = {
        "red_cell_px": red_cell_px,
        "threads": threads,
        "target": target,
        "explain": which,
    }
    session = Session(public_address(source), model_record, settings)
    endless = frames.live or watch
    in_terminal = endless and json_file != "-" and sys.stdout.isatty()
    kept: list[str] = []

    with (
        stoppable() as asked,
        Capture(frames) as reader,
        Recorder(Store(out, session, keep, policy), film, not frames.live) as recorder,
    ):
        tracker = Tracker(Rule.of_model(model_record))
        limits = Limits(max_frames, target)
        loop = Loop(reader, analyser, tracker, recorder, limits)
        if endless and json_file != "-":
            click.echo(f"{RESEARCH_USE}\nResults go to {out}; Ctrl-C ends the run.")
        screen = Screen(loop, target).show if in_terminal else None
        total = min(frames.total or 0, max_frames or sys.maxsize) or None
        with (
            Monitor(loop.health, health_file, screen) as monitor,
            tqdm(
                total=total, unit="frame", disable=endless or None, leave=False
            ) as bar,
        ):

            def turn(result: "FrameResult | None") -> None:
                monitor.turn()
                if result is not None:
                    bar.update()
                    if len(kept) < _MOST_ROWS and not endless:
                        frame = result.frame
                        kept.extend(row(frame, cell.record) for cell in result.cells)

            loop.run(lambda: bool(asked), turn)
            recorder.end(loop.tally.ended, hurried=loop.tally.ended == STOPPED)
        health = loop.health()
    tally, differential = loop.tally, loop.differential
    error = recorder.error or recorder.picture_error
    try:
        data_file, table_file = out / "differential.json", out / "differential.csv"
        write_atomically(data_file, json.dumps(differential.to_dict(), indent=1))
        write_atomically(table_file, differential.to_csv())
    except OutputError as e:  # the report is shown first
        error = error or e
    runtime = f"{classifier.runtime.name} {classifier.runtime.version}"
    lines = [
        *rows_table(kept, tally.sightings),
        *([] if in_terminal else differential.lines(target)),
        "",
        *_skipped_line(frames.skipped),
        *gated_line(tally.gated),
        f"Frames: {tally.frames} in {tally.seconds:.1f} s, dropped {health.dropped}, "
        f"model {path.name} on {runtime}; ended: {tally.ended}",
        f"Results: {out} ({recorder.frames} frames recorded, "
        f"{recorder.pictures} pictures in frames/)",
        RESEARCH_USE,
    ]
    data = {
        "source": public_address(source),
        "out": str(out),
        "model": model,
        "model_sha256": model_record.model_sha256,
        "runtime": runtime,
        "skipped": list(frames.skipped.names),
        "pictures": recorder.pictures,
        **tally.to_dict(),
        "differential": differential.to_dict(),
        "health": health.to_dict(),
    }
    report("\n".join(lines), data, json_file)
    if error is not None:
        raise error
