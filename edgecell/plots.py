"""Pictures of figures, drawn with matplotlib's object interface: no display needed."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgecell.files import write_atomically
from edgecell.optional import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHEET_COLUMNS = 8


def figure(width: float, height: float) -> "Figure":
    """An empty figure, inches at 100 pixels each."""
    module = require("matplotlib.figure", "evaluate")
    made: Figure = module.Figure((width, height), layout="constrained")
    return made


def save(fig: "Figure", path: Path) -> None:
    """Writes a figure, atomically: as JPEG if the name says so, else as PNG.

    Raises:
        OutputError: the file can't be written.
    """
    buffer = io.BytesIO()
    jpeg = path.suffix.lower() in (".jpg", ".jpeg")
    fig.savefig(buffer, format="jpeg" if jpeg else "png")
    write_atomically(path, buffer.getvalue())


def learning_curves(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draws loss, accuracy and macro recall over the epochs.

    Args:
        rows: one an epoch, with the columns of ``history.csv``.
        path: the PNG to write.
    """
    losses = {"loss": "training (augmented)", "val_loss": "validation"}
    shares = {
        "accuracy": "training accuracy (augmented)",
        "val_accuracy": "validation accuracy",
        "val_macro_recall": "validation macro recall",
    }
    _curves(rows, ("epoch", "epoch"), losses, shares, path)


def job_curves(
    rows: Sequence[dict[str, Any]], sources: Sequence[str], path: Path
) -> None:
    """Draws loss and accuracy of a job over the views that it has seen.

    Args:
        rows: one a validation, with the columns of a job's ``history.csv``.
        sources: whose validation cells to show.
        path: the PNG to write.
    """
    losses = {"loss": "training (augmented, with attributes)"}
    shares = {}
    for source in sources:
        losses[f"{source} loss"] = f"validation, {source}"
        shares[f"{source} accuracy"] = f"validation accuracy, {source}"
        shares[f"{source} grouped"] = f"with merged groups, {source}"
    points = [row | {"views": row["images"] / 1000} for row in rows]
    _curves(points, ("views", "views, thousands"), losses, shares, path)


def _curves(
    rows: Sequence[dict[str, Any]],
    over: tuple[str, str],
    losses: Mapping[str, str],
    shares: Mapping[str, str],
    path: Path,
) -> None:
    """Draws columns over one of them: losses on the left, shares on the right.

    Args:
        rows: the points.
        over: column of the horizontal axis, and its label.
        losses: column -> label.
        shares: column -> label; drawn in per cent.
        path: the PNG to write.
    """
    x = [r[over[0]] for r in rows]
    fig = figure(9, 3.6)
    left, right = fig.subplots(1, 2)
    for name, label in losses.items():
        left.plot(x, [r[name] for r in rows], label=label)
    left.set_ylabel("loss")
    for name, label in shares.items():
        right.plot(x, [100 * r[name] for r in rows], label=label)
    right.set_ylabel("%")
    for axes in (left, right):
        for line in axes.lines:
            line.set_marker(".")  # one point makes no line
        axes.set_xlabel(over[1])
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    save(fig, path)


def confusion_matrix(
    confusion: Sequence[Sequence[int]], codes: Sequence[str], path: Path
) -> None:
    """Draws a confusion matrix, coloured by the share of the true class.

    Args:
        confusion: rows true class, columns predicted class.
        codes: class codes.
        path: the PNG to write.
    """
    counts = np.asarray(confusion)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    fig = figure(7, 6)
    axes = fig.subplots()
    image = axes.imshow(shares, cmap="viridis", vmin=0, vmax=1)
    fig.colorbar(image, label="share of the true class")
    axes.set_xticks(range(len(codes)), codes)
    axes.set_yticks(range(len(codes)), codes)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    for (row, column), n in np.ndenumerate(counts):
        if n:
            colour = "black" if shares[row, column] > 0.6 else "white"
            axes.text(
                column, row, n, ha="center", va="center", color=colour, fontsize=8
            )
    save(fig, path)


def roc_curves(
    y: npt.NDArray[np.int32],
    probabilities: npt.NDArray[np.float64],
    codes: Sequence[str],
    path: Path,
) -> None:
    """Draws each class's ROC curve against the rest.

    The false-positive axis is logarithmic: good curves differ at its left end.

    Args:
        y: int32 (N,), true classes.
        probabilities: float64 (N, C).
        codes: C class codes.
        path: the PNG to write.
    """
    metrics = require("sklearn.metrics", "evaluate")
    fig = figure(7, 5)
    axes = fig.subplots()
    colours = require("matplotlib", "evaluate").colormaps["tab20"].colors
    for c, code in enumerate(codes):
        if not 0 < np.count_nonzero(y == c) < len(y):
            continue
        false, true, _ = metrics.roc_curve(y == c, probabilities[:, c])
        area = metrics.roc_auc_score(y == c, probabilities[:, c])
        axes.plot(false, true, color=colours[c], label=f"{code} {area:.4f}")
    axes.set_xscale("symlog", linthresh=1e-3)
    axes.set_xlim(0, 1)
    axes.set_xlabel("false-positive rate")
    axes.set_ylabel("true-positive rate")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(title="area", fontsize="small", loc="lower right")
    save(fig, path)


def cell_sheet(
    images: npt.NDArray[np.uint8], titles: Sequence[str], path: Path
) -> None:
    """Draws cells in rows, each under its title.

    Args:
        images: uint8 RGB (N, S, S, 3), N >= 1.
        titles: N texts.
        path: the PNG to write.
    """
    rows = -(-len(images) // _SHEET_COLUMNS)
    fig = figure(1.3 * _SHEET_COLUMNS, 1.6 * rows)
    grid = np.ravel(fig.subplots(rows, _SHEET_COLUMNS))
    for axes in grid:
        axes.set_axis_off()
    for axes, image, title in zip(grid, images, titles, strict=False):
        axes.imshow(image)
        axes.set_title(title, fontsize=8)
    save(fig, path)
