"""Options that several commands of the loop share."""

from pathlib import Path
from typing import Any

import click

from edgecell.cli import Number, claim
from edgecell.model import BUNDLED

COUNT = click.IntRange(1, 10**9)

model_option = click.option(
    "--model",
    default=BUNDLED,
    show_default=True,
    metavar="FILE",
    help="File that 'edgecell convert' wrote, .tflite or .onnx; 'bundled' is the "
    "built-in one.",
)


def _claimed(
    _ctx: click.Context, _param: click.Parameter, out: Path | None
) -> Path | None:
    """Keeps other results out of the files that a session writes itself."""
    if out is not None:
        claim(out / "differential.json", "JSON")
        claim(out / "differential.csv", "CSV")
    return out


def loop_options(command: Any) -> Any:
    """Options of commands that find and count cells: which model, where, until when."""
    for option in (
        click.option(
            "--red-cell-px",
            type=Number(0, min_open=True),
            metavar="PX",
            help="Diameter of a red cell in pixels, instead of measuring it in each "
            "frame.",
        ),
        click.option(
            "--until",
            multiple=True,
            metavar="GOAL",
            help="End once GOAL is decided: 'MYE<5%' once the 95 % interval lies "
            "wholly below or above 5 %, 'width:SNE<10%' once it is narrower than 10 %. "
            "May be given more than once. The intervals stay valid although they are "
            "looked at after every cell.",
        ),
        click.option(
            "--target",
            type=COUNT,
            metavar="N",
            help="End once N white cells are counted, such as 100 or 200.",
        ),
        click.option(
            "--out",
            type=click.Path(path_type=Path),
            callback=_claimed,
            help="New or empty folder.  [default: edgecell-out/<source>-<time>]",
        ),
        click.option(
            "--scope",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="Scope file that 'edgecell trust' wrote; it says whether cells of "
            "this microscope may be accepted without review.",
        ),
        model_option,
    ):
        command = option(command)
    return command
