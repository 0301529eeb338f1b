"""``edgecell explain retry``."""

from contextlib import ExitStack
from pathlib import Path

import click

from edgecell.explain.queue import open_queues


@click.command("retry", short_help="Put what was set aside back on the queue.")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def command(folder: Path) -> None:
    """Put the jobs of FOLDER that were set aside back on the queue.

    FOLDER is a session that 'edgecell run' recorded, or a folder of sessions.
    """
    with ExitStack() as stack:
        count = sum(queue.retry() for queue in open_queues(folder, stack))
    click.echo(f"{count} jobs are back on the queue; 'edgecell explain work' does them")
