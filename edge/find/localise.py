"""Finds white cells and platelets in a microscope camera frame.

Nuclei are found by their stain, made into cells by rules in units of the red
cell's diameter (measured in the frame itself), and scored by a logistic model of
a few features. numpy and OpenCV alone.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecell.edge.find.blobs import Blob, find_blobs, morph, unite
from edgecell.edge.find.candidates import (
    RIM,
    Candidate,
    Field,
    describe,
    open_field,
    platelet_candidates,
    white_candidates,
)
from edgecell.edge.find.tiles import tiles
from edgecell.image.preprocess import Bgr
from edgecell.image.records import Box
from edgecell.image.red_cells import SMALLEST_FRAME_PX, red_cell_diameter

__all__ = ["Detection", "locate", "red_cell_diameter"]

# Lengths are in red cell diameters, chosen on the train half of the frames.
_REACH = 0.5
"""How far the cytoplasm is looked for beyond the nucleus."""

_OPENING = 0.25
"""Bridges thinner than this between cytoplasm and neighbours are cut."""

_SHARED_BOX = 0.25
_LARGEST_CELL = 2.4
"""Two cells that share so much of the smaller one's box, and together are no
larger than this, are one cell."""

_TILE = 20.0
_TILE_MARGIN = 3.0
"""Longest side of a tile's core, and what it sees beyond. Memory and time for a tile
stay those of a usual frame; the largest white cells are 2.4 across."""

_SEAM = 0.25
"""A cell whose centre lies no farther beyond the seam may be missing from the other
tile, which sees it with other surroundings."""

_SAME_CELL = 0.35
"""Two tiles' detections are one cell if their centres are no farther apart than this
part of the larger one's longer side."""

_WHITE_SCORE = 0.3
_PLATELET_SCORE = 0.35
"""Least scores: where precision equals recall for white cells, and for platelets
where their harmonic mean is greatest, on the train half."""


@dataclass(frozen=True)
class Detection:
    """A cell found in a frame.

    Attributes:
        box: the whole cell, in pixels of the frame.
        kind: "white" (white cells and erythroblasts) or "platelet".
        cut_by_border: touches the frame's edge; to be left out of counts.
        score: 0..1, the model's belief that this is what kind says.
    """

    box: Box
    kind: str
    cut_by_border: bool
    score: float


def locate(
    frame: NDArray[np.uint8], red_cell_px: float | None = None
) -> list[Detection]:
    """Finds white cells (erythroblasts included) and platelets.

    A large frame is searched in overlapping tiles; each cell is found once.

    Args:
        frame: uint8 BGR (H, W, 3).
        red_cell_px: diameter of the red cells in frame pixels if it is known;
            otherwise it is measured in the frame.

    Returns:
        Detections by descending score; none if no red cells could be measured.

    Raises:
        ValueError: if the frame is not uint8 (H, W, 3) or red_cell_px not above 0.
    """
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError("frame must be uint8 of shape (H, W, 3)")
    if red_cell_px is not None and not red_cell_px > 0:
        raise ValueError("red_cell_px must be above 0")
    if min(frame.shape[:2]) < SMALLEST_FRAME_PX:
        return []
    diameter = red_cell_px or red_cell_diameter(frame)
    if diameter is None:
        return []
    return in_tiles(frame, diameter, _in_tile)


def in_tiles(
    frame: NDArray[np.uint8],
    diameter: float,
    look: Callable[[Bgr, float, Box], list[Detection]],
) -> list[Detection]:
    """Searches a frame tile by tile, and returns each cell once.

    Args:
        frame: uint8 BGR (H, W, 3).
        diameter: of its red cells, pixels.
        look: finds the cells of a part, (h, w, 3), in pixels of the frame, given
            ``diameter`` and where in the frame the part lies.

    Returns:
        Detections by descending score.
    """
    found: list[Detection] = []
    for tile in tiles(frame.shape, _TILE * diameter, _TILE_MARGIN * diameter):
        part = frame[tile.whole.y0 : tile.whole.y1, tile.whole.x0 : tile.whole.x1]
        others = tuple(found)
        found += [
            detection
            for detection in look(Bgr(part), diameter, tile.whole)
            if tile.owns(detection.box.centre, _SEAM * diameter)
            and not any(_is_same(detection, other) for other in others)
        ]
    return sorted(found, key=lambda detection: detection.score, reverse=True)


def _in_tile(
    part: NDArray[np.uint8], red_cell_px: float, place: Box
) -> list[Detection]:
    """The cells of a part of a frame, in pixels of the frame.

    Args:
        part: uint8 BGR (h, w, 3).
        red_cell_px: diameter of the red cells, pixels.
        place: where in the frame the part lies.
    """
    field = open_field(part, red_cell_px)
    cells = white_cells(field)
    found = [_detection(*cell, "white", field, place) for cell in cells]
    for candidate in platelet_candidates(field, [cell for _, cell in cells]):
        if candidate.score("platelet") >= _PLATELET_SCORE:
            found.append(
                _detection(candidate, candidate.blob, "platelet", field, place)
            )
    return found


def _is_same(one: Detection, other: Detection) -> bool:
    """Whether two tiles found the same cell."""
    longest = max(one.box.width, one.box.height, other.box.width, other.box.height)
    return math.dist(one.box.centre, other.box.centre) <= _SAME_CELL * longest


def white_cells(field: Field) -> list[tuple[Candidate, Blob]]:
    """The white cells of a field: their nuclei and the whole cells."""
    nuclei = [
        candidate
        for candidate in white_candidates(field)
        if candidate.score("white") >= _WHITE_SCORE
    ]
    while True:
        blobs = [nucleus.blob for nucleus in nuclei]
        cells = [whole_cell(blob, blobs, field) for blob in blobs]
        pair = next(
            (
                (one, two)
                for one, two in combinations(range(len(cells)), 2)
                if _is_one_cell(cells[one], cells[two], field.diameter)
            ),
            None,
        )
        if pair is None:
            return list(zip(nuclei, cells, strict=True))
        # lobes farther apart than most, known by the cytoplasm that they share
        joined = unite(blobs[pair[0]], blobs[pair[1]])
        nuclei = [nuclei[i] for i in range(len(nuclei)) if i not in pair]
        nuclei.append(Candidate(joined, describe(joined, field)))


def _is_one_cell(one: Blob, two: Blob, diameter: float) -> bool:
    """Whether two cells' boxes overlap and together fit into one white cell."""
    across = min(one.x + one.width, two.x + two.width) - max(one.x, two.x)
    down = min(one.y + one.height, two.y + two.height) - max(one.y, two.y)
    smaller = min(one.width * one.height, two.width * two.height)
    both = unite(one, two)
    return (
        max(across, 0) * max(down, 0) > _SHARED_BOX * smaller
        and max(both.width, both.height) < _LARGEST_CELL * diameter
    )


def whole_cell(nucleus: Blob, nuclei: Sequence[Blob], field: Field) -> Blob:
    """Nucleus and the stained cytoplasm that hangs together with it."""
    around = nucleus.window_with(round(_REACH * field.diameter))
    top, left = around[0].start, around[1].start
    free = field.maps.stain > field.cytoplasm_threshold
    for other in nuclei:
        free[other.window] &= ~other.mask
    faint = free[around].astype(np.uint8)
    core = Blob(nucleus.mask, nucleus.x - left, nucleus.y - top)
    faint[core.window][core.mask] = 1
    faint = morph(faint, cv2.MORPH_OPEN, round(_OPENING * field.diameter))
    faint[core.window][core.mask] = 1
    # the nucleus, whole again, lies in one piece unless its lobes are apart
    cell = max(find_blobs(faint, 1), key=lambda piece: _shared(piece, core, faint))
    return Blob(cell.mask, cell.x + left, cell.y + top)


def _shared(piece: Blob, core: Blob, canvas: NDArray[np.uint8]) -> int:
    """Pixels that a piece shares with the core."""
    alone = np.zeros(canvas.shape, np.bool_)
    alone[piece.window] = piece.mask
    return int(np.count_nonzero(alone[core.window] & core.mask))


def _detection(
    candidate: Candidate, cell: Blob, kind: str, field: Field, place: Box
) -> Detection:
    """Brings a cell of a field back to pixels of the frame, of which it is a part."""
    scale, rim = field.scale, RIM * field.diameter
    box = Box(
        place.x0 + max(0, math.floor((cell.x - rim) / scale)),
        place.y0 + max(0, math.floor((cell.y - rim) / scale)),
        min(place.x1, place.x0 + math.ceil((cell.x + cell.width + rim) / scale)),
        min(place.y1, place.y0 + math.ceil((cell.y + cell.height + rim) / scale)),
    )
    cut = cell.touches_border(field.maps.stain.shape)
    return Detection(box, kind, cut, candidate.score(kind))
