"""From frame to class: frames with one white cell each, whose class is known."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from edgecell.classes import label_of
from edgecell.data.frames import WHITE, LabelledFrame, read_frames
from edgecell.edge.analyse.pipeline import CellResult, FrameAnalyser
from edgecell.edge.count.votes import Rule, Votes
from edgecell.edge.sources.base import Frame
from edgecell.errors import InputError
from edgecell.image.preprocess import Bgr
from edgecell.model.classifier import Classifier
from edgecell.model.microscopes.microscope import CELLS, judge

_DRAWS = 2000


@dataclass(frozen=True)
class FrameFigures:
    """The results for the known cells of a microscope's frames.

    Attributes:
        frames: frames, and known cells.
        found: cells that are found whole.
        right: of all known cells, those classified correctly; band or segmented for
            NEU.
        by_rule: those that the model's rule accepts, whatever the microscope.
        by_rule_right: of these, those that are right.
        accepted: those that are accepted without review: none if the microscope is
            called unknown.
        accepted_right: of these, those that are right.
        unknown: share of draws of ten of the cells that are called unknown.
        microscope: what the first ten cells are called.
    """

    frames: int
    found: int
    right: int
    by_rule: int
    by_rule_right: int
    accepted: int
    accepted_right: int
    unknown: float
    microscope: str


def read_truth(path: Path) -> dict[str, tuple[str, str]]:
    """Source and label by the frame's file name.

    Args:
        path: CSV with the columns frame, source and class.

    Raises:
        InputError: it is not such a file.
    """
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return {
            Path(row["frame"]).name: (row["source"], label_of(row["class"]) or "")
            for row in rows
        }
    except (OSError, KeyError, ValueError) as e:
        raise InputError(f"{path} has no columns frame, source and class ({e})") from e


def measure_frames(
    classifier: Classifier, frames: Path, truth: dict[str, tuple[str, str]]
) -> dict[str, FrameFigures]:
    """Analyses each frame by itself, as `edgecell run` does stills.

    Args:
        classifier: the model.
        frames: labelled frames, see `read_frames`.
        truth: see `read_truth`.
    """
    analyser = FrameAnalyser(classifier, None)
    found: dict[str, list[tuple[CellResult | None, str]]] = {}
    shown = [f for f in read_frames(frames) if Path(f.name).name in truth]
    for number, frame in enumerate(
        tqdm(shown, desc="frames", leave=False, disable=None)
    ):
        source, label = truth[Path(frame.name).name]
        cell = _known_cell(analyser, frame, number)
        found.setdefault(source, []).append((cell, label))
    return {s: _figures(classifier, cells) for s, cells in sorted(found.items())}


def _known_cell(
    analyser: FrameAnalyser, frame: LabelledFrame, number: int
) -> CellResult | None:
    """The largest whole object found in a labelled white cell."""
    still = Frame(number, None, Bgr(frame.image), frame.name)
    white = [b for b in frame.boxes if b.label == WHITE]
    cells = [
        cell
        for cell in analyser.analyse(still).cells
        if not cell.record.cut_by_border
        and any(b.contains(*cell.record.box.centre) for b in white)
    ]
    return max(cells, key=lambda c: c.record.box.width, default=None)


def _figures(
    classifier: Classifier, cells: list[tuple[CellResult | None, str]]
) -> FrameFigures:
    record = classifier.record
    whole = [(cell, label) for cell, label in cells if cell is not None]
    judged = list(_judged(Rule.of_model(record), whole))
    pooled = np.array([cell.pooled for cell, _ in whole if cell.pooled is not None])
    rng = np.random.default_rng(0)
    draws = [rng.permutation(len(pooled))[:CELLS] for _ in range(_DRAWS)]
    scores = np.stack([m.scores(pooled) for m in record.microscopes])
    limits = np.array([m.limits[-1] for m in record.microscopes])
    unknown = [bool((scores[:, d].mean(1) > limits).all()) for d in draws]
    verdict = judge(pooled, record.microscopes)
    by_rule = [right for right, taken in judged if taken]
    accepted = by_rule if verdict.trusted else []
    return FrameFigures(
        frames=len(cells),
        found=len(whole),
        right=sum(right for right, _ in judged),
        by_rule=len(by_rule),
        by_rule_right=sum(by_rule),
        accepted=len(accepted),
        accepted_right=sum(accepted),
        unknown=sum(unknown) / _DRAWS,
        microscope=str(verdict),
    )


def _judged(
    rule: Rule, cells: list[tuple[CellResult, str]]
) -> Iterator[tuple[bool, bool]]:
    """For each cell whether it is right, and whether the rule accepts it."""
    for cell, label in cells:
        votes = Votes(cell.record.gate)
        votes.add(cell)
        decision = votes.decide(1, rule)
        right = decision.code in label.split("|")
        yield right, decision.code is not None and not decision.reasons
