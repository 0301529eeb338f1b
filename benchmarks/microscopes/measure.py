"""Models' results on microscopes they know and don't: verdict, adapting, frames.

    python -m edgecell.benchmarks microscopes OUT.json MODEL... --data pbc/ \\
        --data raabin/ --data bccd/ --frames frames/ --truth frames-subtypes.csv

A model's record says which data sets it has learned; each is judged on the others as on
microscopes that it never saw.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from edgecell.benchmarks.microscopes.cells import (
    FEW,
    Looked,
    adapt_draws,
    classes_unknown,
    files_of,
    look,
    told_unknown,
)
from edgecell.benchmarks.microscopes.colour import measure_colour, reference
from edgecell.benchmarks.microscopes.frames import measure_frames, read_truth
from edgecell.cli import OutputFile, PoliteCommand
from edgecell.errors import InputError
from edgecell.files import write_atomically
from edgecell.model.classifier import Classifier

NAMED = (10, 25, 50, 100)
"""Cells that are named before the others are judged."""

_MOST_NAMED = 0.75
_VERDICTS = 4000

Figures = dict[str, Any]

_place = click.Path(path_type=Path, exists=True)


@click.command("microscopes", cls=PoliteCommand, no_args_is_help=True)
@click.argument("out", type=OutputFile("JSON"))
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--data", type=_place, multiple=True, help="Cells of one microscope.")
@click.option("--frames", type=_place, help="Labelled frames, with --truth.")
@click.option("--truth", type=_place, help="CSV: frame, source, class of its cell.")
@click.option(
    "--stain-of",
    type=_place,
    help="Also correct colours: data whose red cells those of --data are matched to.",
)
@click.option("--draws", type=click.IntRange(2), default=20, show_default=True)
def command(
    out: Path,
    models: tuple[str, ...],
    data: tuple[Path, ...],
    frames: Path | None,
    truth: Path | None,
    stain_of: Path | None,
    draws: int,
) -> None:
    """Measure each MODEL on microscopes it knows and doesn't, and write OUT, JSON.

    Of the data sets that a model has learned, by its record, only the test split is
    looked at. Draws of ten cells, of one slide each where slides are named, say how
    often a microscope is called unknown; --draws of 10 to 100 cells of the others say
    what adapting brings. Frames count for models that have not learned their source.
    """
    read = {} if truth is None else read_truth(truth)
    found = []
    for model in models:
        classifier = Classifier(model)
        if not classifier.record.microscopes:
            raise InputError(
                f"{model} describes no microscopes; convert it with 'edgecell "
                "convert', or see 'python -m edgecell.convert.microscopes --help'"
            )
        figures = _measure(classifier, data, draws, stain_of)
        foreign = {
            frame: (source, label)
            for frame, (source, label) in read.items()
            if source not in figures["trained_on"]
        }
        if frames is not None and foreign:
            each = measure_frames(classifier, frames, foreign)
            figures["frames"] = {source: asdict(f) for source, f in each.items()}
        found.append(_rounded(figures))
    write_atomically(out, json.dumps({"models": found}, indent=1) + "\n")
    click.echo("\n".join(line for figures in found for line in table(figures)))


def _measure(
    classifier: Classifier, data: tuple[Path, ...], draws: int, stain_of: Path | None
) -> Figures:
    """The figures of one model, but for frames."""
    record = classifier.record
    learned: list[str] = record.training.get("sources", [])
    figures: Figures = {
        "model_sha256": record.model_sha256,
        "trained_on": learned,
        "unknown": {},
        "adapted": {},
        "colour": {},
        "frames": {},
    }
    aim = None if stain_of is None else reference(stain_of, record.preprocessing)
    for place in data:
        files = files_of(place, known=False)
        if not files:
            raise InputError(f"{place} has no images in folders named after classes")
        known = files[0].source in learned
        cells = look(classifier, place, known)
        figures["unknown"][cells.name] = _verdicts(cells, classifier, known)
        if not known:
            figures["adapted"][cells.name] = [
                asdict(adapt_draws(cells, classifier, n, draws))
                for n in NAMED
                if n <= _MOST_NAMED * len(cells.sets)
            ]
        if aim is not None:
            colour = measure_colour(classifier, place, cells, aim, known, draws)
            figures["colour"][cells.name] = asdict(colour) | {"spread": colour.spread}
    return figures


def _verdicts(cells: Looked, classifier: Classifier, known: bool) -> Figures:
    record = classifier.record
    right = cells.right(cells.logits, record.codes)
    return {
        "known": known,
        "described": cells.name in {m.name for m in record.microscopes},
        "cells": len(right),
        "slides": len(set(cells.slides) - {""}),
        "right": int(right.sum()),
        "draws": _VERDICTS,
        "unknown": told_unknown(cells, record, _VERDICTS),
        "unknown_by_class": classes_unknown(cells, record, _VERDICTS),
    }


def _rounded(value: Any) -> Any:
    """The same with four decimals."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return round(value, 4) if isinstance(value, float) else value


def table(figures: Mapping[str, Any]) -> Iterator[str]:
    """A model's figures as text."""
    learned = ", ".join(figures["trained_on"])
    yield f"Model {figures['model_sha256'][:12]}, which has learned {learned}"
    yield f"{'microscope':<14}{'cells':>6}{'right':>8}  draws called unknown"
    for name, row in figures["unknown"].items():
        by = f", by {row['slides']} slides" if row["slides"] else ""
        told = "" if row["described"] else ", too few cells to be described"
        yield (
            f"{name:<14}{row['cells']:>6}{row['right'] / row['cells']:>8.1%}  "
            f"{row['unknown']:.2%}{by}"
            f"{f' (learned{told})' if row['known'] else ''}"
        )
        alone = ", ".join(f"{k} {v:.1%}" for k, v in row["unknown_by_class"].items())
        if alone:
            yield f"  of one class: {alone}"
    if figures["adapted"]:
        yield f"{'adapted to':<14}{'cells':>6}  right after (95 % of the mean), worst"
    for name, rows in figures["adapted"].items():
        for row in rows:
            low, high = row["after_interval"]
            yield (
                f"{name:<14}{row['cells']:>6}  {row['after']:.1%} "
                f"({low:.1%}-{high:.1%}), {row['worst']:.1%}; "
                f"written {row['written']:.0%}, then worst change "
                f"{100 * row['worst_change']:+.1f} points, mean {row['kept']:.1%}; "
                f"accepted {row['accepted']:.0%}, {row['accepted_right']:.1%} right"
            )
    yield from _colour_lines(figures["colour"])
    yield from _frame_lines(figures["frames"])
    yield ""


def _colour_lines(colour: Mapping[str, Any]) -> Iterator[str]:
    gains = []
    for name, each in colour.items():
        row = each["all"]
        gain = 100 * (row["after"] - row["before"]) / row["cells"]
        adapted = ""
        if each["adapted"] is not None:
            adapted = f", {each['adapted']:.1%} after adapting to {FEW} such cells"
        gains += [] if each["known"] else [gain]
        known = " (learned)" if each["known"] else ""
        yield (
            f"colour of {name}{known}: {row['before'] / row['cells']:.1%} right, "
            f"corrected {row['after'] / row['cells']:.1%} ({gain:+.1f} points, "
            f"{row['better']} better, {row['worse']} worse){adapted}; "
            f"factors {row['factors']}, "
            f"from one class alone up to {each['spread']:.2f} times as large or small"
        )
        alone = each["by_class"].values()
        before, after = (sum(r[key] for r in alone) for key in ("before", "after"))
        yield (
            f"  each class as a slide of its own: {before / row['cells']:.1%}, "
            f"corrected {after / row['cells']:.1%}"
        )
    if gains:
        mean = sum(gains) / len(gains)
        yield f"colour, mean of those not learned: {mean:+.1f} points"


def _frame_lines(frames: Mapping[str, Any]) -> Iterator[str]:
    for source, row in frames.items():
        yield (
            f"frames of {source}: {row['frames']}, found {row['found']}, right "
            f"{row['right']} ({row['right'] / row['frames']:.1%}); the rule takes "
            f"{row['by_rule']}, {row['by_rule_right']} right; {row['microscope']} "
            f"(draws unknown {row['unknown']:.1%}): accepted {row['accepted']}"
        )
    if len(frames) > 1:
        right, n = (
            sum(row[key] for row in frames.values()) for key in ("right", "frames")
        )
        yield f"frames in all: {n}, right {right} ({right / n:.1%})"
