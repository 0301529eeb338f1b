"""``edgecell evaluate``."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecell.cli import OutputFolder, json_option, manifest_option, refuse, report
from edgecell.files import several

if TYPE_CHECKING:
    from edgecell.benchmarks.attributes import AttributeReport
    from edgecell.benchmarks.background import Transplant
    from edgecell.benchmarks.evaluation import Evaluation
    from edgecell.benchmarks.frame_evaluation import FrameFigures, FrameReport
    from edgecell.benchmarks.robustness import Condition


def _percent(value: float | None, width: int = 9) -> str:
    return f"{100 * value:>{width}.1f}" if value is not None else f"{'-':>{width}}"


def _review_lines(e: "Evaluation") -> list[str]:
    if e.accepted is None:
        return []
    kinds = ", ".join(f"{kind} {n}" for kind, n in sorted(e.review_reasons.items()))
    return [
        f"accepted without review: {_percent(e.accepted, 0)} %, of which "
        f"{_percent(e.accepted_right, 0)} % right; for review: {kinds or 'none'}"
    ]


def robustness_table(rows: Sequence["Condition"]) -> str:
    """Accuracy on changed images as text."""
    lines = [f"{'change':<12}{'level':<28}{'accuracy':>9}{'macro recall':>14}"]
    lines += [
        f"{r.change:<12}{r.level:<28}{_percent(r.accuracy)}"
        f"{_percent(r.macro_recall, 14)}"
        for r in rows
    ]
    return "\n".join(lines)


def background_table(rows: Sequence["Transplant"]) -> str:
    """Cells on other backgrounds as text."""
    lines = [
        "cells cut out and laid over another background: share still called the same,",
        "share called a class that only the background's source has",
        f"{'class':<7}{'cells':<12}{'background':<12}{'n':>5}{'kept':>9}{'lured':>9}",
    ]
    lines += [
        f"{r.code:<7}{r.cells:<12}{r.backgrounds:<12}{r.n:>5}{_percent(r.kept)}"
        f"{_percent(r.lured)}"
        for r in rows
    ]
    return "\n".join(lines)


def attributes_table(r: "AttributeReport") -> str:
    """Figures of the attributes as text."""
    heads = ("accuracy", "macro F1", "cal. error", "annotators")
    lines = [
        f"attributes of {several(r.cells, 'cell')}: mean accuracy "
        f"{100 * r.accuracy:.1f} %, mean macro F1 {100 * r.macro_f1:.1f} %; "
        "annotators: two of them agree",
        f"{'attribute':<28}{'n':>6}" + "".join(f"{h:>12}" for h in heads),
    ]
    for name, f in r.attributes.items():
        shares = (f.accuracy, f.macro_f1, f.ece, f.agreement)
        numbers = "".join(_percent(share, 12) for share in shares)
        lines.append(f"{name:<28}{f.n:>6}{numbers}")
    lines.append(
        f"of {r.misclassified} misclassified cells the attributes of "
        f"{r.towards_truth} are more typical of the true class"
    )
    lines += [
        f"of {b.n} {b.truth} that the model calls {b.called}, the annotators agree "
        f"with the model on {b.sided}"
        for b in r.band_errors
    ]
    c = r.consensus
    lines.append(
        f"consensus accuracy: {_percent(c.accuracy, 0)} % of the {c.n} cells whose "
        f"class no annotator contradicts; {_percent(c.contradicted_accuracy, 0)} % of "
        f"the other {c.contradicted}"
    )
    return "\n".join(lines)


def table(e: "Evaluation") -> str:
    """The figures as text."""
    auc = "-" if e.macro_auc is None else f"{e.macro_auc:.4f}"
    lines = [
        f"{several(e.n, 'image')}: accuracy {100 * e.accuracy:.1f} %, macro recall "
        f"{_percent(e.macro_recall, 0)} %, macro F1 {_percent(e.macro_f1, 0)} %, "
        f"macro AUC {auc}",
        f"95 % interval of the accuracy {100 * e.accuracy_ci95[0]:.1f} to "
        f"{100 * e.accuracy_ci95[1]:.1f} %, calibration error {100 * e.ece:.1f} %",
        f"with BNE and SNE as one class, MMY, MY and PMY as another: "
        f"{100 * e.grouped_accuracy:.1f} % right",
        *_review_lines(e),
        "",
        f"{'class':<8}{'n':>6}{'precision':>11}{'recall':>9}{'F1':>9}{'AUC':>9}",
    ]
    for code, f in e.per_class.items():
        auc = "-" if f.auc is None else f"{f.auc:.4f}"
        lines.append(
            f"{code:<8}{f.n:>6}{_percent(f.precision, 11)}{_percent(f.recall)}"
            f"{_percent(f.f1)}{auc:>9}"
        )
    if e.per_set:
        lines += ["", f"{'one of':<16}{'n':>6}{'right':>10}"]
    lines += [
        f"{label:<16}{f.n:>6}{_percent(f.right, 10)}" for label, f in e.per_set.items()
    ]
    lines += [
        "",
        f"{'source':<16}{'n':>6}{'accuracy':>10}{'merged':>10}{'macro recall':>14}",
    ]
    for name, s in e.per_source.items():
        lines.append(
            f"{name:<16}{s['n']:>6}{_percent(s['accuracy'], 10)}"
            f"{_percent(s['grouped_accuracy'], 10)}{_percent(s['macro_recall'], 14)}"
        )
    lines += ["", "confusion matrix (rows true, columns predicted)"]
    lines.append(" " * 5 + "".join(f"{c:>5}" for c in e.classes))
    for code, row in zip(e.classes, e.confusion, strict=True):
        lines.append(f"{code:<5}" + "".join(f"{v or '.':>5}" for v in row))
    return "\n".join(lines)


def frames_table(report: "FrameReport") -> str:
    """The finder's figures as text, over all frames and by frame size."""
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


@click.command("evaluate", short_help="Measure a model's accuracy, or the finder's.")
@click.argument("model", required=False)
@click.argument("data", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--split",
    type=click.Choice(["unseen", "all", "train", "val", "test"]),
    default="unseen",
    show_default=True,
    help="Split of DATA to measure on. The content of an image decides its split. "
    "'unseen' is the test split of the sources that MODEL was trained on, and all "
    "images of other sources. With --frames: the folder of that name, or all.",
)
@click.option(
    "--frames",
    type=click.Path(path_type=Path),
    help="Instead, measure how well cells are found in frames, in a folder or zip file "
    "with YOLO labels (0 white cell, 1 red cell, 2 platelet).",
)
@click.option(
    "--finder",
    type=click.Path(path_type=Path, dir_okay=False),
    help="With --frames: file of a finder of cells.  [default: the bundled one]",
)
@manifest_option
@click.option(
    "--attributes",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Also measure the attributes that MODEL predicts, such as the shape of the "
    "nucleus, on the cells of a CSV table: img_name,nucleus_shape,... Also "
    "measure the accuracy without the neutrophils whose class the table "
    "contradicts.",
)
@click.option(
    "--robustness",
    is_flag=True,
    help="Also measure on images that are blurred, darkened, stained differently or "
    "compressed, and on cells with another background.",
)
@click.option(
    "--pictures",
    type=OutputFolder(),
    metavar="FOLDER",
    help="Also draw the confusion matrix, ROC curves and the misclassified cells.",
)
@json_option
def command(
    model: str | None,
    data: tuple[Path, ...],
    split: str,
    frames: Path | None,
    finder: Path | None,
    manifest: Path | None,
    attributes: Path | None,
    robustness: bool,
    pictures: Path | None,
    json_file: str | None,
) -> None:
    """Measure how often MODEL is right on labelled cells.

    MODEL is a .keras, .tflite or .onnx file, or 'bundled'. DATA are folders or zip
    files in which the directory above an image names its class.
    """
    if frames is not None:
        if model:
            raise click.UsageError("--frames takes no MODEL: it measures the finder")
        others = ("manifest", "attributes", "robustness", "pictures")
        refuse(others, "is not for --frames")
        from edgecell.benchmarks.frame_evaluation import evaluate_frames

        part = None if split in ("unseen", "all") else split
        of_frames = evaluate_frames(frames, part, finder)
        report(frames_table(of_frames), of_frames.to_dict(), json_file)
        return
    if finder:
        raise click.UsageError("--finder is for --frames")
    if not model or not data:
        raise click.UsageError("give a MODEL and DATA to measure it on, or --frames")
    from edgecell.benchmarks.evaluation import draw, evaluate
    from edgecell.data.manifest import check_split, scan_split, unseen
    from edgecell.model.modelfile import resolve
    from edgecell.model.predict import read_record
    from edgecell.morphology.table import read_attributes

    path = resolve(model)
    named = read_attributes(attributes) if attributes else None
    found = scan_split(data, manifest)
    record = read_record(path)
    if split == "unseen":
        files = unseen(record, found)
    else:
        if split != "all":
            check_split(record, found)
        files = [f for f in found if split in ("all", f.split)]
    answers = evaluate(path, files)
    texts = [f"{path.name}, split {split}\n{table(answers.figures)}"]
    result = answers.figures.to_dict()
    if named is not None:
        from edgecell.benchmarks.attributes import evaluate_attributes

        told = evaluate_attributes(path, answers, named)
        texts.append(attributes_table(told))
        result["attributes"] = told.to_dict()
    if robustness:
        from edgecell.benchmarks.background import transplants
        from edgecell.benchmarks.robustness import robustness as measure

        conditions = measure(path, files)
        texts.append(robustness_table(conditions))
        result["robustness"] = [asdict(c) for c in conditions]
        if len({f.source for f in files}) > 1:
            rows = transplants(path, files)
            texts.append(background_table(rows))
            result["backgrounds"] = [asdict(r) for r in rows]
    if pictures:
        draw(answers, pictures)
        texts.append(f"pictures: {pictures}")
    report("\n\n".join(texts), result, json_file)
