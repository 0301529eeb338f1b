"""``edgecell session``."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecell import RESEARCH_USE
from edgecell.classes import CLASSES
from edgecell.cli import OutputFile, OutputFolder, claim, json_option, report
from edgecell.edge.commands.cells import export_command, import_command
from edgecell.edge.commands.microscopes.trust import advice, needed
from edgecell.edge.commands.send import send_command
from edgecell.errors import InputError
from edgecell.files import printable, several, write_atomically
from edgecell.optional import require

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgecell.edge.record.sessions import Sighting, Summary
    from edgecell.edge.report.listing import CellInShort
    from edgecell.model.decision import Decision

_MOST = 20
_WAITING_HEADER = (
    f"{'cell':>7}  {'class':<9}{'runner-up':<9}{'frame':>7}  {'centre':<10}why"
)
_NAMES = {c.code: f"{c.code} {c.name}" for c in CLASSES}

_folder = click.argument("folder", type=click.Path(path_type=Path, file_okay=False))


def _time(text: str) -> str:
    """ISO 8601 in UTC as people read it: '2026-11-26 14:10:40 UTC'."""
    return text.replace("T", " ").replace("+00:00", " UTC")


def _end(summary: "Summary") -> str:
    return summary.end_reason or "running, or broken off"


def _verdict(decision: "Decision") -> str:
    """'SNE segmented neutrophil 97 %, accepted'."""
    name = "not classified"
    if decision.code is not None and decision.probability is not None:
        name = f"{_NAMES.get(decision.code, decision.code)} {decision.probability:.0%}"
    if not decision.reasons:
        return f"{name}, accepted"
    return f"{name}, to review: {', '.join(decision.reasons)}"


def _sighting_line(s: "Sighting") -> str:
    from edgecell.edge.report.listing import utc

    x, y = s.box.centre
    said = s.gate or f"{s.code} {s.probability:.0%}"
    kept = "" if s.seen is not None else "  pixels deleted by --keep"
    return (
        f"{s.frame:>8}  {s.name[:20]:<20}  {utc(s.captured).removesuffix(' UTC'):<19}  "
        f"{f'{x:.0f},{y:.0f}':<10}{said}{kept}"
    )


@click.group("session", short_help="Show, export, report and send recorded sessions.")
def command() -> None:
    """Show, export, report and send sessions that 'edgecell run' recorded."""


@command.command("list", short_help="List the sessions in a folder.")
@click.argument(
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default="edgecell-out",
)
@json_option
def list_command(folder: Path, json_file: str | None) -> None:
    """List the sessions in FOLDER (default: edgecell-out)."""
    require("cv2", "edge")
    from edgecell.edge.record.sessions import find_sessions, open_session

    if not folder.exists():
        raise InputError(f"{folder} does not exist; name a folder that holds sessions")
    found, unreadable = [], []
    for path in find_sessions(folder):
        try:
            with open_session(path) as session:
                found.append(session.summary())
        except InputError as e:
            unreadable.append(printable(str(e)))
    lines = [
        f"{s.started[:16].replace('T', ' ')} UTC  white cells {s.white_cells:<6}  "
        f"frames {s.frames:<8}  {s.bytes / 1e6:>8.1f} MB  "
        f"{printable(str(s.folder))}  ({_end(s)})"
        for s in found
    ]
    if not found:
        lines = [f"No sessions in {printable(str(folder))}."]
    report(
        "\n".join([*lines, *unreadable, RESEARCH_USE]),
        {"sessions": [s.to_dict() for s in found], "unreadable": unreadable},
        json_file,
    )


@command.command("show", short_help="Show a session's differential.")
@_folder
@click.option(
    "--review", is_flag=True, help="List all cells that wait for review instead."
)
@click.option(
    "--csv",
    "csv_file",
    type=OutputFile("CSV"),
    help="Write the differential as CSV.",
)
@click.option(
    "--cells",
    "cells_file",
    type=OutputFile("CSV"),
    help="Write the cells as CSV, one a row.",
)
@json_option
def show_command(
    folder: Path,
    review: bool,
    csv_file: Path | None,
    cells_file: Path | None,
    json_file: str | None,
) -> None:
    """Show the differential of the session in FOLDER, and the cells to review.

    It has three readings: what the machine accepts, the machine's first guess for
    every cell, and what people have named. Cells that wait widen the intervals.
    """
    require("cv2", "edge")
    from edgecell.edge.record.sessions import open_session
    from edgecell.edge.report.listing import cells_csv, cells_in_short, waiting

    with open_session(folder) as session:
        summary, readings = session.summary(), session.readings()
        cells = cells_in_short(session)
        more = needed(session, summary.microscope) if review else []
    if csv_file:
        write_atomically(csv_file, readings.to_csv())
    if cells_file:
        write_atomically(cells_file, cells_csv(cells))
    written = [path for path in (csv_file, cells_file) if path]
    wait = waiting(cells)
    table = [] if review else [*readings.lines(), ""]
    lines = [
        *_head(summary),
        "",
        *table,
        *_waiting_lines(wait, review),
        *more,
        *([_written(*written)] if written else []),
        RESEARCH_USE,
    ]
    data = {
        "session": summary.to_dict(),
        "readings": readings.to_dict(),
        "cells": [c.to_dict() | {"logits": _list(c.decision.logits)} for c in cells],
    }
    report("\n".join(lines), data, json_file)


def _written(*paths: Path) -> str:
    return f"Written: {', '.join(printable(str(path)) for path in paths)}"


def _head(summary: "Summary") -> list[str]:
    """Which session it is, and what is in it."""
    poor = ", ".join(f"{reason}: {n}" for reason, n in summary.gated.items())
    ended = f" to {_time(summary.ended)}" if summary.ended else ""
    lines = [
        f"{summary.source}, {_time(summary.started)}{ended} ({_end(summary)})",
        f"Frames: {summary.frames}{f', too poor ({poor})' if poor else ''}; "
        f"model {summary.model_sha256[:12]}; microscope: {summary.microscope}"
        f"{advice(summary.microscope)}",
    ]
    if scope := summary.settings.get("scope"):
        lines.append(f"Shown on this microscope: {scope['says']}")
    if summary.left_out:
        lines.append(
            f"{several(summary.left_out, 'more frame')} processed, but not in the "
            "record"
        )
    return lines


def _waiting_lines(wait: Sequence["CellInShort"], everything: bool) -> list[str]:
    if not wait:
        return ["No cell is waiting for review.", ""]
    shown = wait if everything else wait[:_MOST]
    lines = [f"To review ({len(wait)}, the most doubtful first):", _WAITING_HEADER]
    for cell in shown:
        lines.append(_waiting_line(cell))
        if cell.words is not None and cell.words.sentence:
            lines.append(f"{'':>9}{cell.words.sentence}")
    if len(wait) > len(shown):
        lines.append(f"  ... and {len(wait) - len(shown)} more; --review lists all")
    return [*lines, ""]


def _waiting_line(cell: "CellInShort") -> str:
    d, place = cell.decision, cell.place
    said = "-" if d.code is None else f"{d.code} {d.probability:.0%}"
    second = cell.runner_up
    other = "" if second is None else f"{second} {cell.runner_up_probability:.0%}"
    at = "" if place.box is None else "{:.0f},{:.0f}".format(*place.box.centre)
    why = ", ".join(d.reasons) or "not classified"
    return f"{d.cell:>7}  {said:<9}{other:<9}{place.frame:>7}  {at:<10}{why}"


@command.command("report", short_help="Write a session's report as PDF and CSV.")
@_folder
@click.option(
    "--pdf",
    "pdf_file",
    type=OutputFile("PDF"),
    help="PDF file to write.  [default: FOLDER/report.pdf]",
)
@click.option(
    "--csv",
    "csv_file",
    type=OutputFile("CSV"),
    help="CSV file to write.  [default: FOLDER/report.csv]",
)
@click.option(
    "--signed",
    "version",
    type=click.IntRange(min=1),
    metavar="N",
    help="Report the N-th signed version instead of the current state.",
)
@json_option
def report_command(
    folder: Path,
    pdf_file: Path | None,
    csv_file: Path | None,
    version: int | None,
    json_file: str | None,
) -> None:
    """Write the report of the session in FOLDER: one A4 page, and its table as CSV.

    The report says whether it is signed. People sign it in the browser, see 'edgecell
    page'.
    """
    require("fpdf", "page")
    from edgecell.edge.record.connection import open_database
    from edgecell.edge.record.review import Review
    from edgecell.edge.report.content import report_csv
    from edgecell.edge.report.pdf import report_pdf
    from edgecell.edge.report.signing import Reports

    if pdf_file is None:
        claim(pdf_file := folder / "report.pdf", "PDF")
    if csv_file is None:
        claim(csv_file := folder / "report.csv", "CSV")
    with open_database(folder, "ro") as database:
        reports = Reports(Review(folder, database))
        content, view = reports.content(version), reports.shown(version)
    write_atomically(pdf_file, report_pdf(view))
    write_atomically(csv_file, report_csv(content))
    lines = [view.standing, *([view.caveat] if view.caveat else [])]
    lines += [_written(pdf_file, csv_file), RESEARCH_USE]
    report("\n".join(lines), {"standing": view.standing, "report": content}, json_file)


@command.command("trace", short_help="Trace a cell back to its pixels.")
@_folder
@click.argument("cell", type=click.IntRange(1, 2**63 - 1))
@click.option(
    "--out",
    type=OutputFolder(),
    help="Write the crops into this folder.",
)
@json_option
def trace_command(
    folder: Path, cell: int, out: Path | None, json_file: str | None
) -> None:
    """Show the sightings that the decision on CELL in FOLDER's session rests on.

    With --out, each crop is written twice: as the network saw it (.png), and in the
    frame's own pixels (.jpg).
    """
    require("cv2", "edge")
    from edgecell.edge.record.sessions import open_session

    with open_session(folder) as session:
        decision = session.decision(cell)
        sightings = session.sightings(decision.cell)
        words = session.words([decision]).get(decision.cell)
    written = 0
    for s in sightings:
        if out is None or s.seen is None or s.pixels is None:
            continue
        stem = f"cell{decision.cell:05d}-frame{s.frame:06d}"
        write_atomically(out / f"{stem}.png", s.seen)
        write_atomically(out / f"{stem}.jpg", s.pixels)
        written += 1
    same = "" if decision.cell == cell else f" (the same cell as {cell})"
    lines = [
        f"Cell {decision.cell}{same}: {_verdict(decision)}",
        *(filter(None, (str(words), words.sentence)) if words else ()),
        f"Mean of the logits of {several(decision.votes, 'sighting')}:",
        f"{'frame':>8}  {'name':<20}  {'captured (UTC)':<19}  {'centre':<10}class",
        *(_sighting_line(s) for s in sightings),
        *([f"Crops of {several(written, 'sighting')}: {out}"] if out else []),
        RESEARCH_USE,
    ]
    data = _cell_data(decision) | {
        "attributes": words and words.to_dict(),
        "sightings": [s.to_dict() for s in sightings],
    }
    report("\n".join(lines), data, json_file)


def _cell_data(decision: "Decision") -> dict[str, object]:
    return {
        "cell": decision.cell,
        "class": decision.code,
        "probability": decision.probability,
        "review": list(decision.reasons),
        "votes": decision.votes,
        "logits": _list(decision.logits),
    }


def _list(logits: "npt.NDArray[np.float32] | None") -> list[float | None] | None:
    """Ready for JSON, which has no infinity: a class that the cell's size excludes."""
    if logits is None:
        return None
    return [x if math.isfinite(x) else None for x in logits.tolist()]


for _other in (export_command, import_command, send_command):
    command.add_command(_other)
