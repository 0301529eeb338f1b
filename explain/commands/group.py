"""``edgecell explain``: a group, its commands imported when they are called."""

import click

from edgecell.cli import LazyGroup

COMMANDS: dict[str, tuple[str, str]] = {
    "work": (
        "edgecell.explain.commands.work",
        "Make the explanations that are queued.",
    ),
    "status": (
        "edgecell.explain.commands.status",
        "Show which explanations are queued, done and set aside.",
    ),
    "retry": (
        "edgecell.explain.commands.retry",
        "Queue failed explanations again.",
    ),
    "show": (
        "edgecell.explain.commands.show",
        "Draw explanations of cells side by side.",
    ),
    "evaluate": (
        "edgecell.explain.commands.evaluate",
        "Measure how reliable explanations are.",
    ),
}


@click.group(
    "explain",
    cls=LazyGroup,
    lazy=COMMANDS,
    short_help="Explain why cells get their class.",
)
def command() -> None:
    """Explain why cells get their class.

    'edgecell run --explain flagged' queues cells in its session. 'edgecell explain
    work' makes their explanations, during the run or later.
    """
