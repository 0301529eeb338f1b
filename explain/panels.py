"""Pictures of explanations, drawn with matplotlib without a display."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from edgecell import RESEARCH_USE
from edgecell.errors import InputError
from edgecell.explain.evaluation import ExplainReport
from edgecell.explain.faithfulness import (
    ROAD_SHARES,
    STEPS,
    area,
    deletion,
    insertion,
)
from edgecell.explain.methods import Explanation, explain, runner_up
from edgecell.explain.queue import Explained, open_queue
from edgecell.image.preprocess import Rgb
from edgecell.model.classifier import Classifier, Prediction
from edgecell.optional import require
from edgecell.plots import figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TITLES = {
    "grad-cam": "Grad-CAM",
    "finer-cam": "Finer-CAM",
    "grad-cam++": "Grad-CAM++",
    "layer-cam": "LayerCAM",
    "lime": "LIME",
    "kernel-shap": "Kernel SHAP",
    "partition-shap": "Partition SHAP",
}
_UNSIGNED, _SIGNED = "viridis", "PuOr_r"
"""Perceptually uniform from 0 up; and diverging, with the same steps to both sides,
where a method also says what speaks against the class. Neither is a stain's colour."""

_OPACITY = 0.6


@dataclass(frozen=True, eq=False)
class Row:
    """One cell's panels.

    Attributes:
        name: what the row is called: a file, or a cell of a session.
        truth: the cell's label; None if it isn't known.
        seen: uint8 RGB (S, S, 3).
        prediction: the model's.
        explanations: of the class that the model names; of a recorded cell, of the
            class that its sightings together gave it.
        measured: deletion and insertion area of each explanation, NaN if it is empty.
    """

    name: str
    truth: str | None
    seen: Rgb
    prediction: Prediction
    explanations: tuple[Explanation, ...]
    measured: tuple[tuple[float, float], ...]


def explain_row(
    classifier: Classifier,
    seen: Rgb,
    name: str,
    truth: str | None,
    methods: Sequence[str],
    seed: int,
) -> Row:
    """Explains a cell by several methods and measures each explanation.

    Args:
        classifier: the model.
        seen: uint8 RGB (S, S, 3).
        name: see `Row`.
        truth: see `Row`.
        methods: names from `EXPLAINERS`.
        seed: of what they draw.
    """
    index = classifier.classify(seen).index
    found = [explain(m, classifier, seen, index, seed) for m in methods]
    return measured_row(classifier, seen, name, truth, found)


def measured_row(
    classifier: Classifier,
    seen: Rgb,
    name: str,
    truth: str | None,
    explanations: Sequence[Explanation],
) -> Row:
    """Measures explanations that are at hand; arguments as for `explain_row`."""
    measured = []
    for e in explanations:
        if e.empty:
            measured.append((np.nan, np.nan))
            continue
        lost = deletion(classifier, seen, e.heat, e.index)
        gained = insertion(classifier, seen, e.heat, e.index)
        measured.append((area(lost), area(gained)))
    return Row(
        name,
        truth,
        seen,
        classifier.classify(seen),
        tuple(explanations),
        tuple(measured),
    )


def session_rows(
    classifier: Classifier,
    folder: Path,
    code: str | None,
    methods: Sequence[str],
    per_class: int,
) -> list[Row]:
    """Rows of what was explained in a session, measured anew.

    Args:
        classifier: the model that the session was run with.
        folder: the session's.
        code: only explanations of this class; None takes all.
        methods: only these; none takes all.
        per_class: the first so many cells of each class.

    Raises:
        InputError: no session, or one of another model.
    """
    with open_queue(folder, "ro") as queue:
        if queue.model.model_sha256 != classifier.record.model_sha256:
            raise InputError(f"{folder} was run with another model; name that one")
        found = list(queue.results())
    cells: dict[tuple[str, int], list[Explained]] = {}
    for result in found:
        wanted = not methods or result.explanation.method in methods
        if wanted and code in (None, result.code) and result.seen is not None:
            cells.setdefault((result.code, result.cell), []).append(result)
    rows = []
    taken: Counter[str] = Counter()
    for (of, number), results in sorted(cells.items()):
        taken[of] += 1
        seen = results[0].seen
        if taken[of] <= per_class and seen is not None:
            maps = {r.explanation.method: r.explanation for r in results}
            name = f"{folder.name}, cell {number}"
            rows.append(measured_row(classifier, seen, name, None, list(maps.values())))
    return rows


def draw_rows(rows: Sequence[Row], path: Path) -> None:
    """Draws cells, each beside its explanations, over a scale for each column.

    Each map is scaled by its own largest absolute value. More than six cells stand in
    two blocks.

    Args:
        rows: at least one.
        path: the PNG to write.

    Raises:
        OutputError: the file can't be written.
    """
    methods = list(dict.fromkeys(e.method for r in rows for e in r.explanations))
    blocks = 1 if len(rows) <= _BLOCK else 2
    width, n = 1 + len(methods), -(-len(rows) // blocks)
    fig = figure(1.75 * width * blocks + 0.2, 2.3 * n + 0.8)
    grid = fig.subplots(
        n + 1, width * blocks, squeeze=False, height_ratios=[1.0] * n + [0.06]
    )
    for axes in grid.ravel():
        axes.set_axis_off()
    signed = {
        e.method
        for r in rows
        for e in r.explanations
        if not e.empty and e.heat.min() < 0
    }
    for number, row in enumerate(rows):
        block, line = divmod(number, n)
        places = grid[:, block * width : (block + 1) * width]
        _panel(places[line, 0], _headline(row), _called(row))
        places[line, 0].imshow(row.seen)
        for e, measured in zip(row.explanations, row.measured, strict=True):
            column = 1 + methods.index(e.method)
            title = f"{_TITLES[e.method]} for {row.prediction.codes[e.index]}"
            _panel(places[line, column], title, _scores(e, *measured))
            shown = _overlay(places[line, column], row.seen, e, e.method in signed)
            places[n, column].set_axis_on()
            bar = fig.colorbar(shown, cax=places[n, column], orientation="horizontal")
            ticks = {-1: "against", 0: "0", 1: "for"} if e.method in signed else _FROM_0
            bar.set_ticks(list(ticks), labels=list(ticks.values()), fontsize=7)
    fig.supxlabel(f"del, ins: deletion and insertion area.\n{RESEARCH_USE}", fontsize=8)
    save(fig, path)


_BLOCK = 6
_FROM_0 = {0: "0", 1: "for"}


def _panel(axes: "Axes", above: str, below: str) -> None:
    axes.set_axis_on()
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(above, fontsize=8)
    axes.set_xlabel(below, fontsize=7)


def _headline(row: Row) -> str:
    truth = "" if row.truth is None else f" (label {row.truth})"
    return f"{row.name}{truth}"


def _called(row: Row) -> str:
    codes, p = row.prediction.codes, row.prediction.probabilities
    best = row.prediction.index
    second = runner_up(p, best)
    return f"{codes[best]} {p[best]:.1%}, then {codes[second]} {p[second]:.1%}"


def _scores(e: Explanation, lost: float, gained: float) -> str:
    if e.empty:
        return "empty: nothing speaks for it"
    text = f"del {lost:.2f}, ins {gained:.2f}"
    if "r2" in e.scores:
        text += f"\nR2 {e.scores['r2']:.2f}, stable {e.scores['top5_stability']:.2f}"
    if "efficiency" in e.scores:
        text += f"\n{e.scores['evaluations']:.0f} evaluations"
    return text


def _overlay(axes: "Axes", seen: Rgb, e: Explanation, signed: bool) -> Any:
    """Grey cell under a map that is clear where it is 0."""
    grey = cv2.cvtColor(seen, cv2.COLOR_RGB2GRAY)
    axes.imshow(grey, cmap="gray", vmin=0, vmax=255)
    peak = float(np.abs(e.heat).max()) or 1.0
    heat = e.heat / peak
    low, colours = (-1, _SIGNED) if signed else (0, _UNSIGNED)
    alpha = np.full(heat.shape, 0.0 if e.empty else _OPACITY)
    if signed:
        alpha = alpha * np.sqrt(np.abs(heat))
    shown = axes.imshow(heat, cmap=colours, vmin=low, vmax=1, alpha=alpha)
    scale = require("matplotlib.cm", "explain").ScalarMappable(shown.norm, shown.cmap)
    return scale


def draw_curves(found: ExplainReport, path: Path) -> None:
    """Draws the mean curves of deletion, insertion and ROAD.

    Args:
        found: of `evaluate`.
        path: the PNG to write.

    Raises:
        OutputError: the file can't be written.
    """
    fig = figure(12, 4)
    places = fig.subplots(1, 3)
    shares = np.linspace(0, 100, STEPS + 1)
    for axes, kind, title, x in (
        (places[0], "deletion", "deletion (lower is better)", shares),
        (places[1], "insertion", "insertion (higher is better)", shares),
        (places[2], "road", "ROAD (lower is better)", 100 * np.array(ROAD_SHARES)),
    ):
        for m in found.methods:
            if kind in m.curves:
                control = m.method not in _TITLES
                axes.plot(
                    x,
                    m.curves[kind],
                    "k--" if m.method == "random" else "k:" if control else "-",
                    label=_TITLES.get(m.method, f"{m.method} (control)"),
                )
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("pixels, %")
        axes.set_ylim(0, 1.02)
        axes.grid(alpha=0.3)
    places[0].set_ylabel("probability of the class")
    places[2].set_ylabel("share still called the same")
    places[2].legend(fontsize=7)
    save(fig, path)
