"""The map of a slide: which cells of a frame were seen before.

The slide is mapped while the stage moves. A *field* is a frame that the map keeps;
fields that were linked by overlap lie on one *chart* with common coordinates, in
pixels of the frame. A new frame is registered against the field that was last in
sight, or else the frame before; where that fails (a jump, a gap) its cells are looked
up among all cells of the session, and the surroundings must agree. A place that nothing
links to the map starts a chart of its own, which joins another one as soon as a cell
links them.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgecell.edge.analyse.pipeline import CellResult
from edgecell.edge.count.fields import (
    NEW_FIELD,
    Field,
    MappedCell,
    Place,
    distance,
    overlap,
    reach,
    share_centre,
    view_of,
)
from edgecell.edge.count.registration import check, miniature, register
from edgecell.image.preprocess import Bgr, Image

MOST_FIELDS = 1000
"""Fields that the map holds; beyond, the one that was out of sight longest is
dropped, and its cells would be counted again."""

_LOOKUPS = 3
"""First sightings of a cell in which it is looked for among all others: the first
may be blurred."""

_LEAST_RESEMBLANCE = 0.8
"""Correlation above which a cell may be a known one, if the surroundings agree. Boxes
are a few pixels off between sightings; it only has to keep the number of candidates
down."""

_CANDIDATES = 5


@dataclass(frozen=True)
class Match:
    """The cells on the map that match those of a frame.

    Attributes:
        cells: for each cell of the frame the one on the map; None for one that the
            border cuts and that was never seen whole, and for one that is but a part
            of a known cell, or several in one.
        new: places of those that this frame put on the map.
        united: pairs of cells that turned out to be one: the older one, which stays,
            and the other one, which has left the map.
    """

    cells: tuple[MappedCell | None, ...]
    new: frozenset[int] = frozenset()
    united: tuple[tuple[MappedCell, MappedCell], ...] = ()


class SlideMap:
    """The fields of a session and the cells in them."""

    def __init__(self, most_fields: int = MOST_FIELDS) -> None:
        """Starts with no field.

        Args:
            most_fields: see `MOST_FIELDS`.
        """
        self._most_fields = most_fields
        self._fields: list[Field] = []
        self._reference: Field | None = None
        self._here: Place | None = None
        self._latest: Image | None = None
        self._charts = 0
        self._numbers = 0

    def match(self, found: Sequence[CellResult], image: Bgr) -> Match:
        """Finds the place of a frame and the cells in it, and maps what is new.

        Args:
            found: the frame's cells.
            image: the frame, uint8 BGR (H, W, 3).
        """
        small = miniature(image)
        united: list[tuple[MappedCell, MappedCell]] = []
        place = self._follow(small, image.shape)
        known = self._associate(found, place, image.shape)
        doubtful = [
            i
            for i, cell in enumerate(found)
            if not cell.record.cut_by_border and (place is None or _is_young(known[i]))
        ]
        views = {i: view_of(image, found[i]) for i in doubtful}
        elsewhere = self._recognise(small, image.shape, found, views, place)
        if elsewhere is not None:
            if place is not None:
                united = self._join(place, elsewhere)
            place = elsewhere
            known = self._associate(found, place, image.shape)
        elif place is None and views:
            self._charts += 1
            place = Place(self._charts, 0.0, 0.0)
        if place is None:
            return Match((None,) * len(found))
        self._anchor(small, image.shape, place)
        new = self._new_cells(found, known, place, image.shape)
        for i in new:
            view = views[i] if i in views else view_of(image, found[i])
            known[i] = self._start(found[i], place, view)
        for cell, sighting in zip(known, found, strict=True):
            if cell is not None and not sighting.record.cut_by_border:
                cell.sightings += 1
        return Match(tuple(known), frozenset(new), tuple(united))

    def _follow(self, small: Image, shape: tuple[int, ...]) -> Place | None:
        """The frame's place, from the field that was last in sight.

        Or else from the frame before, which shares more with it, but adds up errors.
        """
        last, here, latest = self._reference, self._here, self._latest
        if last is None or here is None or latest is None or last.shape != shape:
            return None
        scale = shape[1] / small.shape[1]
        guess = (here.x - last.x) / scale, (here.y - last.y) / scale
        offset = register(last.image, small, guess)
        if offset is not None:
            return Place(
                last.chart, last.x + scale * offset.x, last.y + scale * offset.y
            )
        offset = register(latest, small)
        if offset is not None:
            return Place(
                here.chart, here.x + scale * offset.x, here.y + scale * offset.y
            )
        return None

    def _recognise(
        self,
        small: Image,
        shape: tuple[int, ...],
        found: Sequence[CellResult],
        views: dict[int, npt.NDArray[np.float32]],
        place: Place | None,
    ) -> Place | None:
        """The frame's place, from a cell on any chart but the one that it is on."""
        scale = shape[1] / small.shape[1]
        cells = [
            cell
            for kept in self._fields
            if kept.shape == shape and (place is None or kept.chart != place.chart)
            for cell in kept.cells
        ]
        if not cells or not views:
            return None
        known = np.stack([cell.view for cell in cells])
        for i, view in views.items():
            alike = known @ view
            for best in np.argsort(-alike)[:_CANDIDATES]:
                if alike[best] < _LEAST_RESEMBLANCE:
                    break
                cell, (x, y) = cells[int(best)], found[i].record.box.centre
                guess = (cell.x - x) / scale, (cell.y - y) / scale
                offset = check(cell.field.image, small, guess)
                if offset is not None:
                    kept = cell.field
                    return Place(
                        kept.chart, kept.x + scale * offset.x, kept.y + scale * offset.y
                    )
        return None

    def _anchor(self, small: Image, shape: tuple[int, ...], place: Place) -> None:
        """Makes the field nearest to a place, or a new one, the reference."""
        height, width = shape[:2]

        def away(kept: Field) -> float:
            across, down = abs(kept.x - place.x), abs(kept.y - place.y)
            return max(across / width, down / height)

        near = [
            kept
            for kept in self._fields
            if kept.chart == place.chart and kept.shape == shape
        ]
        nearest = min(near, key=away, default=None)
        if nearest is None or away(nearest) > NEW_FIELD:
            nearest = Field(small, shape, place.chart, place.x, place.y)
        else:
            self._fields.remove(nearest)
        self._fields.append(nearest)  # the last one in sight is the last to go
        del self._fields[: -self._most_fields]
        self._reference, self._here, self._latest = nearest, place, small

    def _near(self, place: Place, width: int, height: int) -> Iterable[MappedCell]:
        """The cells that a frame may show."""
        for kept in self._fields:
            if kept.chart == place.chart and overlap(kept, place, width, height):
                yield from kept.cells

    def _associate(
        self, found: Sequence[CellResult], place: Place | None, shape: tuple[int, ...]
    ) -> list[MappedCell | None]:
        """The known cell that each found one is; nearest pairs first."""
        matched: list[MappedCell | None] = [None] * len(found)
        if place is None:
            return matched
        height, width = shape[:2]
        pairs = []
        for cell in self._near(place, width, height):
            cx, cy = cell.place()
            for i, sighting in enumerate(found):
                x, y = sighting.record.box.centre
                away = math.hypot(place.x + x - cx, place.y + y - cy)
                if away < min(cell.reach, reach(sighting)):
                    pairs.append((away, cell.number, i, cell))
        taken: set[int] = set()
        for _, number, i, cell in sorted(pairs, key=lambda pair: pair[:3]):
            if matched[i] is None and number not in taken:
                matched[i] = cell
                taken.add(number)
        return matched

    def _new_cells(
        self,
        found: Sequence[CellResult],
        known: Sequence[MappedCell | None],
        place: Place,
        shape: tuple[int, ...],
    ) -> list[int]:
        """Which found cells are whole, and neither known nor part of a known one."""
        height, width = shape[:2]
        near = list(self._near(place, width, height))
        new = []
        for i, sighting in enumerate(found):
            if known[i] is not None or sighting.record.cut_by_border:
                continue
            if not any(share_centre(sighting.record.box, c, place) for c in near):
                new.append(i)
        return new

    def _start(
        self, sighting: CellResult, place: Place, view: npt.NDArray[np.float32]
    ) -> MappedCell:
        """Puts a new cell on the map."""
        kept = self._reference
        assert kept is not None, "a place has an anchor"
        self._numbers += 1
        box = sighting.record.box
        x, y = box.centre
        cell = MappedCell(
            self._numbers,
            kept,
            place.x + x - kept.x,
            place.y + y - kept.y,
            box.width,
            box.height,
            reach(sighting),
            view,
        )
        kept.cells.append(cell)
        return cell

    def _join(self, here: Place, there: Place) -> list[tuple[MappedCell, MappedCell]]:
        """Moves a chart onto another one: both places are one.

        Returns:
            The cells that turned out to be on both, see `Match.united`.
        """
        moved = [kept for kept in self._fields if kept.chart == here.chart]
        stayed = [kept for kept in self._fields if kept.chart == there.chart]
        for kept in moved:
            kept.chart = there.chart
            kept.x += there.x - here.x
            kept.y += there.y - here.y
        united = []
        others = [cell for kept in stayed for cell in kept.cells]
        for cell in [cell for kept in moved for cell in kept.cells]:
            twin = min(others, key=lambda other: distance(cell, other), default=None)
            if twin and distance(cell, twin) < min(cell.reach, twin.reach):
                others.remove(twin)
                older, newer = sorted((cell, twin), key=lambda one: one.number)
                newer.field.cells.remove(newer)
                older.sightings += newer.sightings
                united.append((older, newer))
        return united


def _is_young(cell: MappedCell | None) -> bool:
    return cell is None or cell.sightings < _LOOKUPS
