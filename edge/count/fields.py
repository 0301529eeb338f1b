"""The parts of a slide's map: fields, places and cells."""

import math
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from edgecell.edge.analyse.pipeline import CellResult
from edgecell.image.preprocess import Bgr, Image, crop_square
from edgecell.image.records import Box

NEW_FIELD = 0.25
"""Shift, as a part of the frame, after which another field becomes the reference."""

_REACH = 0.5
"""How far from its place a cell may be seen, as a part of its longer side: its own or
the sighting's, whichever is less, for a cell and its neighbour may be found as one."""

_LEAST_REACH = 0.25
"""The same in red cells, for platelets: a box of few pixels is hit by less."""

_VIEW_PX = 16
_VIEW_RED_CELLS = 2.5


@dataclass(eq=False)
class MappedCell:
    """A cell of the map.

    Attributes:
        number: its number within the session, from 1.
        field: the field that it was first seen in.
        x, y: its centre relative to that field's corner, pixels.
        width, height: of its box, pixels.
        reach: how far from there the centre of another sighting may lie, pixels.
        view: what it is recognised by, see `view_of`.
        sightings: how often it was seen whole.
    """

    number: int
    field: "Field"
    x: float
    y: float
    width: int
    height: int
    reach: float
    view: npt.NDArray[np.float32]
    sightings: int = 0

    def place(self) -> tuple[float, float]:
        """Centre on the chart."""
        return self.field.x + self.x, self.field.y + self.y


@dataclass(eq=False)
class Field:
    """A kept frame; x, y is its upper left corner on the chart."""

    image: Image
    shape: tuple[int, ...]
    chart: int
    x: float
    y: float
    cells: list[MappedCell] = field(default_factory=list)


@dataclass(frozen=True)
class Place:
    """Where a frame's upper left corner lies."""

    chart: int
    x: float
    y: float


def reach(sighting: CellResult) -> float:
    """How far from its centre another sighting's may lie, pixels."""
    record = sighting.record
    side = max(record.box.width, record.box.height)
    return max(_REACH * side, _LEAST_REACH * record.red_cell_px)


def distance(one: MappedCell, other: MappedCell) -> float:
    """Between the centres of two cells of one chart, pixels."""
    return math.dist(one.place(), other.place())


def overlap(kept: Field, place: Place, width: int, height: int) -> bool:
    """Whether a frame on the chart of a field may show its cells.

    They lie up to `NEW_FIELD` off the field.
    """
    reach = 1 + NEW_FIELD
    return (
        abs(kept.x - place.x) < reach * width and abs(kept.y - place.y) < reach * height
    )


def share_centre(box: Box, cell: MappedCell, place: Place) -> bool:
    """Whether the centre of a box or of a cell lies in the other one."""
    cx, cy = cell.place()
    (x, y) = box.centre
    across, down = abs(place.x + x - cx), abs(place.y + y - cy)
    # A platelet that touches a white cell is not part of it.
    part = 3 * max(cell.width, cell.height) > max(box.width, box.height)
    return (part and across < box.width / 2 and down < box.height / 2) or (
        across < cell.width / 2 and down < cell.height / 2
    )


def view_of(image: Bgr, sighting: CellResult) -> npt.NDArray[np.float32]:
    """What a cell is recognised by: its green channel, at its own scale.

    Returns:
        float32 (n,), of mean 0 and length 1, so that a product of two is their
        correlation.
    """
    record = sighting.record
    square = crop_square(image, record.box.centre, _VIEW_RED_CELLS * record.red_cell_px)
    size = (_VIEW_PX, _VIEW_PX)
    green = cv2.extractChannel(square, 1)
    small = cv2.resize(green, size, interpolation=cv2.INTER_AREA)
    centred = small.astype(np.float32).ravel()
    centred -= centred.mean()
    return np.asarray(centred / max(float(np.linalg.norm(centred)), 1e-6), np.float32)
