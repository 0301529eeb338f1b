"""``edgecell trust``, and what other commands say about trust."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecell import RESEARCH_USE
from edgecell.cli import Number, OutputFile, json_option, report
from edgecell.files import several
from edgecell.model import BUNDLED
from edgecell.optional import require

if TYPE_CHECKING:
    from edgecell.edge.record.sessions import RecordedSession
    from edgecell.edge.report.trust import Trust

_ADAPT = 25
"""Cells that are worth naming before a model is adapted."""


def advice(microscope: str, more: int | None = None) -> str:
    """What to do about a microscope on which every cell is for review; '' on others.

    Args:
        microscope: the verdict, see `Verdict`.
        more: random cells to be named yet, if a scope file says how many.
    """
    from edgecell.edge.count.scope import Shown

    if "unknown" in microscope:
        return (
            f"; all cells of an unknown microscope are for review. Name {_ADAPT} or "
            "more, and 'edgecell adapt' learns the microscope"
        )
    if "calibrated" in microscope and "shown to be right" not in microscope:
        number = several(more or 0, "more random cell")
        if not more:
            number = f"{Shown(0, 0, 0, 0).missing} random cells or more"
        return (
            "; every cell is for review until a random sample has shown the model to "
            f"be right: name {number}, and see 'edgecell trust'"
        )
    return ""


def needed(session: "RecordedSession", microscope: str) -> list[str]:
    """How many more cells a person has to name, and what for.

    Args:
        session: a session.
        microscope: its verdict.
    """
    from edgecell.edge.record.trail import codes_of
    from edgecell.edge.report.trust import trust

    if not advice(microscope):
        return []
    named = sum(bool(codes_of(label)) for label in session.trail.reviewed().values())
    if "unknown" in microscope and not session.trail.drawn():
        return [
            f"Name {several(max(0, _ADAPT - named), 'more cell')}, of several classes, "
            "before you let 'edgecell adapt' learn this microscope."
        ]
    return [trust([session]).advice()]


def lines_of(found: "Trust") -> list[str]:
    """The figures as text, with exact 95 % intervals."""
    from edgecell.edge.count.exact import clopper_pearson

    def share(right: int, n: int) -> str:
        if not n:
            return "-"
        low, high = clopper_pearson(right, n)
        return f"{right} of {n}  {right / n:.0%}  ({low:.1%}-{high:.1%})"

    shown = found.shown
    apart = {
        "not named yet": found.unnamed,
        "learned by 'edgecell adapt'": found.learned,
        "without a class": found.unclassified,
    }
    left_out = "".join(f"; {n} {why}" for why, n in apart.items() if n)
    return [
        f"Random sample: {several(found.drawn, 'white cell')}{left_out}",
        f"{'Right:':<34}{share(shown.right, shown.cells)}",
        f"{'Right among those accepted:':<34}"
        f"{share(shown.accepted_right, shown.accepted)}",
        found.advice(),
    ]


@click.command(
    "trust", short_help="Show how often a model is right on your microscope."
)
@click.argument(
    "sessions",
    metavar="SESSION...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
)
@click.option(
    "--scope",
    "scope_file",
    type=OutputFile("JSON"),
    metavar="FILE",
    help="Write the result to this file, for 'edgecell run --scope'.",
)
@click.option(
    "--least",
    type=Number(50, 99.9),
    default=90,
    show_default=True,
    metavar="PERCENT",
    help="The lower bound must exceed this before cells are accepted.",
)
@click.option(
    "--model",
    default=BUNDLED,
    show_default=True,
    metavar="FILE",
    help="Model of the sessions. It is needed to recognise the microscope later, "
    "unless the model was adapted to it.",
)
@json_option
def command(
    sessions: tuple[Path, ...],
    scope_file: Path | None,
    least: float,
    model: str,
    json_file: str | None,
) -> None:
    """Show how often a model is right on a microscope, from a random sample of its
    cells.

    SESSIONS are recorded sessions of one model and one camera in which you drew cells
    at random and named them: in the browser ('edgecell page'), or with 'edgecell
    session export SESSION --sample 50 --cells FOLDER' and 'import'. Cells that
    'edgecell adapt' has learned from are left out.

    On a microscope that the model does not know, cells may be accepted without review
    only if enough of the cells that the model's rule accepts are right. The lower bound
    of the exact 95 % interval of that share must exceed --least: 36 of 36 cells are
    enough for 90 %.
    """
    require("cv2", "edge")
    from edgecell.edge.count.scope import write_scope
    from edgecell.edge.report.trust import trust_of
    from edgecell.errors import InputError
    from edgecell.files import printable

    found, scope = trust_of(sessions, least / 100, model)
    data = found.to_dict() | {"scope": None}
    lines = lines_of(found)
    if scope is not None and scope_file is not None:
        write_scope(scope_file, scope)
        data |= {"scope": str(scope_file)}
        lines += [f"Written: {printable(str(scope_file))}"]
    report("\n".join([*lines, RESEARCH_USE]), data, json_file)
    if scope is None and scope_file is not None:
        why = "the model knows this microscope, or no cell has identified it"
        if found.unnamed:
            why = f"name the other {several(found.unnamed, 'cell')} of the sample first"
        raise InputError(f"{scope_file} was not written: {why}")
