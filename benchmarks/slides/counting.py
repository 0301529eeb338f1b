"""Measures whether each cell of a slide is counted once, on a mosaic of known cells.

Run as ``python -m edgecell.benchmarks counting OUT.json DATA...``, DATA folders or zip
files of labelled cells. `CELLS_PER_CLASS` cells of the test split stand for each class.
"""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

import click
import numpy as np

from edgecell.benchmarks.slides.make_mosaic import (
    TILE,
    LabelledCell,
    decode,
    frames,
    mosaic,
    path,
)
from edgecell.classes import CODES
from edgecell.cli import OutputFile, PoliteCommand
from edgecell.data.dataset import CellFile, scan
from edgecell.edge.analyse.pipeline import FrameAnalyser
from edgecell.edge.count.differential import CellCount, Differential
from edgecell.edge.count.tracking import Tracker
from edgecell.edge.count.votes import Rule
from edgecell.files import write_atomically
from edgecell.image.preprocess import Bgr, cell_image, to_rgb
from edgecell.model.classifier import Classifier
from edgecell.model.decision import Decision
from edgecell.model.modelfile import bundled_model

CELLS_PER_CLASS = 12
STEP_PX = 24
_NEAR = 0.2
"""The nearest counted cell within this part of a tile is a label's."""

_SAME_PX = 20
"""Two counted cells that are nearer than this are one."""


@dataclass(frozen=True)
class CountedCell:
    """A counted cell: its last decision and its place on the slide."""

    decision: Decision
    x: float
    y: float


@dataclass(frozen=True)
class Count:
    """The result of a pan over a slide.

    Attributes:
        cells: each cell once, as the tracker sees it.
        differential: of these cells.
        n_frames: frames looked at.
        gated: of these, frames that were too poor.
        track_ms: median time of the tracker for a frame.
    """

    cells: list[CountedCell]
    differential: Differential
    n_frames: int
    gated: int
    track_ms: float


@dataclass(frozen=True)
class Score:
    """A count against the truth.

    Attributes:
        labelled: cells of the mosaic.
        counted_once, counted_twice, missed: of these.
        unlabelled: other things counted: platelets beside the labelled cell, dirt.
        unlabelled_twice: of these, those within `_SAME_PX` of another one.
        to_review: labelled cells that are flagged.
        correct: labelled cells with their own class as the decision.
        correct_alone: labelled cells that the classifier classifies correctly in the
            data set's own image: its own error.
    """

    labelled: int
    counted_once: int
    counted_twice: int
    missed: int
    unlabelled: int
    unlabelled_twice: int
    to_review: int
    correct: int
    correct_alone: int


def count_cells(slide: Bgr, classifier: Classifier, step: int) -> Count:
    """Pans over a slide as `make_mosaic.path` says and counts its cells.

    Args:
        slide: uint8 BGR (H, W, 3).
        classifier: names the cells.
        step: pixels between frames.
    """
    record = classifier.record
    analyser = FrameAnalyser(classifier, None)
    tracker, count = Tracker(Rule.of_model(record)), CellCount()
    places: dict[int, list[tuple[float, float]]] = defaultdict(list)
    last: dict[int, Decision] = {}
    times, gated = [], 0
    height, width = slide.shape[:2]
    views = path(width, height, step)
    for frame, view in zip(frames(slide, views), views, strict=True):
        result = analyser.analyse(frame)
        gated += result.gate is not None
        start = perf_counter()
        tracked = tracker.update(result)
        times.append((perf_counter() - start) * 1e3)
        count.put(tracked.changed)
        last |= {decision.cell: decision for decision in tracked.changed}
        for number, cell in zip(tracked.cells, result.cells, strict=True):
            if number is not None and not cell.record.cut_by_border:
                x, y = cell.record.box.centre
                places[number].append((view.x + x, view.y + y))
    cells = [
        CountedCell(d, *(float(v) for v in np.median(places[d.cell], axis=0)))
        for d in last.values()
        if d.same_as is None
    ]
    return Count(cells, count.differential(), len(views), gated, median(times))


def score(labels: Sequence[LabelledCell], count: Count, alone: Sequence[str]) -> Score:
    """Compares a count with the truth.

    Args:
        labels: the mosaic's cells.
        count: of its pan.
        alone: for each label the class that the classifier names by itself.
    """
    near: list[list[CountedCell]] = [[] for _ in labels]
    others: list[CountedCell] = []
    for cell in count.cells:
        away = [math.hypot(cell.x - one.x, cell.y - one.y) for one in labels]
        nearest = int(np.argmin(away))
        (near[nearest] if away[nearest] < _NEAR * TILE else others).append(cell)
    found: list[CountedCell | None] = []
    counted_twice = 0
    for one, cells in zip(labels, near, strict=True):
        cells.sort(key=lambda cell: math.hypot(cell.x - one.x, cell.y - one.y))
        found.append(cells[0] if cells else None)
        again = [cell for cell in cells[1:] if _same(cell, cells[0])]
        counted_twice += bool(again)
        others += [cell for cell in cells[1:] if cell not in again]
    unlabelled_twice = sum(
        any(_same(a, b) for b in others[:i]) for i, a in enumerate(others)
    )
    missed = found.count(None)
    return Score(
        labelled=len(labels),
        counted_once=len(labels) - counted_twice - missed,
        counted_twice=counted_twice,
        missed=missed,
        unlabelled=len(others),
        unlabelled_twice=unlabelled_twice,
        to_review=sum(bool(cell and cell.decision.reasons) for cell in found),
        correct=sum(
            cell is not None and cell.decision.code == one.code
            for cell, one in zip(found, labels, strict=True)
        ),
        correct_alone=sum(
            name == one.code for name, one in zip(alone, labels, strict=True)
        ),
    )


def _same(one: CountedCell, other: CountedCell) -> bool:
    return math.hypot(one.x - other.x, one.y - other.y) < _SAME_PX


def classify_alone(
    cells: Sequence[tuple[str, Bgr]], classifier: Classifier
) -> list[str]:
    """The class of each cell in its own image, as in evaluation.

    Args:
        cells: code and image, uint8 BGR (H, W, 3).
        classifier: names them.
    """
    prep = classifier.record.preprocessing
    names = []
    for _, image in cells:
        prediction = classifier.classify(cell_image(to_rgb(image), prep))
        names.append(prediction.codes[prediction.index])
    return names


def draw_cells(data: Sequence[Path]) -> list[CellFile]:
    """`CELLS_PER_CLASS` cells of each class in the test split, by their hash, mixed."""
    by_class: dict[str, list[CellFile]] = defaultdict(list)
    for file in sorted(scan(data), key=lambda file: file.sha256):
        if file.split == "test":
            by_class[file.code].append(file)
    drawn = [file for code in CODES for file in by_class[code][:CELLS_PER_CLASS]]
    return sorted(drawn, key=lambda file: file.sha256)


@click.command("counting", cls=PoliteCommand, no_args_is_help=True)
@click.argument("out", type=OutputFile("JSON"))
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
def command(out: Path, data: tuple[Path, ...]) -> None:
    """Measure whether each cell of a slide is counted once.

    The slide is a mosaic of cells of the test split of DATA. Writes OUT, a JSON file.
    """
    cells = [decode(file) for file in draw_cells(data)]
    classifier = Classifier(bundled_model())
    slide, labels = mosaic(cells)
    count = count_cells(slide, classifier, STEP_PX)
    truth = Counter(one.code for one in labels)
    data_out = {
        "model_sha256": classifier.record.model_sha256,
        "slide": [slide.shape[1], slide.shape[0]],
        "n_frames": count.n_frames,
        "gated_frames": count.gated,
        "track_ms": round(count.track_ms, 2),
        **asdict(score(labels, count, classify_alone(cells, classifier))),
        "truth": {code: truth[code] for code in CODES},
        "differential": count.differential.to_dict(),
    }
    write_atomically(out, json.dumps(data_out, indent=1) + "\n")


if __name__ == "__main__":
    command()
