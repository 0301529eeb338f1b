"""``edgecell explain show``."""

import logging
from pathlib import Path

import click

from edgecell import RESEARCH_USE
from edgecell.cli import OutputFile
from edgecell.errors import MissingPackageError
from edgecell.explain.commands.options import drawn_cells
from edgecell.explainers import check_installed
from edgecell.files import several
from edgecell.optional import require

_PAPERS = ("grad-cam", "lime", "kernel-shap")

logger = logging.getLogger(__name__)


def _default() -> tuple[str, ...]:
    """The paper's methods, as far as their packages are installed."""
    found = []
    for method in _PAPERS:
        try:
            check_installed(method)
        except MissingPackageError as e:
            logger.warning("left out: %s: %s", method, e)
            continue
        found.append(method)
    return tuple(found)


@click.command("show", short_help="Draw explanations of cells side by side.")
@click.argument("model")
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=OutputFile("PNG"),
    default=Path("explained.png"),
    show_default=True,
    help="PNG file to write.",
)
@click.option("--class", "code", help="Only cells of this class: BNE, SNE, ...")
@click.option(
    "--attribute",
    "attributes",
    multiple=True,
    metavar="NAME",
    help="Also map where the cell shows an attribute, such as nucleus_shape or "
    "granule_type. May be given more than once.",
)
@drawn_cells(
    "all",
    1,
    f"Methods to draw, in this order.  [default: {', '.join(_PAPERS)}, those that are "
    "installed]",
)
def command(
    model: str,
    data: tuple[Path, ...],
    out: Path,
    code: str | None,
    split: str,
    cells: int,
    methods: tuple[str, ...],
    seed: int,
    attributes: tuple[str, ...],
) -> None:
    """Draw cells with maps that show what speaks for the class that MODEL gives them.

    MODEL is a .tflite file, or 'bundled'. DATA are images with one cell in the middle,
    or folders or zip files in which the directory above an image names its class. DATA
    may also be sessions that 'edgecell run' recorded, or folders of them; their
    finished explanations are drawn as they are. Below each map you see its deletion and
    insertion area, below each cell its class, confidence and runner-up, and what
    is said of it in words.
    """
    require("matplotlib.figure", "explain")
    from tqdm import tqdm

    from edgecell.classes import CODES
    from edgecell.data.dataset import IMAGE_SUFFIXES, decode, sample, scan
    from edgecell.edge.record.sessions import find_sessions
    from edgecell.errors import InputError
    from edgecell.explain.panels import draw_rows
    from edgecell.explain.rows import Shown, explain_row, session_rows
    from edgecell.files import printable
    from edgecell.image.decode import read_file
    from edgecell.image.preprocess import cell_image, cell_pixels
    from edgecell.model.classifier import Classifier

    if code is not None and code not in CODES:
        raise click.UsageError(
            f"there is no class {code}; choose from {', '.join(CODES)}"
        )
    classifier = Classifier(model)
    images = [p for p in data if p.is_file() and p.suffix.lower() in IMAGE_SUFFIXES]
    folders = {p: find_sessions(p) for p in data if p.is_dir()}
    sessions = [session for found in folders.values() for session in found]
    labelled = [p for p in data if p not in images and not folders.get(p)]
    todo: list[tuple[str, str | None, bytes]] = [
        (printable(p.name), None, read_file(p)) for p in images
    ]
    if labelled:
        files = [
            f
            for f in scan(labelled)
            if split in ("all", f.split) and code in (None, f.code)
        ]
        todo += [
            (Path(f.name).name, f.code, f.data) for f in sample(files, cells, seed)
        ]
    chosen = tuple(dict.fromkeys(methods)) or _default()
    for method in chosen if todo else ():
        check_installed(method)
    prep = classifier.record.preprocessing
    rows = []
    for name, truth, content in tqdm(todo, "explaining", disable=None, leave=False):
        image = decode(content, name)
        shown = Shown(name, truth, cell_pixels(image, prep), cell_image(image, prep))
        rows.append(explain_row(classifier, shown, chosen, seed, attributes))
    for session in sessions:
        rows += session_rows(classifier, session, code, methods, cells, attributes)
    if not rows:
        raise InputError(
            "there are no such cells in this data, or none of them has been explained"
        )
    draw_rows(rows, out)
    click.echo(f"{out}: {several(len(rows), 'cell')}\n{RESEARCH_USE}")
