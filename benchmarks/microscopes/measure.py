"""A model's results on other microscopes: verdict, adapting, from frame to class.

    python -m edgecell.benchmarks microscopes OUT.json MODEL --known pbc/ \\
        --foreign raabin/ --foreign bccd/ --frames frames/ --truth frames-subtypes.csv

MODEL has to be one that never saw the foreign microscopes.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from edgecell.benchmarks.microscopes.cells import (
    Looked,
    adapt_draws,
    look,
    told_unknown,
)
from edgecell.benchmarks.microscopes.colour import measure_colour, reference
from edgecell.benchmarks.microscopes.frames import measure_frames, read_truth
from edgecell.cli import PoliteCommand
from edgecell.errors import InputError
from edgecell.files import write_atomically
from edgecell.model.classifier import Classifier

NAMED = (10, 25, 50, 100)
"""Cells that are named before the others are judged."""

_MOST_NAMED = 0.75
_VERDICTS = 4000

_place = click.Path(path_type=Path, exists=True)


@click.command("microscopes", cls=PoliteCommand, no_args_is_help=True)
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("model")
@click.option("--known", type=_place, multiple=True, help="Data it was trained on.")
@click.option("--foreign", type=_place, multiple=True, help="Data it never saw.")
@click.option("--frames", type=_place, help="Labelled frames, with --truth.")
@click.option("--truth", type=_place, help="CSV: frame, source, class of its cell.")
@click.option(
    "--stain-of",
    type=_place,
    help="Data whose red cells the colours of the foreign ones are corrected to.",
)
@click.option("--draws", type=click.IntRange(2), default=20, show_default=True)
def command(
    out: Path,
    model: str,
    known: tuple[Path, ...],
    foreign: tuple[Path, ...],
    frames: Path | None,
    truth: Path | None,
    stain_of: Path | None,
    draws: int,
) -> None:
    """Measure MODEL on microscopes that it knows and does not, and write OUT, JSON.

    Of the known ones it looks at the test split alone. Draws of ten cells, of one
    slide each where slides are named, say how often a microscope is called unknown;
    --draws of 10 to 100 cells say what adapting brings the other cells.
    """
    classifier = Classifier(model)
    if not classifier.record.microscopes:
        raise InputError(
            f"{model} describes no microscopes; convert it with 'edgecell convert', or "
            "see 'python -m edgecell.convert.microscopes --help'"
        )
    data: dict[str, Any] = {
        "model_sha256": classifier.record.model_sha256,
        "trained_on": classifier.record.training.get("sources"),
        "unknown": {},
        "adapted": {},
        "colour": {},
        "frames": {},
    }
    aim = None
    if stain_of is not None:
        aim = reference(stain_of, classifier.record.preprocessing)
    for places, is_known in ((known, True), (foreign, False)):
        for place in places:
            cells = look(classifier, place, is_known)
            _add(data, cells, classifier, is_known, draws)
            if aim is not None and not is_known:
                colour = measure_colour(classifier, place, cells, aim)
                data["colour"][cells.name] = asdict(colour)
    if frames is not None and truth is not None:
        found = measure_frames(classifier, frames, read_truth(truth))
        data["frames"] = {source: asdict(f) for source, f in found.items()}
    write_atomically(out, json.dumps(_rounded(data), indent=1) + "\n")
    click.echo("\n".join(table(data)))


def _add(
    data: dict[str, Any],
    cells: Looked,
    classifier: Classifier,
    known: bool,
    draws: int,
) -> None:
    right = cells.right(cells.logits, classifier.record.codes)
    data["unknown"][cells.name] = {
        "known": known,
        "cells": len(right),
        "slides": len(set(cells.slides) - {""}),
        "right": int(right.sum()),
        "draws": _VERDICTS,
        "unknown": told_unknown(cells, classifier.record, _VERDICTS),
    }
    if not known:
        data["adapted"][cells.name] = [
            asdict(adapt_draws(cells, classifier, n, draws))
            for n in NAMED
            if n <= _MOST_NAMED * len(right)
        ]


def _rounded(value: Any) -> Any:
    """The same with four decimals."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return round(value, 4) if isinstance(value, float) else value


def table(data: dict[str, Any]) -> list[str]:
    """The figures as text."""
    lines = [f"{'microscope':<14}{'cells':>6}{'right':>8}  draws called unknown"]
    for name, row in data["unknown"].items():
        by = f", by {row['slides']} slides" if row["slides"] else ""
        lines.append(
            f"{name:<14}{row['cells']:>6}{row['right'] / row['cells']:>8.1%}  "
            f"{row['unknown']:.2%}{by}{' (known)' * row['known']}"
        )
    lines += [
        "",
        f"{'adapted to':<14}{'cells':>6}  right after (95 % of the mean), worst",
    ]
    for name, rows in data["adapted"].items():
        for row in rows:
            low, high = row["after_interval"]
            lines.append(
                f"{name:<14}{row['cells']:>6}  {row['after']:.1%} "
                f"({low:.1%}-{high:.1%}), {row['worst']:.1%}; "
                f"written {row['written']:.0%}, then worst change "
                f"{100 * row['worst_change']:+.1f} points, mean {row['kept']:.1%}; "
                f"accepted {row['accepted']:.0%}, {row['accepted_right']:.1%} right"
            )
    for name, row in data["colour"].items():
        lines.append(
            f"colour of {name}: {row['before'] / row['cells']:.1%} right before, "
            f"{row['after'] / row['cells']:.1%} after; {row['better']} became right, "
            f"{row['worse']} wrong; factors of the density {row['factors']}"
        )
    for source, row in data["frames"].items():
        lines.append(
            f"frames of {source}: {row['frames']}, found {row['found']}, right "
            f"{row['right']} ({row['right'] / row['frames']:.1%}); the rule takes "
            f"{row['by_rule']}, {row['by_rule_right']} right; {row['microscope']} "
            f"(draws unknown {row['unknown']:.1%}): accepted {row['accepted']}"
        )
    return lines
