"""Pictures of explanations, drawn with matplotlib without a display."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from edgecell import RESEARCH_USE
from edgecell.explain.evaluation import ExplainReport
from edgecell.explain.faithfulness import ROAD_SHARES, STEPS
from edgecell.explain.methods import Explanation, Heat, runner_up
from edgecell.explain.rows import AttributeMap, Row
from edgecell.image.regions import nucleus_and_cell
from edgecell.optional import require
from edgecell.plots import figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
_OUTLINE = "#00a0ff"
_NOTE = (
    "Blue: outline of the cell. Hatched: beyond the frame, mirrored.\n"
    "del, ins: deletion and insertion area."
)


def draw_rows(rows: Sequence[Row], path: Path) -> None:
    """Writes the picture of `rows_figure` as PNG.

    Raises:
        OutputError: the file can't be written.
    """
    save(rows_figure(rows), path)


def rows_figure(rows: Sequence[Row]) -> "Figure":
    """Draws cells, each beside its explanations, over a scale for each column.

    Each map is scaled by its own largest absolute value. More than six cells stand in
    two blocks.

    Args:
        rows: at least one.
    """
    methods = list(dict.fromkeys(e.method for r in rows for e in r.explanations))
    blocks = 1 if len(rows) <= _BLOCK else 2
    width, n = 1 + len(methods) + len(rows[0].maps), -(-len(rows) // blocks)
    said = any(row.words and row.words.sentence for row in rows)
    high = 2.3 + (0.9 if said else 0.0)
    fig = figure(1.75 * width * blocks + 0.2, high * n + 0.8)
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
        _cell(places[line, 0], row, grey=False)
        for e, measured in zip(row.explanations, row.measured, strict=True):
            column = 1 + methods.index(e.method)
            title = f"{_TITLES[e.method]} for {row.prediction.codes[e.index]}"
            _panel(places[line, column], title, _scores(e, *measured))
            _cell(places[line, column], row, grey=True)
            shown = _heat(places[line, column], e, e.method in signed)
            places[n, column].set_axis_on()
            bar = fig.colorbar(shown, cax=places[n, column], orientation="horizontal")
            ticks = {-1: "against", 0: "0", 1: "for"} if e.method in signed else _FROM_0
            bar.set_ticks(list(ticks), labels=list(ticks.values()), fontsize=7)
        for column, told in enumerate(row.maps, 1 + len(methods)):
            _panel(places[line, column], *_told(told))
            _cell(places[line, column], row, grey=True)
            _colours(places[line, column], told.heat, signed=False)
    fig.supxlabel(f"{_NOTE}\n{RESEARCH_USE}", fontsize=8)
    return fig


_BLOCK = 6
_LINE = 31
"""Characters of a sentence below a cell."""

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


def _told(told: AttributeMap) -> tuple[str, str]:
    """The text above and below a map of an attribute."""
    name = told.attribute.replace("_", " ")
    if told.value is None:
        return name, "no attributes are predicted for it"
    return f"{name}:\n{told.value.value}", f"{told.value.probability:.0%}"


def _called(row: Row) -> str:
    codes, p = row.prediction.codes, row.prediction.probabilities
    best = row.prediction.index
    second = runner_up(p, best)
    called = f"{codes[best]} {p[best]:.1%}, then {codes[second]} {p[second]:.1%}"
    sentence = row.words.sentence if row.words else ""
    return "\n".join((called, *textwrap.wrap(sentence, _LINE)))


def _scores(e: Explanation, lost: float, gained: float) -> str:
    if e.empty:
        return "empty: no evidence for this class"
    text = f"del {lost:.2f}, ins {gained:.2f}"
    if "r2" in e.scores:
        text += f"\nR2 {e.scores['r2']:.2f}, stable {e.scores['top5_stability']:.2f}"
    if "efficiency" in e.scores:
        text += f"\n{e.scores['evaluations']:.0f} evaluations"
    return text


def _cell(axes: "Axes", row: Row, grey: bool) -> None:
    """The cell in the camera's pixels, its outline, and what is mirrored."""
    side = len(row.seen)
    extent = (0, side, side, 0)
    if grey:
        plain = cv2.cvtColor(row.pixels, cv2.COLOR_RGB2GRAY)
        axes.imshow(plain, cmap="gray", vmin=0, vmax=255, extent=extent)
    else:
        axes.imshow(row.pixels, extent=extent)
    _, cell = nucleus_and_cell(row.seen)
    if cell.any():
        middles = np.arange(side) + 0.5
        axes.contour(middles, middles, cell, [0.5], colors=_OUTLINE, linewidths=0.8)
    left, top, right, bottom = (share * side for share in row.beyond)
    for x, y, width, height in (
        (0, 0, left, side),
        (side - right, 0, right, side),
        (0, 0, side, top),
        (0, side - bottom, side, bottom),
    ):
        if width and height:
            axes.add_patch(
                require("matplotlib.patches", "explain").Rectangle(
                    (x, y), width, height, fill=False, hatch="////", ec="0.3", lw=0.5
                )
            )


def _heat(axes: "Axes", e: Explanation, signed: bool) -> Any:
    """A map over a cell, clear where it is 0; returns its scale."""
    return _colours(axes, np.zeros_like(e.heat) if e.empty else e.heat, signed)


def _colours(axes: "Axes", heat: Heat, signed: bool) -> Any:
    heat = heat / (float(np.abs(heat).max()) or 1.0)
    low, colours = (-1, _SIGNED) if signed else (0, _UNSIGNED)
    shown = axes.imshow(
        heat,
        cmap=colours,
        vmin=low,
        vmax=1,
        alpha=_OPACITY * np.sqrt(np.abs(heat)),
        extent=(0, len(heat), len(heat), 0),
    )
    return require("matplotlib.cm", "explain").ScalarMappable(shown.norm, shown.cmap)


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
