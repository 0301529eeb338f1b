"""How well red cells are measured, and cells found, in fields of any size.

    python -m edgecell.benchmarks.scale FRAMES --part val

Labelled frames as they are, made smaller and larger, and laid side by side into
mosaics: a mosaic is what a camera with a larger sensor or a weaker lens shows. The
frames of one mosaic come from one microscope, which their size tells.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import cv2
import numpy as np

from edgecell.benchmarks.frame_evaluation import FrameReport, report_on
from edgecell.benchmarks.labelled_frames import LabelBox, LabelledFrame, read_frames
from edgecell.files import write_atomically
from edgecell.image.red_cells import shrink

ZOOMS = (0.5, 0.7, 1.0, 1.5, 2.0, 4.0)
MOSAICS = ((2, 2), (4, 3), (11, 6))
MOSAIC_ZOOMS = (0.5, 1.0, 2.0)
LARGEST_PX = 8000
PER_MICROSCOPE = 25
MOSAICS_PER_MICROSCOPE = 2

_LEAST_FRAMES = 20
"""A size that fewer frames have is left out: a microscope's first few."""


def zoomed(frame: LabelledFrame, zoom: float) -> LabelledFrame:
    """The frame as another lens would show it."""
    if zoom == 1:
        return frame
    if zoom < 1:
        image = shrink(frame.image, zoom)
    else:
        image = np.asarray(cv2.resize(frame.image, None, fx=zoom, fy=zoom), np.uint8)
    boxes = (
        LabelBox(b.label, *(zoom * edge for edge in (b.x0, b.y0, b.x1, b.y1)))
        for b in frame.boxes
    )
    return LabelledFrame(f"{frame.name} x{zoom:g}", image, tuple(boxes))


def mosaic(frames: Sequence[LabelledFrame], columns: int) -> LabelledFrame:
    """Frames of one size side by side, row by row, with all their labels."""
    height, width = frames[0].image.shape[:2]
    rows = [
        np.hstack([frame.image for frame in frames[i : i + columns]])
        for i in range(0, len(frames), columns)
    ]
    boxes = []
    for i, frame in enumerate(frames):
        x, y = width * (i % columns), height * (i // columns)
        boxes += [
            LabelBox(b.label, b.x0 + x, b.y0 + y, b.x1 + x, b.y1 + y)
            for b in frame.boxes
        ]
    return LabelledFrame("mosaic", np.vstack(rows), tuple(boxes))


def fields(
    frames: Sequence[LabelledFrame], seed: int = 0
) -> Iterator[tuple[str, list[LabelledFrame]]]:
    """Sets of fields to measure, each with its name."""
    by_size: dict[tuple[int, ...], list[LabelledFrame]] = defaultdict(list)
    for frame in frames:
        by_size[frame.image.shape].append(frame)
    groups = [group for group in by_size.values() if len(group) >= _LEAST_FRAMES]
    draw = np.random.default_rng(seed)

    def some(group: Sequence[LabelledFrame], n: int) -> list[LabelledFrame]:
        chosen = draw.choice(len(group), n, replace=n > len(group))
        return [group[i] for i in chosen]

    yield "frames", list(frames)
    for zoom in ZOOMS:
        few = [f for group in groups for f in some(group, PER_MICROSCOPE)]
        yield f"frames x{zoom:g}", [zoomed(frame, zoom) for frame in few]
    for columns, rows in MOSAICS:
        for zoom in MOSAIC_ZOOMS:
            made = [
                zoomed(mosaic(some(group, columns * rows), columns), zoom)
                for group in groups
                for _ in range(MOSAICS_PER_MICROSCOPE)
                if columns * group[0].image.shape[1] * zoom <= LARGEST_PX
            ]
            if made:
                yield f"mosaics of {columns}x{rows}, x{zoom:g}", made


def table(reports: dict[str, FrameReport], widths: dict[str, tuple[int, int]]) -> str:
    """The figures as a Markdown table."""
    lines = [
        "| fields | n | width, px | diameter: median error | within 15 % | not found "
        "| white cells: recall, precision | ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, r in reports.items():
        low, high = widths[name]
        cells = (
            name,
            str(r.n_frames),
            f"{low}" if low == high else f"{low}-{high}",
            *map(_percent, (r.red_cell_error, r.red_cell_within_15)),
            _percent(r.red_cell_not_found),
            f"{_percent(r.white_recall)}, {_percent(r.white_precision)}",
            f"{r.ms_per_frame:.1f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


@click.command()
@click.argument("frames", type=click.Path(exists=True, path_type=Path))
@click.option("--part", default="val", show_default=True, help="Folder of the frames.")
@click.option("--out", type=click.Path(path_type=Path), help="JSON file to write, too.")
def main(frames: Path, part: str, out: Path | None) -> None:
    """Measure red cells and find white cells in FRAMES, zoomed and as mosaics.

    FRAMES is a folder or zip file with YOLO labels (0 white cell, 1 red cell,
    2 platelet), as for 'edgecell evaluate --frames'.
    """
    reports, widths = {}, {}
    for name, some in fields(list(read_frames(frames, part))):
        reports[name] = report_on(some)
        across = [frame.image.shape[1] for frame in some]
        widths[name] = min(across), max(across)
    click.echo(table(reports, widths))
    if out:
        figures = {name: report.to_dict() for name, report in reports.items()}
        write_atomically(out, json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
