"""``edgecell explain retry``."""

from pathlib import Path

import click

from edgecell.files import several
from edgecell.optional import require


@click.command("retry", short_help="Queue failed explanations again.")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def command(folder: Path) -> None:
    """Queue the failed explanations in FOLDER again.

    FOLDER is a session that 'edgecell run' recorded, or a folder of sessions.
    """
    require("cv2", "edge")
    from edgecell.explain.queue import JobQueue, each_queue

    counts, unreadable = each_queue(folder, "rw", JobQueue.retry)
    for line in unreadable:
        click.echo(line, err=True)
    click.echo(
        f"{several(sum(counts), 'job')} queued again; now run 'edgecell explain work'"
    )
