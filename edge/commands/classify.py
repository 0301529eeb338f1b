"""``edgecell classify``."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from glob import glob, has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecell import RESEARCH_USE
from edgecell.classes import CLASSES, PLATELET
from edgecell.cli import OutputFile, claim, json_option, refuse, report
from edgecell.edge.commands.options import model_option
from edgecell.errors import InputError
from edgecell.files import (
    check_writable,
    csv_text,
    printable,
    several,
    write_atomically,
)
from edgecell.optional import require

if TYPE_CHECKING:
    from edgecell.edge.analyse.single import RedCell, SingleCell
    from edgecell.model.classifier import Classifier
    from edgecell.model.microscopes.microscope import Microscope, Verdict
    from edgecell.model.modelfile import ModelRecord

_NAMES = {c.code: c.name for c in CLASSES}
_HEADER = f"{'class':<24}{'conf.':>6}  {'runner-up':<10}{'image':<32}to review"
_COLUMNS = (
    *("image", "class", "probability", "runner_up", "review", "error"),
    *("attributes", "sentence"),
)


def _diameter(_: click.Context, __: click.Parameter, text: str | None) -> "RedCell":
    """Reads ``--red-cell-px``: a number or 'measure'."""
    if text is None or text == "measure":
        return text  # type: ignore[return-value]
    try:
        return float(text)
    except ValueError:
        raise click.BadParameter(
            f"'{text}' is neither a number of pixels nor 'measure'"
        ) from None


@contextmanager
def images_of(
    arguments: tuple[str, ...],
) -> Iterator[list[tuple[str, Callable[[], bytes]]]]:
    """The images that the arguments name, each with what reads it.

    Args:
        arguments: images, folders, zip files and globs.

    Raises:
        InputError: there is nothing at an argument, or no image.
    """
    from edgecell.data.dataset import IMAGE_SUFFIXES
    from edgecell.data.members import open_files
    from edgecell.image.decode import read_file

    found: list[tuple[str, Callable[[], bytes]]] = []
    with ExitStack() as stack:
        for argument in arguments:
            paths = [Path(argument)]
            if has_magic(argument) and not paths[0].exists():
                paths = [Path(name) for name in sorted(glob(argument, recursive=True))]
            before = len(found)
            for path in paths:
                if path.is_dir() or path.suffix.lower() == ".zip":
                    sep = "/" if path.is_dir() else ":"
                    files = stack.enter_context(open_files(path))
                    found += [
                        (printable(f"{path}{sep}{member}"), content)
                        for member, content in files.items()
                        if member.suffix.lower() in IMAGE_SUFFIXES
                    ]
                elif path.exists():
                    found.append((printable(str(path)), partial(read_file, path)))
            if len(found) == before:
                known = ", ".join(IMAGE_SUFFIXES)
                raise InputError(
                    f"{argument} is not an image and contains none ({known})"
                )
        yield found


def cell_of(
    classifier: "Classifier",
    name: str,
    read: Callable[[], bytes],
    red_cell_px: "RedCell",
) -> "SingleCell | str":
    """The network's answer on an image; or why there is none."""
    from edgecell.data.dataset import decode
    from edgecell.edge.analyse.single import classify_single

    try:
        return classify_single(classifier, decode(read(), name), red_cell_px)
    except InputError as e:
        return str(e).removeprefix(f"{name} ")


def microscopes_of(
    cells: Sequence["SingleCell"], described: Sequence["Microscope"]
) -> dict[tuple[int, int], "Verdict"]:
    """Identifies the microscopes of single-cell images, as `edgecell run` does.

    Args:
        cells: of any microscopes; images of one size count as one microscope's.
        described: those of the model's record.

    Returns:
        The verdict by the images' (width, height), for each size of which there are
        enough images.
    """
    import numpy as np

    from edgecell.model.microscopes.microscope import CELLS, judge

    pooled: dict[tuple[int, int], list[Any]] = {}
    for cell in cells:
        if described and cell.code != PLATELET:
            pooled.setdefault(cell.size, []).append(cell.prediction.pooled)
    told = {}
    for size, each in pooled.items():
        if len(each) >= CELLS:
            # A folder is in the order of its classes: some from everywhere.
            some = np.linspace(0, len(each) - 1, CELLS).round().astype(int)
            told[size] = judge(np.stack([each[i] for i in some]), described)
    return told


def microscope_line(told: Mapping[tuple[int, int], "Verdict"]) -> str:
    """What the images show about the microscope, and what that means."""
    from edgecell.model.microscopes.microscope import CELLS, in_words

    if not told:
        return (
            f"Microscope: cannot be identified from fewer than {CELLS} images of one "
            "size. The classes are reliable only on a microscope that the model knows."
        )
    line = f"Microscope: {in_words(told)}"
    if all(verdict.trusted for verdict in told.values()):
        return line
    return f"{line}; all cells of an unknown microscope are for review"


def _row(
    record: "ModelRecord",
    name: str,
    found: "SingleCell | str",
    told: Mapping[tuple[int, int], "Verdict"],
) -> dict[str, Any]:
    """An image's class, ready for JSON; or why it has none."""
    from edgecell.edge.analyse.single import words_of
    from edgecell.edge.commands.archive.table import FLAGS

    if isinstance(found, str):
        return {"image": name, "error": found}
    verdict = told.get(found.size)
    flag = None if verdict is None else FLAGS.get(verdict.kind)
    words = None
    if verdict is not None and not found.gate:
        words = words_of(record, found.prediction, verdict)
    return {
        "image": name,
        "class": found.code,
        "name": _NAMES.get(found.code, found.code),
        "probability": round(found.probability, 6),
        "top": [
            {"class": code, "probability": round(p, 6)}
            for code, p in found.prediction.top(3)
        ],
        "review": [*found.reasons, *([flag] if flag else [])],
        "microscope": "not identified" if verdict is None else str(verdict),
        "red_cell_px": found.red_cell_px and round(found.red_cell_px, 1),
        "attributes": words and words.to_dict(),
    }


def _line(row: dict[str, Any]) -> str:
    name = row["image"]
    short = name if len(name) <= 30 else f"...{name[-27:]}"
    if "error" in row:
        return f"{'not classified':<42}{short:<32}{row['error']}"
    second = row["top"][1]
    runner_up = f"{second['class']} {second['probability']:.0%}"
    line = (
        f"{row['class']:<4}{row['name']:<20}{row['probability']:>6.0%}  "
        f"{runner_up:<10}{short:<32}{'; '.join(row['review'])}"
    ).rstrip()
    sentence = (row["attributes"] or {}).get("sentence")
    return f"{line}\n    {sentence}" if sentence else line


def _table(rows: list[dict[str, Any]]) -> str:
    """The rows as CSV."""
    return csv_text(
        _COLUMNS,
        (
            (
                row["image"],
                row.get("class", ""),
                row.get("probability", ""),
                row["top"][1]["class"] if "top" in row else "",
                "; ".join(row.get("review", ())),
                row.get("error", ""),
                *_words(row),
            )
            for row in rows
        ),
    )


def _words(row: dict[str, Any]) -> tuple[str, str]:
    """The attributes, such as 'nucleus_shape: unsegmented-band 0.84', and sentence."""
    said = row.get("attributes")
    if not said:
        return "", ""
    each = (
        f"{name}: {v['value']} {v['probability']:.2f}"
        for name, v in said["attributes"].items()
    )
    return "; ".join(each), said["sentence"]


@click.command("classify", short_help="Classify images of one cell each.")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@model_option
@click.option(
    "--red-cell-px",
    callback=_diameter,
    metavar="PX",
    help="Diameter of a red cell in the images, in pixels, or 'measure' to measure it "
    "in each.  [default: the images show as much of the field as training images]",
)
@click.option(
    "--csv",
    "csv_file",
    type=OutputFile("CSV"),
    help="Also write the table as CSV.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="TABLE",
    help="Write one .parquet or .csv table of any number of images, using all cores. "
    "After an interruption, run the same command again: it continues where it "
    "stopped.",
)
@click.option(
    "--frames",
    is_flag=True,
    help="With --out: the images are frames with many cells; each cell gets a row.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 1024),
    help="With --out: number of processes.  [default: one per core]",
)
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="With --out: use the Dask cluster with this scheduler, such as "
    "tcp://server:8786.",
)
@json_option
def command(
    images: tuple[str, ...],
    model: str,
    red_cell_px: "RedCell",
    csv_file: Path | None,
    out: Path | None,
    frames: bool,
    workers: int | None,
    scheduler: str | None,
    json_file: str | None,
) -> None:
    """Classify the cell in the middle of each IMAGE.

    IMAGE is a single-cell image, a folder or zip file of them, or a glob in quotes. A
    single-cell image is a small field with one cell in its middle, as in the public
    training sets. It is white-balanced and cropped as in training. Images that show
    more or less of the field need --red-cell-px, because the network knows cells at
    one scale only. For frames with many cells use 'edgecell run'.

    Ten or more images of one size show whether the model knows the microscope. If it
    does not, every cell is for review.

    Exit status 1 if an image can't be read; it is listed with the reason. With --out it
    is a row with the reason, and the status is 0.
    """
    require("cv2", "edge")
    from tqdm import tqdm

    from edgecell.edge.analyse.pipeline import check_red_cell_px
    from edgecell.model.classifier import Classifier

    if isinstance(red_cell_px, float):
        check_red_cell_px(red_cell_px)
    if out is not None:
        claim(out, "Parquet" if out.suffix == ".parquet" else "CSV")
        refuse(("csv_file",), "is not for --out, which writes a table itself")
        if scheduler:
            refuse(("workers",), "applies to this machine, not to --scheduler")
        if frames and red_cell_px == "measure":
            red_cell_px = None  # of frames it is measured anyway
        _archive(images, model, red_cell_px, frames, out, workers, scheduler, json_file)
        return
    refuse(("frames", "workers", "scheduler"), "is for --out")
    with images_of(images) as found:
        classifier = Classifier(model)
        bar = tqdm(found, "classifying", unit="image", disable=None, leave=False)
        cells = [
            (name, cell_of(classifier, name, read, red_cell_px)) for name, read in bar
        ]
    told = microscopes_of(
        [cell for _, cell in cells if not isinstance(cell, str)],
        classifier.record.microscopes,
    )
    rows = [_row(classifier.record, name, cell, told) for name, cell in cells]
    if csv_file:
        write_atomically(csv_file, _table(rows))
    data = {
        "model": model,
        "model_sha256": classifier.record.model_sha256,
        "runtime": str(classifier.runtime),
        "images": rows,
    }
    lines = [_HEADER, *map(_line, rows), microscope_line(told), RESEARCH_USE]
    report("\n".join(lines), data, json_file)
    unreadable = sum("error" in row for row in rows)
    if unreadable:
        raise InputError(f"{unreadable} of {len(rows)} images could not be classified")


def _archive(
    images: Sequence[str],
    model: str,
    red_cell_px: "RedCell",
    frames: bool,
    out: Path,
    workers: int | None,
    scheduler: str | None,
    json_file: str | None,
) -> None:
    """Carries out ``--out``."""
    from time import monotonic

    from tqdm import tqdm

    from edgecell.edge.commands.archive.run import classify_archive
    from edgecell.edge.commands.archive.work import Task
    from edgecell.model.modelfile import resolve

    check_writable(out)
    start_s = monotonic()
    with tqdm(desc="classifying", unit="image", disable=None, leave=False) as bar:
        done = classify_archive(
            [name for root in images for name in _globbed(root)],
            resolve(model),
            Task(red_cell_px, frames),
            out,
            workers,
            scheduler,
            bar.update,
        )
    seconds = monotonic() - start_s
    fresh = done.images - done.resumed
    lines = [
        f"{out}: {several(done.rows, 'row')} of {several(done.images, 'image')}, "
        f"{done.errors} with an error",
        f"{several(fresh, 'image')} in {seconds:.1f} s, "
        f"{fresh / max(seconds, 1e-3):.0f} per second"
        + (f"; {done.resumed} were done before" if done.resumed else ""),
        *(f"Microscope of {size}: {it}" for size, it in done.microscopes.items()),
        RESEARCH_USE,
    ]
    data = {
        **done.to_dict(),
        "out": str(out),
        "seconds": round(seconds, 2),
        "images_per_s": round(fresh / max(seconds, 1e-3), 2),
    }
    report("\n".join(lines), data, json_file)


def _globbed(root: str) -> list[str]:
    if has_magic(root) and not Path(root).exists():
        return sorted(glob(root, recursive=True)) or [root]
    return [root]
