"""The demo's microscope that no model has learned: its cells before and after adapting.

It is simulated, since the bundled model has learned every microscope at hand.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgecell.edge.adapt.adapt import Adaptation, adapt
from edgecell.edge.adapt.cells import named_cells
from edgecell.edge.analyse.pipeline import CellResult, FrameAnalyser
from edgecell.edge.sources import SAMPLES
from edgecell.edge.sources.base import Frame
from edgecell.edge.sources.still import read_image
from edgecell.errors import EdgecellError
from edgecell.model.classifier import Classifier
from edgecell.model.microscopes.microscope import judge

TO_LEARN = SAMPLES / "simulated"
"""Named cells of the simulated microscope, by which the demo adapts."""

_TO_JUDGE = "simulated_*.jpg"
_NOT_FOUND = "-"


@dataclass(frozen=True)
class DemoCell:
    """A white cell whose class is known.

    Attributes:
        frame: name of its frame.
        named: its class.
        before: the model's answer; '-' if the cell was not found.
        after: the adapted model's.
    """

    frame: str
    named: str
    before: str
    after: str


@dataclass(frozen=True)
class Demonstrated:
    """What adapting brings on the demo's simulated microscope.

    Attributes:
        microscope: what the model calls it.
        cells: white cells of its frames; the model is not adapted to these.
        adapted: the adaptation to others.
    """

    microscope: str
    cells: tuple[DemoCell, ...]
    adapted: Adaptation

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "simulated": True,
            "microscope": self.microscope,
            "cells": [asdict(cell) for cell in self.cells],
            "adapted": self.adapted.to_dict(),
        }

    def lines(self) -> Iterator[str]:
        """The answers side by side, as text."""
        n = self.adapted.cells
        yield (
            f"A simulated microscope (see the samples' README): {self.microscope}. The "
            f"classes of its cells, by the model and after adapting it to {n} others:"
        )
        yield f"{'frame':<14}{'label':<18}{'model':<18}adapted"
        for frame in dict.fromkeys(cell.frame for cell in self.cells):
            here = [cell for cell in self.cells if cell.frame == frame]
            columns = zip(*((c.named, c.before, c.after) for c in here), strict=True)
            named, before, after = (" ".join(column) for column in columns)
            short = "_".join(frame.split("_")[:2])
            yield f"{short:<14}{named:<18}{before:<18}{after}"
        before_right, after_right = (
            f"{sum(each)} of {len(self.cells)}"
            for each in (
                [cell.before == cell.named for cell in self.cells],
                [cell.after == cell.named for cell in self.cells],
            )
        )
        yield f"{'right':<32}{before_right:<18}{after_right}"
        if not self.adapted.improves:
            yield (
                f"'edgecell adapt' would write no file: of the {n} cells "
                f"{self.adapted.after} are right instead of {self.adapted.before}, "
                "which may be chance."
            )


def demonstrate(classifier: Classifier) -> Demonstrated:
    """Adapts a model to the simulated microscope's cells, and compares the answers.

    Args:
        classifier: the model.

    Raises:
        EdgecellError: the model can't be adapted.
    """
    adapted = adapt(classifier, named_cells(classifier, [TO_LEARN]))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "adapted.tflite"
        adapted.write(file)
        after = Classifier(file)
    paths = sorted((SAMPLES / "frames").glob(_TO_JUDGE))
    seen, again = (
        [_known_cells(analyser, path) for path in paths]
        for analyser in (FrameAnalyser(model, None) for model in (classifier, after))
    )
    pooled = [c.pooled for each in seen for c in each if c and c.pooled is not None]
    microscopes = classifier.record.microscopes
    told = str(judge(np.array(pooled), microscopes)) if pooled else "not identified"
    cells = [
        DemoCell(path.name, label, _answer(one), _answer(other))
        for path, before, now in zip(paths, seen, again, strict=True)
        for label, one, other in zip(_labels(path), before, now, strict=True)
    ]
    return Demonstrated(told, tuple(cells), adapted.figures)


def demo_lines(classifier: Classifier) -> tuple[list[str], dict[str, Any] | None]:
    """What `edgecell run demo` prints of the simulated microscope, and for JSON."""
    try:
        found = demonstrate(classifier)
    except EdgecellError as e:
        return [f"This model can't be adapted to the demo's microscope: {e}"], None
    return list(found.lines()), found.to_dict()


def _labels(path: Path) -> list[str]:
    """The classes in a frame's name, row by row."""
    return path.stem.split("_")[-1].split("-")


def _known_cells(analyser: FrameAnalyser, path: Path) -> list[CellResult | None]:
    """The largest white cell of each quarter of a frame, row by row."""
    frame = Frame(0, None, read_image(path), path.name)
    height, width = frame.image.shape[:2]
    quarters: list[CellResult | None] = [None] * 4
    for cell in analyser.analyse(frame).cells:
        if cell.record.kind != "white" or not cell.record.top:
            continue
        x, y = cell.record.box.centre
        quarter = 2 * (2 * y >= height) + (2 * x >= width)
        there = quarters[quarter]
        if there is None or there.record.box.width < cell.record.box.width:
            quarters[quarter] = cell
    return quarters


def _answer(cell: CellResult | None) -> str:
    return cell.record.top[0].code if cell else _NOT_FOUND
