"""Measures the finder on labelled frames: recall, precision, time, scale."""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import cv2
import numpy as np

from edgecell.benchmarks.labelled_frames import mosaic, zoomed
from edgecell.cli import OutputFile, PoliteCommand
from edgecell.data.frames import (
    PLATELET,
    RED,
    WHITE,
    LabelBox,
    LabelledFrame,
    claim,
    read_frames,
)
from edgecell.edge.find.field import field_of
from edgecell.edge.find.localise import Localiser, Seen
from edgecell.edge.find.tiles import Detection
from edgecell.files import write_atomically
from edgecell.image.preprocess import Bgr
from edgecell.model.modelfile import bundled_finder

_KINDS = {"white": WHITE, "platelet": PLATELET}
_RED_CELL_TOLERANCE = 0.15

ZOOMS = (0.5, 0.7, 1.0, 1.5, 2.0, 4.0)
MOSAICS = ((2, 2), (4, 3), (11, 6))
MOSAIC_ZOOMS = (0.5, 1.0, 2.0)
LARGEST_PX = 8000
PER_MICROSCOPE = 25
MOSAICS_PER_MICROSCOPE = 2

_LEAST_FRAMES = 20
"""A size that fewer frames have is left out: a microscope's first few."""


@dataclass(frozen=True)
class FrameFigures:
    """Figures over a set of frames; None where there is nothing to divide by.

    Attributes:
        n_frames: frames measured.
        white_recall: labelled white cells that were found.
        white_precision: white detections that lie in a labelled white cell.
        platelet_recall: as white_recall.
        platelet_precision: as white_precision.
        white_centre_error: median distance of a found white cell's centre from
            its label's, as a share of the label box's size.
        white_centre_error_p90: its 90th percentile.
        red_cell_error: median over frames of |estimate / labels - 1| for the
            red cells' diameter (labels: median box size, boxes at the border
            left out).
        red_cell_within_15: share of frames with that error below 15 %; a frame
            without an estimate counts as a miss.
        red_cell_not_found: share of frames without an estimate.
        ms_per_frame: median time of looking at one on one thread.
    """

    n_frames: int
    white_recall: float | None
    white_precision: float | None
    platelet_recall: float | None
    platelet_precision: float | None
    white_centre_error: float | None
    white_centre_error_p90: float | None
    red_cell_error: float | None
    red_cell_within_15: float | None
    red_cell_not_found: float | None
    ms_per_frame: float


@dataclass(frozen=True)
class FrameReport(FrameFigures):
    """Figures over all frames and for each frame size ("640x480")."""

    per_frame_size: dict[str, FrameFigures]

    def to_dict(self) -> dict[str, object]:
        """Plain dictionary for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _FrameResult:
    """Counts of one frame; kinds are "white" and "platelet"."""

    size: str
    labelled: dict[str, int]
    detected: dict[str, int]
    found: dict[str, int]
    centre_errors: tuple[float, ...]
    red_cell_error: float | None
    ms: float


Look = Callable[[Bgr, float | None, Bgr | None], Seen]
"""Finds what is in a picture without surround and bands, see `Localiser.look`."""


def evaluate_frames(
    data: Path, part: str | None = None, finder: Path | None = None
) -> FrameReport:
    """Finds cells in labelled frames and counts. OpenCV uses one thread meanwhile.

    Args:
        data: folder or zip file with .../images/.../*.jpg and
            .../labels/.../*.txt.
        part: name of a folder (such as "val") that the frames must lie in; all
            frames if None.
        finder: file of a finder to look with; None for the bundled one.

    Raises:
        InputError: if there are no frames, or one cannot be read.
        ModelError: the finder's file is none.
    """
    return report_on(read_frames(data, part), looking_with(finder))


def looking_with(finder: Path | None) -> Look:
    """What the finder of a file sees, or the bundled one.

    Raises:
        ModelError: the file is no finder's.
    """
    return Localiser.open(finder or bundled_finder()).look


def report_on(frames: Iterable[LabelledFrame], look: Look) -> FrameReport:
    """As `evaluate_frames`, of frames that are there already."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        results = [_measure(frame, look) for frame in frames]
    finally:
        cv2.setNumThreads(threads)
    by_size: dict[str, list[_FrameResult]] = defaultdict(list)
    for result in results:
        by_size[result.size].append(result)
    sizes = {size: _figures(group) for size, group in sorted(by_size.items())}
    return FrameReport(**vars(_figures(results)), per_frame_size=sizes)


def match(
    detections: Sequence[Detection], boxes: Sequence[LabelBox]
) -> list[tuple[Detection, LabelBox]]:
    """Pairs detections with labels, best score first; see `claim`."""
    best = sorted(detections, key=lambda one: one.score, reverse=True)
    return [(best[i], box) for i, box in claim([d.box.centre for d in best], boxes)]


def _measure(frame: LabelledFrame, look: Look) -> _FrameResult:
    start = time.perf_counter()
    field = field_of(Bgr(frame.image))
    seen = look(field.image, None, field.small)
    ms = (time.perf_counter() - start) * 1e3
    detections = seen.detections
    labelled, detected, found = {}, {}, {}
    errors: tuple[float, ...] = ()
    for kind, label in _KINDS.items():
        of_kind = [one for one in detections if one.kind == kind]
        boxes = [box for box in frame.boxes if box.label == label]
        pairs = match(of_kind, boxes)
        labelled[kind], detected[kind] = len(boxes), len(of_kind)
        found[kind] = len(pairs)
        if kind == "white":
            errors = tuple(
                box.distance(*one.box.centre) / box.size for one, box in pairs
            )
    height, width = frame.image.shape[:2]
    return _FrameResult(
        f"{width}x{height}",
        labelled,
        detected,
        found,
        errors,
        _red_cell_error(frame, seen.red_cell_px),
        ms,
    )


def _red_cell_error(frame: LabelledFrame, diameter: float | None) -> float | None:
    """|estimate / labels - 1|; infinite without an estimate, None without labels."""
    sizes = [
        box.size for box in frame.boxes if box.label == RED and frame.shows_whole(box)
    ]
    if not sizes:
        return None
    if diameter is None:
        return float("inf")
    return abs(diameter / float(np.median(sizes)) - 1.0)


def _figures(results: Sequence[_FrameResult]) -> FrameFigures:
    def share(kind: str, of: str) -> float | None:
        total = sum(getattr(result, of)[kind] for result in results)
        return sum(r.found[kind] for r in results) / total if total else None

    errors = [error for result in results for error in result.centre_errors]
    red = [r.red_cell_error for r in results if r.red_cell_error is not None]
    within = [error < _RED_CELL_TOLERANCE for error in red]
    known = [error for error in red if np.isfinite(error)]
    return FrameFigures(
        n_frames=len(results),
        white_recall=share("white", "labelled"),
        white_precision=share("white", "detected"),
        platelet_recall=share("platelet", "labelled"),
        platelet_precision=share("platelet", "detected"),
        white_centre_error=_percentile(errors, 50),
        white_centre_error_p90=_percentile(errors, 90),
        red_cell_error=_percentile(known, 50),
        red_cell_within_15=float(np.mean(within)) if within else None,
        red_cell_not_found=1 - len(known) / len(red) if red else None,
        ms_per_frame=float(np.median([result.ms for result in results])),
    )


def _percentile(values: Sequence[float], percentile: float) -> float | None:
    return float(np.percentile(values, percentile)) if values else None


def scaled_fields(
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


def scale_table(
    reports: dict[str, FrameReport], widths: dict[str, tuple[int, int]]
) -> str:
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
            *map(_shown, (r.red_cell_error, r.red_cell_within_15)),
            _shown(r.red_cell_not_found),
            f"{_shown(r.white_recall)}, {_shown(r.white_precision)}",
            f"{r.ms_per_frame:.1f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _shown(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


@click.command("frame-evaluation", cls=PoliteCommand, no_args_is_help=True)
@click.argument("frames", type=click.Path(path_type=Path))
@click.option("--part", default="val", show_default=True, help="Folder of the frames.")
@click.option(
    "--finder",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File of a finder of cells.  [default: the bundled one]",
)
@click.option("--out", type=OutputFile("JSON"), help="JSON file to write, too.")
def command(frames: Path, part: str, finder: Path | None, out: Path | None) -> None:
    """Measure red cells and find white cells in FRAMES, zoomed and as mosaics.

    FRAMES is a folder or ZIP file with YOLO labels (0 white cell, 1 red cell,
    2 platelet). A mosaic, frames of one microscope side by side, is what a camera with
    a larger sensor or a weaker lens shows.
    """
    look = looking_with(finder)
    reports, widths = {}, {}
    for name, some in scaled_fields(list(read_frames(frames, part))):
        reports[name] = report_on(some, look)
        across = [frame.image.shape[1] for frame in some]
        widths[name] = min(across), max(across)
    click.echo(scale_table(reports, widths))
    if out:
        figures = {name: report.to_dict() for name, report in reports.items()}
        write_atomically(out, json.dumps(figures, indent=1))


if __name__ == "__main__":
    command()
