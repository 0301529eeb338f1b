"""``edgecell classify``."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from glob import glob, has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecell import RESEARCH_USE
from edgecell.classes import CLASSES
from edgecell.cli import json_option, report
from edgecell.edge.commands.options import model_option
from edgecell.errors import InputError
from edgecell.files import check_writable, csv_text, printable, write_atomically
from edgecell.optional import require

if TYPE_CHECKING:
    from edgecell.edge.analyse.single import RedCell, SingleCell
    from edgecell.model.classifier import Classifier

_NAMES = {c.code: c.name for c in CLASSES}
_HEADER = f"{'class':<24}{'conf.':>6}  {'runner-up':<10}{'image':<32}to review"
_LIMITS = (
    "One image does not tell the microscope: classes hold only for those that the "
    "model knows."
)
_COLUMNS = ("image", "class", "probability", "runner_up", "review", "error")


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
                raise InputError(f"{argument} is no image and holds none ({known})")
        yield found


def row_of(
    classifier: "Classifier",
    name: str,
    read: Callable[[], bytes],
    red_cell_px: "RedCell",
) -> dict[str, Any]:
    """An image's class, ready for JSON; or why it has none."""
    from edgecell.data.dataset import decode
    from edgecell.edge.analyse.single import classify_single

    try:
        found = classify_single(classifier, decode(read(), name), red_cell_px)
    except InputError as e:
        return {"image": name, "error": str(e).removeprefix(f"{name} ")}
    return {"image": name, **_data(found)}


def _data(found: "SingleCell") -> dict[str, Any]:
    return {
        "class": found.code,
        "name": _NAMES.get(found.code, found.code),
        "probability": round(found.probability, 6),
        "top": [
            {"class": code, "probability": round(p, 6)}
            for code, p in found.prediction.top(3)
        ],
        "review": list(found.reasons),
        "red_cell_px": found.red_cell_px and round(found.red_cell_px, 1),
    }


def _line(row: dict[str, Any]) -> str:
    name = row["image"]
    short = name if len(name) <= 30 else f"...{name[-27:]}"
    if "error" in row:
        return f"{'not classified':<42}{short:<32}{row['error']}"
    second = row["top"][1]
    runner_up = f"{second['class']} {second['probability']:.0%}"
    return (
        f"{row['class']:<4}{row['name']:<20}{row['probability']:>6.0%}  "
        f"{runner_up:<10}{short:<32}{'; '.join(row['review'])}"
    ).rstrip()


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
            )
            for row in rows
        ),
    )


@click.command("classify", short_help="Name the cell in single-cell images.")
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
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write the table as CSV.",
)
@json_option
def command(
    images: tuple[str, ...],
    model: str,
    red_cell_px: "RedCell",
    csv_file: Path | None,
    json_file: str | None,
) -> None:
    """Name the cell in each IMAGE.

    IMAGE is a single-cell image, a folder or zip file of them, or a glob in quotes. A
    single-cell image is a small field with one cell in its middle, such as the public
    training sets have. Its white is balanced and its middle cut out as in training.
    Images that show more or less of the field need --red-cell-px, since the network
    knows cells at one scale. For frames with many cells there is 'edgecell run'.

    Exit status 1 if an image can't be read; it is listed with the reason.
    """
    require("cv2", "edge")
    from tqdm import tqdm

    from edgecell.edge.analyse.pipeline import check_red_cell_px
    from edgecell.model.classifier import Classifier

    if isinstance(red_cell_px, float):
        check_red_cell_px(red_cell_px)
    for file in (csv_file, Path(json_file) if json_file not in (None, "-") else None):
        if file is not None:
            check_writable(file)
    with images_of(images) as found:
        classifier = Classifier(model)
        bar = tqdm(found, "classifying", unit="image", disable=None, leave=False)
        rows = [row_of(classifier, name, read, red_cell_px) for name, read in bar]
    if csv_file:
        write_atomically(csv_file, _table(rows))
    data = {
        "model": model,
        "model_sha256": classifier.record.model_sha256,
        "runtime": str(classifier.runtime),
        "images": rows,
    }
    report(
        "\n".join([_HEADER, *map(_line, rows), _LIMITS, RESEARCH_USE]), data, json_file
    )
    unreadable = sum("error" in row for row in rows)
    if unreadable:
        raise InputError(f"{unreadable} of {len(rows)} images could not be classified")
