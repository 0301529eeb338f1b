"""``edgecell session export`` and ``import``: cells as folders, and back."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecell import RESEARCH_USE
from edgecell.cli import json_option, report
from edgecell.files import printable, several
from edgecell.optional import require

if TYPE_CHECKING:
    from edgecell.edge.record.trail import Trail

_folder = click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
_MOST_NAMES = 5


@click.command("export", short_help="Write a session's cells as folders of classes.")
@_folder
@click.option(
    "--cells",
    "out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    metavar="OUT",
    help="New or empty folder to write to.",
)
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Also write the cells that nobody has named.",
)
@click.option(
    "--sample",
    type=click.IntRange(1, 100_000),
    metavar="N",
    help="Write the unnamed cells of a random sample of N instead. The session keeps "
    "the sample; a larger N adds to it.",
)
@json_option
def export_command(
    folder: Path,
    out: Path,
    everything: bool,
    sample: int | None,
    json_file: str | None,
) -> None:
    """Write the cells of FOLDER that people have named as folders of classes.

    FOLDER is a session, or a folder of sessions. 'edgecell train', 'adapt' and
    'evaluate' read such folders. cells.csv in OUT says where each image comes from.

    Cells without a name go to OUT/unsorted, without the machine's guess. Sort them into
    folders named after their class (SNE, or NEU if you can't tell bands from segmented,
    'not a cell', other-LYA), then run 'edgecell session import'.
    """
    require("cv2", "edge")
    from tqdm import tqdm

    from edgecell.edge.record.connection import open_database
    from edgecell.edge.record.sessions import RecordedSession, find_sessions
    from edgecell.edge.record.trail import Trail
    from edgecell.edge.report import export
    from edgecell.errors import InputError
    from edgecell.files import write_atomically

    if everything and sample is not None:
        raise click.UsageError("give --all or --sample, not both")
    rows: list[export.ExportedCell] = []
    gone = 0
    few: list[str] = []
    sessions = find_sessions(folder)
    if not sessions:
        raise InputError(f"{folder} has no session that 'edgecell run' wrote")
    with export.new_folder(out) as partial:
        for path in tqdm(sessions, unit="session", leave=False, disable=None):
            with open_database(path, "rw" if sample else "ro") as database:
                session, trail = RecordedSession(path, database), Trail(path, database)
                cells = export.wanted_cells(session, trail, everything, sample)
                new, lost = export.export_cells(session, trail, cells, partial)
                if sample is not None:
                    few += _why_fewer(path, trail, len(cells), sample)
            rows += new
            gone += lost
        if not rows and sample is not None:
            why = "; ".join(few) or "--keep deleted their pixels"
            raise InputError(f"no cell of the sample is left to write: {why}")
        if not rows:
            raise InputError(
                f"nobody has named a cell of {folder}; --all writes unnamed ones too"
            )
        write_atomically(partial / export.MANIFEST, export.manifest_csv(rows))
    counts: dict[str, int] = {}
    for row in rows:
        place = Path(row.file).parts[0]
        counts[place] = counts.get(place, 0) + 1
    lines = [
        f"Wrote {several(len(rows), 'cell')} of {several(len(sessions), 'session')} "
        f"into {printable(str(out))}:",
        *(f"  {name:<24}{n:>6}" for name, n in sorted(counts.items())),
        *few,
        *([f"Left out because --keep deleted their pixels: {gone}"] if gone else []),
        RESEARCH_USE,
    ]
    data = {
        "out": str(out),
        "cells": len(rows),
        "labels": counts,
        "without_pixels": gone,
    }
    report("\n".join(lines), data, json_file)


def _why_fewer(folder: Path, trail: "Trail", unnamed: int, sample: int) -> list[str]:
    """Why fewer cells are written than were asked for."""
    drawn = len(trail.drawn())
    why = []
    if drawn < sample:
        why.append(f"{folder} has only {several(drawn, 'white cell')}")
    if unnamed < drawn:
        why.append(
            f"{several(drawn - unnamed, 'cell')} of the sample of {folder} "
            "already named"
        )
    return why


@click.command("import", short_help="Name cells by the folders they were sorted into.")
@_folder
@click.option(
    "--cells",
    "sorted_into",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    required=True,
    metavar="SORTED",
    help="Folder with a folder for each class, holding images that 'session export' "
    "wrote.",
)
@click.option("--person", required=True, help="Name of the person who sorted them.")
@json_option
def import_command(
    folder: Path, sorted_into: Path, person: str, json_file: str | None
) -> None:
    """Name cells of FOLDER's session by the folders they were sorted into.

    Each new name is added to the session's trail; nothing is overwritten. Images of
    other sessions and those in 'unsorted' are counted and left alone.
    """
    require("cv2", "edge")
    from edgecell.edge.record.connection import open_database
    from edgecell.edge.record.sessions import RecordedSession
    from edgecell.edge.record.trail import Trail
    from edgecell.edge.report.export import import_labels

    with open_database(folder, "rw") as database:
        done = import_labels(
            RecordedSession(folder, database),
            Trail(folder, database),
            sorted_into,
            person,
        )
    named, others = [n.to_dict() for n in done.named], list(done.others)
    shown = printable(", ".join(others[:_MOST_NAMES]))
    shown += ", ..." * (len(others) > _MOST_NAMES)
    lines = [
        f"Named {several(len(named), 'cell')}; already had this name: "
        f"{done.unchanged}, unsorted: {done.unsorted}",
        *(
            [
                f"Ignored {several(len(others), 'file')} that this session did not "
                f"export: {shown}"
            ]
            if others
            else []
        ),
        RESEARCH_USE,
    ]
    data = {
        "named": named,
        "unchanged": done.unchanged,
        "unsorted": done.unsorted,
        "others": others,
    }
    report("\n".join(lines), data, json_file)
