"""``python -m edgecell``."""

from edgecell.cli import cli

cli()
