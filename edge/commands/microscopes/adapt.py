"""``edgecell adapt``."""

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecell import RESEARCH_USE
from edgecell.cli import OutputFile, json_option, report
from edgecell.errors import ModelError
from edgecell.optional import require

if TYPE_CHECKING:
    from edgecell.edge.adapt.adapt import Adaptation


def table(found: "Adaptation") -> list[str]:
    """The figures before and after as text, with 95 % Clopper-Pearson intervals."""
    from edgecell.edge.count.exact import clopper_pearson

    def share(right: int, n: int) -> str:
        low, high = clopper_pearson(right, n)
        return f"{right / n:>6.0%}  ({low:.0%}-{high:.0%})"

    rows = [(r.label.replace("|", " or "), r.n, r.before, r.after) for r in found.rows]
    lines = [
        f"{name:<14}{n:>6}{share(before, n):>20}{share(after, n):>20}"
        for name, n, before, after in [
            *rows,
            ("all", found.cells, found.before, found.after),
        ]
    ]
    losers = ", ".join(r.label.replace("|", " or ") for r in found.losers)
    return [
        f"{'label':<14}{'cells':>6}{'right before':>20}{'after':>20}",
        *lines,
        f"Each cell is judged by a head fitted without it: {found.better} became "
        f"right, {found.worse} wrong. If it were no better than the old one, chance "
        f"alone would make it look so in {100 * found.p:.2g} % of cases.",
        *([f"Right less often than before: {losers}."] if losers else []),
    ]


def _still_needed(found: "Adaptation") -> int:
    """Cells to be named before any is accepted, if the accepted ones are all right."""
    from edgecell.edge.count.scope import Shown

    share = max(found.accepted, 1) / found.cells
    return math.ceil(Shown(0, 0, 0, 0).missing / share)


@click.command("adapt", short_help="Adapt a model to your microscope.")
@click.argument("model")
@click.argument(
    "cells", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True)
)
@click.option(
    "--out",
    required=True,
    type=OutputFile("TFLite"),
    help="The .tflite file to write if the result is better than MODEL.",
)
@json_option
def command(
    model: str, cells: tuple[Path, ...], out: Path, json_file: str | None
) -> None:
    """Adapt MODEL to a microscope from CELLS of it that a person named.

    MODEL is a .tflite file, or 'bundled'. CELLS are sessions whose cells you reviewed,
    or folders or zip files in which the directory above an image names its class: a
    code, an English name, NEU, IG, or a set such as BNE|SNE. Give at least
    ten cells, better 25 to 100, all of one microscope.

    Only the last layer is fitted again, in seconds and without TensorFlow. How far it
    may move from MODEL's is chosen on cells that the fit has not seen. All classes are
    kept. Nothing is written if the result is not better.
    """
    # The products are small: more threads of numpy would only wait for one another.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    require("cv2", "edge")
    from edgecell.edge.adapt.adapt import adapt
    from edgecell.edge.adapt.cells import named_cells
    from edgecell.files import printable
    from edgecell.model.classifier import Classifier

    classifier = Classifier(model)
    named = named_cells(classifier, cells)
    adapted = adapt(classifier, named)
    found = adapted.figures
    if found.improves:
        adapted.write(out)
    left_out = ", ".join(f"{n} {why}" for why, n in named.left_out.items())
    lines = [
        *table(found),
        *([f"Left out: {left_out}."] if left_out else []),
        *(
            [
                f"The new rule would accept {found.accepted} of {found.cells}, "
                f"{found.accepted_right} of them correctly. 'edgecell run' flags every "
                "cell of this microscope until 'edgecell trust' has confirmed it from "
                f"{_still_needed(found)} more reviewed cells, drawn at random.",
                f"Written: {printable(str(out))}",
            ]
            if found.improves
            else []
        ),
        RESEARCH_USE,
    ]
    data = found.to_dict() | {
        "out": str(out) if found.improves else None,
        "left_out": dict(named.left_out),
    }
    report("\n".join(lines), data, json_file)
    if not found.improves:
        raise ModelError(
            f"{out} was not written: {found.after} of {found.cells} cells are right "
            f"instead of {found.before}, which may be chance; name more cells, or keep "
            "the model"
        )
