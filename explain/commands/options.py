"""Options that `explain show` and `explain evaluate` share."""

from collections.abc import Callable
from typing import Any

import click

from edgecell.explainers import EXPLAINERS


def drawn_cells(
    split: str, cells: int, methods_help: str
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds --split, --cells, --method and --seed: what to explain, and how.

    Args:
        split: default of --split.
        cells: default of --cells.
        methods_help: help of --method.
    """
    options = (
        click.option(
            "--split",
            type=click.Choice(["all", "train", "val", "test"]),
            default=split,
            show_default=True,
            help="Split of labelled DATA.",
        ),
        click.option(
            "--cells",
            type=click.IntRange(1, 10**6),
            default=cells,
            show_default=True,
            help="Number of cells of each class, chosen at random.",
        ),
        click.option(
            "--method",
            "methods",
            type=click.Choice(list(EXPLAINERS)),
            multiple=True,
            help=methods_help,
        ),
        click.option(
            "--seed",
            type=click.IntRange(0, 2**32 - 1),
            default=0,
            show_default=True,
            help="Seed of all random choices.",
        ),
    )

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return add
