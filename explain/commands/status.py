"""``edgecell explain status``."""

from pathlib import Path

import click

from edgecell import RESEARCH_USE
from edgecell.cli import json_option, report
from edgecell.optional import require


@click.command(
    "status", short_help="Show which explanations are queued, done and set aside."
)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@json_option
def command(folder: Path, json_file: str | None) -> None:
    """Show how many explanations in FOLDER wait, are being made, are done or failed.

    FOLDER is a session that 'edgecell run' recorded, or a folder of sessions.
    """
    require("cv2", "edge")
    from edgecell.explain.queue import JobQueue, each_queue

    found, unreadable = each_queue(folder, "ro", JobQueue.status)
    lines = []
    for s in found:
        lines.append(
            f"{s.folder}: {s.waiting} waiting, {s.held} held by a worker, {s.done} "
            f"done, {len(s.set_aside)} set aside"
        )
        lines += [f"  cell {a.cell}, {a.method}: {a.error}" for a in s.set_aside]
    data = {"sessions": [s.to_dict() for s in found], "unreadable": unreadable}
    report("\n".join([*lines, *unreadable, RESEARCH_USE]), data, json_file)
