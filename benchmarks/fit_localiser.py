"""Fits the localiser's WEIGHTS on labelled frames.

    python -m edgecell.benchmarks fit-localiser FRAMES.zip train

writes the table to paste into candidates.py. The candidates are those that the
localiser itself makes: of whole frames, and of strips beside the white cells,
because most fields of a blood film hold none and must yield none.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from edgecell.cli import PoliteCommand
from edgecell.data.frames import (
    PLATELET,
    RED,
    WHITE,
    LabelBox,
    LabelledFrame,
    read_frames,
)
from edgecell.edge.find.candidates import (
    FEATURES,
    Candidate,
    Field,
    open_field,
    platelet_candidates,
    white_candidates,
)
from edgecell.edge.find.localise import red_cell_diameter, whole_cell
from edgecell.optional import require

_RIDGE = 10.0
"""Penalty on the squared weights of standardised features."""

_LEAST_STRIP = 0.3
"""Strips narrower than this share of the frame are not used."""

_STRIP_MARGIN_PX = 6


def fit_weights(data: Path, part: str | None = None) -> dict[str, tuple[float, ...]]:
    """Fits the logistic weights of both kinds of cell.

    Args:
        data: folder or zip file as for evaluate_frames.
        part: folder that the frames must lie in ("train").

    Returns:
        For each kind the weights of FEATURES and, last, the constant term.

    Raises:
        InputError: if the frames cannot be read.
    """
    rows: dict[str, list[NDArray[np.float64]]] = {"white": [], "platelet": []}
    truth: dict[str, list[bool]] = {"white": [], "platelet": []}
    for whole in read_frames(data, part):
        red_cell_px = red_cell_diameter(whole.image)
        if red_cell_px is None:
            continue
        for frame in (whole, *empty_strips(whole)):
            field = open_field(frame.image, red_cell_px)
            whites = white_candidates(field)
            is_white = _claims(whites, frame.boxes, WHITE, field)
            nuclei = [
                candidate.blob
                for candidate, yes in zip(whites, is_white, strict=True)
                if yes
            ]
            cells = [whole_cell(nucleus, nuclei, field) for nucleus in nuclei]
            platelets = platelet_candidates(field, cells)
            is_platelet = _claims(platelets, frame.boxes, PLATELET, field)
            rows["white"] += [one.features for one in whites]
            rows["platelet"] += [one.features for one in platelets]
            truth["white"] += is_white
            truth["platelet"] += is_platelet
    return {
        kind: logistic_fit(np.array(rows[kind]), np.array(truth[kind]), _RIDGE)
        for kind in rows
    }


def empty_strips(frame: LabelledFrame) -> Iterator[LabelledFrame]:
    """The widest full-height or full-width strip free of white cells, if any."""
    height, width = frame.image.shape[:2]
    whites = [box for box in frame.boxes if box.label == WHITE]
    if not whites:
        return
    left = int(min(box.x0 for box in whites)) - _STRIP_MARGIN_PX
    right = int(max(box.x1 for box in whites)) + _STRIP_MARGIN_PX
    top = int(min(box.y0 for box in whites)) - _STRIP_MARGIN_PX
    bottom = int(max(box.y1 for box in whites)) + _STRIP_MARGIN_PX
    strips = {
        left / width: (0, 0, left, height),
        1 - right / width: (right, 0, width, height),
        top / height: (0, 0, width, top),
        1 - bottom / height: (0, bottom, width, height),
    }
    share = max(strips)
    if share >= _LEAST_STRIP:
        x0, y0, x1, y1 = strips[share]
        boxes = tuple(
            LabelBox(box.label, box.x0 - x0, box.y0 - y0, box.x1 - x0, box.y1 - y0)
            for box in frame.boxes
            if box.label != RED
        )
        image = np.ascontiguousarray(frame.image[y0:y1, x0:x1])
        yield LabelledFrame(frame.name, image, boxes)


def _claims(
    candidates: Sequence[Candidate],
    boxes: Sequence[LabelBox],
    label: int,
    field: Field,
) -> list[bool]:
    """Which candidates are cells: in each labelled box the largest that is in it."""
    free = [box for box in boxes if box.label == label]
    claims = [False] * len(candidates)
    order = sorted(range(len(candidates)), key=lambda i: -candidates[i].blob.area)
    for index in order:
        blob = candidates[index].blob
        x = (blob.x + blob.width / 2) / field.scale
        y = (blob.y + blob.height / 2) / field.scale
        holding = [box for box in free if box.contains(x, y)]
        if holding:
            free.remove(min(holding, key=lambda box: box.distance(x, y)))
            claims[index] = True
    return claims


def logistic_fit(
    rows: NDArray[np.float64], truth: NDArray[np.bool_], ridge: float
) -> tuple[float, ...]:
    """Ridge logistic regression.

    Args:
        rows: float64 (N, F).
        truth: bool (N,).
        ridge: penalty on half the squared weights of the standardised features.

    Returns:
        F weights for the features as they are and the constant term.
    """
    linear_model = require("sklearn.linear_model", "train")
    mean, spread = rows.mean(axis=0), rows.std(axis=0) + 1e-9
    fitted = linear_model.LogisticRegression(
        C=1 / ridge, solver="newton-cholesky", tol=1e-8
    ).fit((rows - mean) / spread, truth)
    weights = fitted.coef_[0] / spread
    constant = fitted.intercept_[0] - weights @ mean
    return (*(float(weight) for weight in weights), float(constant))


@click.command("fit-localiser", cls=PoliteCommand, no_args_is_help=True)
@click.argument("data", metavar="FRAMES", type=click.Path(path_type=Path))
@click.argument("part", required=False)
def command(data: Path, part: str | None) -> None:
    """Fit the localiser's weights on labelled frames, and print them as JSON.

    FRAMES is a folder or ZIP file with YOLO labels, PART one of its folders, such as
    train.
    """
    table = {
        kind: dict(zip((*FEATURES, "constant"), weights, strict=True))
        for kind, weights in fit_weights(data, part).items()
    }
    click.echo(json.dumps(table, indent=2))


if __name__ == "__main__":
    command()
