"""How much of labelled frames a finder sees, and the score thresholds to use."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgecell.data.frames import PLATELET, RED, WHITE, LabelBox, claim
from edgecell.edge.find.finder import Points
from edgecell.edge.find.localise import red_cell_px

LEAST = 0.15
"""Score that candidates must have to be judged at all."""

_SCORES = np.arange(LEAST, 0.66, 0.05)
_RED_SCORE = 0.35

_AS_GOOD = 0.005
"""Harmonic means of recall and precision that differ less are as good: it is about one
cell of the frames that are judged."""


@dataclass(frozen=True)
class FinderFigures:
    """Figures on frames; None where there is nothing to divide by.

    Attributes:
        least_scores: scores for white cells, red cells and platelets that these figures
            are with: for white cells and platelets the middle of those with which the
            harmonic mean of recall and precision is greatest.
        white_recall: labelled white cells that were found.
        white_precision: white cells found that lie in a labelled one.
        platelet_recall: as for white cells.
        platelet_precision: as for white cells.
        red_cell_error: median over frames of |estimate / labels - 1| of the red cells'
            diameter.
        red_cell_within_15: share of the frames in which it is below 15 %.
    """

    least_scores: tuple[float, float, float]
    white_recall: float
    white_precision: float
    platelet_recall: float
    platelet_precision: float
    red_cell_error: float
    red_cell_within_15: float

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready copy."""
        return asdict(self)


@dataclass(frozen=True)
class Judged:
    """A frame that a finder looked at.

    Attributes:
        points: what it saw, with a score of at least `LEAST`.
        boxes: what there is, in pixels of the working image.
        width: of the working image.
        height: of the working image.
    """

    points: Points
    boxes: tuple[LabelBox, ...]
    width: float
    height: float


def judge(frames: Sequence[Judged]) -> FinderFigures:
    """Chooses the least scores and returns the figures that they give."""
    white, platelet = (_best(frames, kind) for kind in (WHITE, PLATELET))
    errors = [e for frame in frames if (e := _red_cell_error(frame)) is not None]
    return FinderFigures(
        (white[0], _RED_SCORE, platelet[0]),
        *white[1:],
        *platelet[1:],
        float(np.median(errors)) if errors else float("inf"),
        float(np.mean(np.array(errors) < 0.15)) if errors else 0.0,
    )


def _best(frames: Sequence[Judged], kind: int) -> tuple[float, float, float]:
    """Least score, recall and precision for cells of a kind.

    Among scores that are as good as the best the middle one is taken: frames unlike
    these have both paler cells and more that looks like one.
    """
    labelled = sum(box.label == kind for frame in frames for box in frame.boxes)
    found = [_at(frames, kind, labelled, float(least)) for least in _SCORES]
    means = [2 * r * p / max(r + p, 1e-9) for r, p in found]
    good = [i for i, mean in enumerate(means) if mean >= max(means) - _AS_GOOD]
    middle = good[len(good) // 2]
    return (float(_SCORES[middle]), *found[middle])


def _at(
    frames: Sequence[Judged], kind: int, labelled: int, least: float
) -> tuple[float, float]:
    """Recall and precision with a least score."""
    detected = right = 0
    for frame in frames:
        points = frame.points
        mine = (points.kinds == kind) & (points.scores >= least)
        centres = [(float(x), float(y)) for x, y in points.boxes[mine, :2]]
        boxes = [box for box in frame.boxes if box.label == kind]
        detected += len(centres)
        right += len(claim(centres, boxes))
    return right / max(labelled, 1), right / max(detected, 1)


def _red_cell_error(frame: Judged) -> float | None:
    """None where no red cell is labelled, infinite where none was found."""
    sizes = [
        box.size
        for box in frame.boxes
        if box.label == RED
        and min(box.x0, box.y0) > 1
        and box.x1 < frame.width - 1
        and box.y1 < frame.height - 1
    ]
    if not sizes:
        return None
    sure = frame.points.scores >= _RED_SCORE
    points = Points(
        frame.points.kinds[sure], frame.points.boxes[sure], frame.points.scores[sure]
    )
    found = red_cell_px(points, frame.width, frame.height)
    return abs(found / float(np.median(sizes)) - 1) if found else float("inf")
