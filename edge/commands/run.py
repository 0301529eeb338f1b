"""``edgecell run``."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import click

from edgecell import RESEARCH_USE
from edgecell.cli import OutputFile, json_option, refuse, report
from edgecell.edge.commands.microscopes.trust import advice
from edgecell.edge.commands.options import COUNT, loop_options
from edgecell.edge.commands.page import Serving, beside, page_options
from edgecell.errors import InputError
from edgecell.explainers import DEFERRED
from edgecell.files import check_writable, several
from edgecell.optional import require
from edgecell.signals import held_back, on_stop

if TYPE_CHECKING:
    from edgecell.edge.count.differential import Differential
    from edgecell.edge.count.sequential import Goal
    from edgecell.edge.loop.config import LoopConfig
    from edgecell.edge.loop.run import Run, SessionResult
    from edgecell.edge.sources.base import Skipped

_MOST_NAMES = 10


def gated_line(gated: Mapping[str, int]) -> list[str]:
    """Frames that were too poor to be judged, and what to do about it."""
    from edgecell.edge.find.quality import ADVICE

    if not gated:
        return []
    reasons = ", ".join(f"{reason} {n}" for reason, n in gated.items())
    advice = [f"  {reason}: {ADVICE[reason]}" for reason in gated if reason in ADVICE]
    return [f"Frames not judged: {reasons}", *advice]


def scale_line(red_cell_px: Sequence[float]) -> list[str]:
    """The scale at which the cells were cut out."""
    if not red_cell_px:
        return []
    low, high = round(min(red_cell_px)), round(max(red_cell_px))
    spread = "" if low == high else f", {low} to {high}"
    return [f"Red cells: {median(red_cell_px):.0f} px across{spread}"]


def goal_lines(goals: Sequence["Goal"], differential: "Differential") -> list[str]:
    """The result of each ``--until``, with the interval that it rests on."""
    words = {True: "holds", False: "does not hold", None: "not decided"}
    lines = []
    for goal in goals:
        low, high = goal.interval(differential)
        lines.append(
            f"{goal}: {words[goal.outcome(differential)]} after "
            f"{several(differential.white_cells, 'white cell')} (sequential 95 % "
            f"interval {100 * low:.1f}-{100 * high:.1f} %)"
        )
    return lines


def _scope_line(run: "Run", microscope: str) -> list[str]:
    """What the scope file says, and why no cell is accepted if none is."""
    scope, file = run.scope, run.config.scope
    if scope is None:
        return []
    if scope.shown.holds and "shown to be right" not in microscope:
        return [f"{file} is for another camera or microscope: {scope.camera}"]
    enough = "" if scope.shown.holds else f", not above {100 * scope.shown.least:g} %"
    return [f"{file}: {scope.shown}{enough}"]


def _ending(run: "Run", last: "SessionResult") -> list[str]:
    """What became of the frames, and where the results are."""
    tally, classifier = last.tally, run.classifier
    return [
        *_skipped_line(run.source.skipped),
        *gated_line(tally.gated),
        *scale_line(tally.red_cell_px),
        f"Microscope: {last.microscope}"
        f"{advice(last.microscope, run.scope.more if run.scope else None)}",
        *_scope_line(run, last.microscope),
        f"Frames: {tally.frames} in {tally.seconds:.1f} s, dropped "
        f"{last.health.dropped}, model {classifier.path.name} on {classifier.runtime}; "
        f"ended: {tally.ended}",
        f"Results: {last.out} ({several(last.recorded, 'frame')} recorded, "
        f"{several(last.pictures, 'picture')} in frames/)",
    ]


def report_sessions(
    run: "Run",
    sessions: Sequence["SessionResult"],
    rows: Sequence[str],
    table: bool,
    json_file: str | None,
) -> None:
    """Reports the result of a run.

    Args:
        run: it has ended.
        sessions: its sessions, one a slide.
        rows: the first sightings.
        table: whether to show the differential, which a live screen has shown already.
        json_file: see `report`.

    Raises:
        OutputError: something could not be written; after the report.
    """
    from edgecell.edge.commands.observers import rows_table
    from edgecell.edge.sources.secrets import public_address

    config, last = run.config, sessions[-1]
    demo_lines, demo = _demo(run, last)
    lines = [
        *(f"Previous slide: {before.out}" for before in sessions[:-1]),
        *rows_table(rows, last.tally.sightings),
        *(last.differential.lines(config.target) if table else []),
        *goal_lines(config.goals, last.differential),
        "",
        *_ending(run, last),
        *demo_lines,
        RESEARCH_USE,
    ]
    data = {
        "source": public_address(config.source),
        "model": config.model,
        "model_sha256": run.classifier.record.model_sha256,
        "runtime": str(run.classifier.runtime),
        "skipped": list(run.source.skipped.names),
        "slides_before": [str(before.out) for before in sessions[:-1]],
        "scope": run.scope.recorded() if run.scope else None,
        **last.to_dict(),
        "cells": _cells(last) if json_file else None,
        "goals": [g.to_dict(last.differential) for g in config.goals],
        **demo,
    }
    report("\n".join(lines), data, json_file)
    for session in sessions:
        if session.error is not None:
            raise session.error


def _demo(run: "Run", last: "SessionResult") -> tuple[list[str], dict[str, Any]]:
    """What adapting brings on the demo's unknown microscope; nothing of other runs."""
    from edgecell.edge.loop.run_loop import END_OF_SOURCE
    from edgecell.edge.sources.address import DEMO

    if run.config.source != DEMO or last.tally.ended != END_OF_SOURCE:
        return [], {}
    from edgecell.edge.commands.microscopes.demo import demo_lines

    lines, data = demo_lines(run.classifier)
    return ["", *lines, ""], {"demo": data}


def _cells(session: "SessionResult") -> list[dict[str, Any]] | None:
    """Each cell of a session once, as its record has it; None if it can't be read."""
    from edgecell.edge.record.sessions import open_session
    from edgecell.edge.report.listing import cells_in_short

    try:
        with open_session(session.out) as recorded:
            return [cell.to_dict() for cell in cells_in_short(recorded)]
    except InputError:  # the report says what became of the record
        return None


def _skipped_line(skipped: "Skipped") -> list[str]:
    if not skipped.count:
        return []
    names = list(skipped.names)[:_MOST_NAMES]
    if names and skipped.count > len(names):
        names.append("...")
    listed = f": {', '.join(names)}" if names else ""
    return [f"{skipped.count} could not be read and were left out{listed}"]


def _size(_: click.Context, __: click.Parameter, text: str | None) -> int | None:
    """Bytes of ``--keep``, when the command line is read."""
    if text is None:
        return None
    from edgecell.edge.record.retention import parse_size

    return parse_size(text)


def config_of(source: str, parameters: Mapping[str, Any]) -> "LoopConfig":
    """The loop's settings, as the command line gives them.

    Args:
        source: the frames' address.
        parameters: of `command`.

    Raises:
        InputError: a setting is out of range, or two don't go together.
    """
    from edgecell.edge.loop.config import LoopConfig

    renamed = {"keep_bytes": "keep", "explain": "which", "explain_by": "methods"}
    names = {f.name: renamed.get(f.name, f.name) for f in fields(LoopConfig)}
    names.pop("source")
    return LoopConfig(source, **{name: parameters[names[name]] for name in names})


def serving_of(parameters: Mapping[str, Any]) -> Serving | None:
    """How the page is served, as the command line gives it; None for no page.

    Args:
        parameters: of `command`, in whose context this is called.

    Raises:
        click.UsageError: an option of the page, but no page.
    """
    names = [field.name for field in fields(Serving)]
    if not parameters["page"]:
        refuse(names, "goes with --page")
        return None
    return Serving(**{name: parameters[name] for name in names})


@click.command("run", short_help="Find, classify and count cells in frames.")
@click.argument("source")
@loop_options
@click.option(
    "--keep",
    metavar="SIZE",
    callback=_size,
    help="Most disk space that this session and those beside it may use, such as "
    "5GB. The oldest pictures are deleted first.",
)
@click.option("--watch", is_flag=True, help="Wait for new images in a folder or glob.")
@click.option(
    "--threads",
    type=COUNT,
    help="Threads that the network uses.  [default: half the machine's cores]",
)
@click.option(
    "--runtime",
    type=click.Choice(("litert", "onnxruntime", "openvino")),
    help="Runtime of the network: litert runs a .tflite file, the others an .onnx "
    "file.  [default: the first that works here]",
)
@click.option("--max-frames", type=COUNT, help="End after this number of frames.")
@click.option(
    "--maps/--no-maps",
    default=True,
    show_default=True,
    help="Draw the Grad-CAM maps, which show where the network looked, into the "
    "pictures.",
)
@click.option(
    "--video",
    type=click.Path(path_type=Path),
    help="Also write the annotated frames to this .avi file, 15 a second. Not "
    "together with --keep.",
)
@click.option(
    "--explain",
    "which",
    default="none",
    show_default=True,
    metavar="WHICH",
    help="Cells that 'edgecell explain work' is to explain later: none, flagged (those "
    "to review), all, or sample:N (N of each class).",
)
@click.option(
    "--explain-by",
    "methods",
    type=click.Choice(DEFERRED),
    multiple=True,
    default=DEFERRED[:1],
    show_default=True,
    help="Method of these explanations. May be given more than once.",
)
@click.option(
    "--health",
    "health_file",
    type=OutputFile("JSON", try_now=False),
    help="Write the health of the loop to this JSON file every second.",
)
@click.option(
    "--mqtt",
    metavar="ADDRESS",
    help="Publish health and counts to a broker, "
    "mqtt://[USER:PASSWORD@]HOST[:PORT][/TOPIC]. Home Assistant finds the device.",
)
@click.option(
    "--metrics",
    type=OutputFile("a .prom file", try_now=False),
    help="Write the figures of the loop to this .prom file every second, for the "
    "textfile collector of Prometheus' node_exporter.",
)
@click.option(
    "--page",
    is_flag=True,
    help="Also serve the live picture and all sessions in a browser; see 'edgecell "
    "page'.",
)
@page_options
@json_option
def command(
    source: str,
    mqtt: str | None,
    metrics: Path | None,
    json_file: str | None,
    **parameters: Any,
) -> None:
    """Find, classify and count the white cells and platelets in SOURCE, each once.

    SOURCE is an image, a folder or quoted glob of images, a video, 'demo' for the
    built-in samples, or a camera: its number such as 0, its device such as
    /dev/v4l/by-id/..., csi://0, rtsp://..., http://... (Motion JPEG) or
    gst://PIPELINE. To keep a password off the command line, write the address to a
    file of mode 600 and give @FILE. Ctrl-C ends the run and prints the report. For
    images of one cell each use 'edgecell classify'.

    The results folder holds session.sqlite (see 'edgecell session'), differential.json
    and .csv, and pictures with each cell's class and Grad-CAM heat map in frames/:
    one for each still image, and at most one a second for a video or camera. clean/
    holds copies of the latter with nothing drawn on them.
    """
    with held_back():
        require("cv2", "edge")
        from edgecell.edge.commands.observers import (
            Greeting,
            ProgressBar,
            Screen,
            draws_over_itself,
        )
        from edgecell.edge.loop.metrics import MetricsFile
        from edgecell.edge.loop.mqtt import MqttObserver, parse_broker
        from edgecell.edge.loop.run import Observer, open_run
        from edgecell.edge.sources.secrets import read_address

    config = config_of(read_address(source), parameters)
    serving = serving_of(parameters)
    quiet = json_file == "-"
    broker = parse_broker(read_address(mqtt)) if mqtt else None
    run = open_run(config)
    in_terminal = run.endless and not quiet and draws_over_itself()
    watching: list[Observer] = []
    if run.endless and not quiet:
        watching = [Greeting(), Screen()] if in_terminal else [Greeting()]
    if metrics is not None:
        check_writable(metrics)
        watching.append(MetricsFile(metrics))
    with on_stop(run.stop), ProgressBar(run) as bar, ExitStack() as stack:
        if broker is not None:
            watching.append(stack.enter_context(MqttObserver(broker)))
        if serving is not None:
            watching.append(stack.enter_context(beside(run, serving)))
        sessions = run.go([*watching, bar])
    report_sessions(run, sessions, bar.rows, not in_terminal, json_file)
