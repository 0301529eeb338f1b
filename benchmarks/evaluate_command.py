"""``edgecell evaluate``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecell.cli import json_option, report

if TYPE_CHECKING:
    from edgecell.benchmarks.evaluation import Evaluation
    from edgecell.edge.frame_evaluation import FrameFigures, FrameReport


def _percent(value: float | None, width: int = 9) -> str:
    return f"{100 * value:>{width}.1f}" if value is not None else f"{'-':>{width}}"


def table(e: "Evaluation") -> str:
    """The figures as text."""
    auc = "-" if e.macro_auc is None else f"{e.macro_auc:.4f}"
    lines = [
        f"{e.n} images: accuracy {100 * e.accuracy:.1f} %, macro recall "
        f"{100 * e.macro_recall:.1f} %, macro F1 {100 * e.macro_f1:.1f} %, "
        f"macro AUC {auc}",
        f"95 % interval of the accuracy {100 * e.accuracy_ci95[0]:.1f} to "
        f"{100 * e.accuracy_ci95[1]:.1f} %, calibration error {100 * e.ece:.1f} %",
        f"with BNE and SNE as one class, MMY, MY and PMY as another: "
        f"{100 * e.grouped_accuracy:.1f} % right",
        "",
        f"{'class':<8}{'n':>6}{'precision':>11}{'recall':>9}{'F1':>9}{'AUC':>9}",
    ]
    for code, f in e.per_class.items():
        auc = "-" if f.auc is None else f"{f.auc:.4f}"
        lines.append(
            f"{code:<8}{f.n:>6}{_percent(f.precision, 11)}{_percent(f.recall)}"
            f"{_percent(f.f1)}{auc:>9}"
        )
    lines += ["", f"{'source':<16}{'n':>6}{'accuracy':>10}{'macro recall':>14}"]
    for name, s in e.per_source.items():
        lines.append(
            f"{name:<16}{s['n']:>6}{_percent(s['accuracy'], 10)}"
            f"{_percent(s['macro_recall'], 14)}"
        )
    lines += ["", "confusion matrix (rows true, columns predicted)"]
    lines.append(" " * 5 + "".join(f"{c:>5}" for c in e.classes))
    for code, row in zip(e.classes, e.confusion, strict=True):
        lines.append(f"{code:<5}" + "".join(f"{v or '.':>5}" for v in row))
    return "\n".join(lines)


def frames_table(report: "FrameReport") -> str:
    """The localiser's figures as text, over all frames and by frame size."""
    lines = [
        "shares in %; centre error is a share of the cell's size",
        f"{'frames':<10}{'n':>6}{'white cells':>18}{'platelets':>18}"
        f"{'centre':>9}{'red-cell':>10}{'ms':>7}",
        f"{'':<10}{'':>6}{'recall':>9}{'prec.':>9}{'recall':>9}{'prec.':>9}"
        f"{'error':>9}{'error':>10}{'':>7}",
    ]
    rows: dict[str, FrameFigures] = {"all": report} | report.per_frame_size
    for name, f in rows.items():
        shares = (
            f.white_recall,
            f.white_precision,
            f.platelet_recall,
            f.platelet_precision,
            f.white_centre_error,
        )
        lines.append(
            f"{name:<10}{f.n_frames:>6}{''.join(map(_percent, shares))}"
            f"{_percent(f.red_cell_error, 10)}{f.ms_per_frame:>7.1f}"
        )
    return "\n".join(lines)


@click.command("evaluate", short_help="Measure a model's accuracy, or the localiser's.")
@click.argument("model", required=False)
@click.argument("data", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--split",
    type=click.Choice(["all", "train", "val", "test"]),
    default="all",
    show_default=True,
    help="Which part of DATA; every cell image belongs to one by its content. On the "
    "data that a model was trained on, only 'test' is honest. With --frames: the "
    "folder of that name.",
)
@click.option(
    "--frames",
    type=click.Path(path_type=Path),
    help="Instead: measure how well white cells are found in the frames of a folder "
    "or zip file with YOLO labels (0 white cell, 1 red cell, 2 platelet).",
)
@json_option
def command(
    model: str | None,
    data: tuple[Path, ...],
    split: str,
    frames: Path | None,
    json_file: str | None,
) -> None:
    """Measure how often MODEL is right on labelled cells.

    MODEL is a .keras or .tflite file, or 'bundled'. DATA are folders or zip files
    in which the directory above an image names its class.
    """
    if frames is not None:
        if model:
            raise click.UsageError("--frames takes no MODEL: it measures the localiser")
        from edgecell.edge.frame_evaluation import evaluate_frames

        found = evaluate_frames(frames, None if split == "all" else split)
        report(frames_table(found), found.to_dict(), json_file)
        return
    if not model or not data:
        raise click.UsageError("give a MODEL and DATA to measure it on, or --frames")
    from edgecell.benchmarks.evaluation import evaluate
    from edgecell.dataset import scan
    from edgecell.modelfile import resolve

    path = resolve(model)
    files = [f for f in scan(data) if split in ("all", f.split)]
    e = evaluate(path, files)
    report(f"{path.name}, split {split}\n{table(e)}", e.to_dict(), json_file)
