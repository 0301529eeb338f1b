"""``edgecell explain``: a group, its commands imported when they are called."""

import click

from edgecell.cli import LazyGroup

COMMANDS: dict[str, tuple[str, str]] = {
    "work": (
        "edgecell.explain.commands.work",
        "Make the explanations that wait on sessions' queues.",
    ),
    "status": ("edgecell.explain.commands.status", "Show how sessions' queues stand."),
    "retry": (
        "edgecell.explain.commands.retry",
        "Put what was set aside back on the queue.",
    ),
    "show": (
        "edgecell.explain.commands.show",
        "Draw explanations of cells beside each other.",
    ),
    "evaluate": (
        "edgecell.explain.commands.evaluate",
        "Measure how far explanations can be believed.",
    ),
}


@click.group(
    "explain",
    cls=LazyGroup,
    lazy=COMMANDS,
    short_help="Explain cells: the queue of a session, pictures, measurement.",
)
def command() -> None:
    """Explain why cells are called what they are called.

    'edgecell run --explain flagged' puts cells on the queue of its session; 'work'
    makes their explanations, later or beside it.
    """
