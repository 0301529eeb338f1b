"""``edgecell data pack``."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecell.cli import Number, OutputFile, by_name, json_option, refuse, report
from edgecell.files import several

if TYPE_CHECKING:
    from edgecell.data.packing import PackSummary


def text(found: "PackSummary") -> str:
    """What was packed, for people."""
    lines = [f"{'source':<16}{'crop':>7}{'train':>8}{'val':>8}{'test':>8}"]
    for source, cells in found.cells.items():
        numbers = "".join(f"{cells[s] or '-':>8}" for s in ("train", "val", "test"))
        lines.append(f"{source:<16}{found.crops[source]:>7.3f}{numbers}")
    labels = ", ".join(f"{label} {n}" for label, n in found.labels.items())
    lines += ["", f"labels: {labels}"]
    if found.with_attributes:
        lines.append(f"with attributes: {several(found.with_attributes, 'cell')}")
    files = ", ".join(found.files)
    return "\n".join([*lines, f"{files}: {found.bytes / 1e6:.1f} MB"])


@click.command("pack", short_help="Pack cells for a training machine.")
@click.argument("data", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--frames",
    type=click.Path(path_type=Path),
    help="Instead, pack frames with YOLO labels (0 white cell, 1 red cell, 2 "
    "platelet), and the cells of DATA as frames in which one cell is labelled, to "
    "train a finder. Frames in folders called val and test are left for reports.",
)
@click.option(
    "--out",
    required=True,
    type=OutputFile("npz"),
    help="File to write, NAME.npz. Above 60 MB it becomes NAME-1.npz, NAME-2.npz, ...",
)
@click.option(
    "--split",
    "splits",
    type=click.Choice(["train", "val", "test"]),
    multiple=True,
    default=("train", "val"),
    show_default=True,
    help="Splits to pack. May be given more than once.",
)
@click.option(
    "--scale-as",
    metavar="SOURCE",
    help="Crop the cells of every source at the scale of this one, which is found from "
    "the size of the red cells.",
)
@click.option(
    "--crop",
    "crops",
    metavar="SOURCE=FRACTION",
    multiple=True,
    callback=by_name(Number(0, 1, min_open=True)),
    help="Side of a source's crop as a share of an image's shorter side. May be given "
    "more than once.  [default: 0.66, or what --scale-as gives]",
)
@click.option(
    "--attributes",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="CSV table of what cells look like, by file name: img_name,nucleus_shape,... "
    "The job also trains the network to predict these.",
)
@json_option
def pack_command(
    data: tuple[Path, ...],
    frames: Path | None,
    out: Path,
    splits: tuple[str, ...],
    scale_as: str | None,
    crops: dict[str, float],
    attributes: Path | None,
    json_file: str | None,
) -> None:
    """Pack DATA, folders or zip files of cell images, into files of at most 60 MB.

    The cells are cut out as training sees them, with a margin to turn and shift in, and
    carry their classes, split and source. Groups (NEU, IG, BNE|SNE) stay sets of
    classes. `python -m edgecell.train.job` trains from such files.
    """
    if frames:
        refuse(("splits", "scale_as", "crops", "attributes"), "is not for --frames")
        _pack_frames(frames, data, out, json_file)
        return
    if not data:
        raise click.UsageError("give DATA to pack, or --frames")
    from edgecell.data.audit import audited
    from edgecell.data.dataset import read
    from edgecell.data.pack import write_packs
    from edgecell.data.packing import pack_cells, summary
    from edgecell.data.scale import MARGIN, crops_at_scale, training_view
    from edgecell.errors import InputError
    from edgecell.morphology.table import read_attributes

    _check_out(out)
    table = read_attributes(attributes) if attributes else None
    reading = read(data)
    reading.warn_of_unlabelled()
    files = [f for f in audited(reading.files).kept if f.split in splits]
    sources = {f.source for f in files}
    unknown = sorted({*crops, *([scale_as] if scale_as else [])} - sources)
    if unknown or not files:
        raise InputError(
            f"there is no cell of {', '.join(unknown or splits)} in the data; sources "
            f"are {', '.join(sorted(sources)) or 'none'}"
        )
    standard = [f for f in files if f.source == scale_as] if scale_as else files
    prep = training_view([f for f in standard if f.source not in crops] or standard)
    if scale_as:
        crops = crops_at_scale(files, prep, {scale_as: prep.crop_fraction} | crops)
    packed = pack_cells(files, prep, MARGIN, crops, table)
    if attributes and not (packed.attributes >= 0).any():
        raise InputError(f"{attributes} names none of the images in the data")
    paths, size = write_packs(packed, out)
    found = summary(packed, files, paths, size)
    report(text(found), found.to_dict(), json_file)


def _check_out(out: Path) -> None:
    if out.suffix != ".npz":
        raise click.UsageError(f"--out {out}: the name must end in .npz")


def _pack_frames(
    frames: Path, data: tuple[Path, ...], out: Path, json_file: str | None
) -> None:
    from edgecell.data.dataset import read, without_duplicates
    from edgecell.data.frame_pack import pack_frames, write_frames
    from edgecell.data.frames import read_frames

    _check_out(out)
    cells = without_duplicates(read(data).files) if data else []
    packed = pack_frames(read_frames(frames), cells)
    paths, size = write_frames(packed, out)
    counts = Counter(f"{frame.source}, {frame.split}" for frame in packed)
    lines = [f"{name:<24}{n:>8}" for name, n in sorted(counts.items())]
    files = ", ".join(map(str, paths))
    report(
        "\n".join([*lines, f"{files}: {size / 1e6:.1f} MB"]),
        {"files": [str(p) for p in paths], "bytes": size, "images": dict(counts)},
        json_file,
    )
