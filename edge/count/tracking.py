"""Each cell once: which cells of a frame were seen before.

The slide is mapped while the stage moves. A *field* is a frame that the map keeps;
fields that were linked by overlap lie on one *chart* with common coordinates, in
pixels of the frame. A new frame is registered against the field that it was last
seen in; where that fails (a jump, a gap) its cells are looked up among all cells of
the session, and the surroundings must agree. A place that nothing links to the map
starts a chart of its own, which joins another one as soon as a cell links them.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from edgecell.edge.analyse.pipeline import CellResult, FrameResult
from edgecell.edge.count.differential import PLATELET, Decision
from edgecell.edge.count.registration import check, miniature, register
from edgecell.image.preprocess import Image, crop_square
from edgecell.image.records import Box
from edgecell.model.decision import review_reasons
from edgecell.model.modelfile import ModelRecord
from edgecell.model.probabilities import softmax

Decide = Callable[[npt.NDArray[np.float32]], tuple[str, ...]]

MOST_VOTES = 8
"""Sightings that vote on a cell. All of them are recorded: more would cost disk
space and would, from the same camera and focus, hardly say anything new."""

MOST_FIELDS = 1000
"""Fields that the map holds; beyond, the one that was longest out of sight goes, and
its cells would be counted anew."""

PLATELET_SIZE = "as small as a platelet"
"""Reason to review what was found as a platelet and classified as something else. On
the mosaic of `benchmarks.counting` none of 120 white cells was found as a platelet, and
18 of 34 stray platelets were classified as white cells."""

WHITE_CELL_SIZE = "as large as a white cell"
"""Reason to review what is longer than `_LARGEST_PLATELET` and classified as one."""

_LARGEST_PLATELET = 1.3
"""In red cells. Of cells of the validation split on a mosaic as `benchmarks.counting`
makes it, 1 of 58 platelets was longer and 119 of 120 white cells were."""

_NEW_FIELD = 0.25
"""Shift, as a part of the frame, after which another field becomes the reference."""

_REACH = 0.5
"""How far from its place a cell may be seen, as a part of its longer side: its own or
the sighting's, whichever is less, for a cell and its neighbour may be found as one."""

_LEAST_REACH = 0.25
"""The same in red cells, for platelets: a box of few pixels is hit by less."""

_LOOKUPS = 3
"""First sightings of a cell in which it is looked for among all others: the first
may be blurred."""

_VIEW_PX = 16
_VIEW_RED_CELLS = 2.5
_LEAST_RESEMBLANCE = 0.8
"""Correlation above which a cell may be a known one, if the surroundings agree. Boxes
are a few pixels off between sightings; it only has to keep the number of candidates
down."""

_CANDIDATES = 5


@dataclass(frozen=True)
class TrackedFrame:
    """A frame with what the tracker made of it.

    Attributes:
        result: the frame and what was found in it.
        cells: for each of its cells the number of the cell within the session; None
            for one that the border cuts and that was never seen whole, and for one
            that is but a part of a known cell, or several in one.
        votes: for each of its cells whether this sighting votes on the class.
        changed: decisions that this frame made or changed.
        to_review: places of those of its cells that, by what is known so far, a
            person has to look at.
    """

    result: FrameResult
    cells: tuple[int | None, ...]
    votes: tuple[bool, ...]
    changed: tuple[Decision, ...]
    to_review: frozenset[int] = frozenset()

    def evidence(self) -> list[int]:
        """Places of the sightings that a decision rests on, whose pixels are kept.

        They are those that vote, and the first one of a cell that can't be
        classified.
        """
        changed = {decision.cell for decision in self.changed}
        return [
            i
            for i, (cell, found) in enumerate(
                zip(self.cells, self.result.cells, strict=True)
            )
            if cell is not None
            and (self.votes[i] or (found.logits is None and cell in changed))
        ]


@dataclass(eq=False)
class _Cell:
    """A cell of the map.

    x, y is its centre relative to its field's corner; reach says how far from there
    the centre of another sighting may lie.
    """

    number: int
    field: "_Field"
    x: float
    y: float
    width: int
    height: int
    reach: float
    view: npt.NDArray[np.float32]
    gate: str | None
    sightings: int = 0
    votes: int = 0
    votes_as_platelet: int = 0
    votes_as_large: int = 0
    total: npt.NDArray[np.float32] | None = None
    flagged: bool = False

    def place(self) -> tuple[float, float]:
        """Centre on the chart."""
        return self.field.x + self.x, self.field.y + self.y


@dataclass(eq=False)
class _Field:
    """A kept frame; x, y is its upper left corner on the chart."""

    image: Image
    shape: tuple[int, ...]
    chart: int
    x: float
    y: float
    cells: list[_Cell] = field(default_factory=list)


@dataclass(frozen=True)
class _Place:
    """Where a frame's upper left corner lies."""

    chart: int
    x: float
    y: float


class Tracker:
    """Gives each cell of a session one number, however often it is seen.

    A cell that the border cuts is only recognised; it counts, and votes, once it is
    seen whole. One session is one slide at one magnification.
    """

    def __init__(
        self,
        codes: Sequence[str],
        temperature: float = 1.0,
        decide: Decide = lambda logits: (),
    ) -> None:
        """Starts with an empty map.

        Args:
            codes: class codes in the order of the logits.
            temperature: divides the logits before the softmax.
            decide: reasons to review a cell, from the mean of its logits.
        """
        self._codes = codes
        self._temperature = temperature
        self._decide = decide
        self._fields: list[_Field] = []
        self._reference: _Field | None = None
        self._here: _Place | None = None
        self._charts = 0
        self._numbers = 0

    @classmethod
    def of_model(cls, record: ModelRecord) -> "Tracker":
        """A tracker with a model's classes, temperature and rule for review."""
        return cls(
            record.codes,
            record.temperature,
            lambda logits: review_reasons(logits, record),
        )

    def update(self, result: FrameResult) -> TrackedFrame:
        """Takes in the next frame.

        Args:
            result: a frame's, of any source, in the order of time. A gated frame has
                no place on the map: the next one is registered against those before.
        """
        if result.gate is not None:
            return TrackedFrame(result, (), (), ())
        found, image = result.cells, result.frame.image
        small = miniature(image)
        united: list[Decision] = []
        place = self._follow(small, image.shape)
        known = self._associate(found, place, image.shape)
        doubtful = [
            i
            for i, cell in enumerate(found)
            if not cell.record.cut_by_border and (place is None or _is_young(known[i]))
        ]
        views = {i: _view(image, found[i]) for i in doubtful}
        elsewhere = self._recognise(small, image.shape, found, views, place)
        if elsewhere is not None:
            if place is not None:
                united = self._join(place, elsewhere)
            place = elsewhere
            known = self._associate(found, place, image.shape)
        elif place is None and views:
            self._charts += 1
            place = _Place(self._charts, 0.0, 0.0)
        if place is None:
            none = (None,) * len(found)
            return TrackedFrame(result, none, (False,) * len(found), ())
        self._anchor(small, image.shape, place)
        new = self._new_cells(found, known, place, image.shape)
        for i in new:
            view = views[i] if i in views else _view(image, found[i])
            known[i] = self._start(found[i], place, view)
        votes = tuple(
            cell is not None and _sight(cell, sighting)
            for cell, sighting in zip(known, found, strict=True)
        )
        changed = {decision.cell: decision for decision in united}
        for i, cell in enumerate(known):
            if cell is not None and (votes[i] or i in new):
                changed[cell.number] = self._decision(cell)
        numbers = tuple(None if cell is None else cell.number for cell in known)
        flagged = (i for i, cell in enumerate(known) if cell and cell.flagged)
        return TrackedFrame(
            result, numbers, votes, tuple(changed.values()), frozenset(flagged)
        )

    def _follow(self, small: Image, shape: tuple[int, ...]) -> _Place | None:
        """The frame's place, from the field that was last in sight."""
        last, here = self._reference, self._here
        if last is None or here is None or last.shape != shape:
            return None
        scale = shape[1] / small.shape[1]
        guess = (here.x - last.x) / scale, (here.y - last.y) / scale
        offset = register(last.image, small, guess)
        if offset is None:
            return None
        return _Place(last.chart, last.x + scale * offset.x, last.y + scale * offset.y)

    def _recognise(
        self,
        small: Image,
        shape: tuple[int, ...],
        found: Sequence[CellResult],
        views: dict[int, npt.NDArray[np.float32]],
        place: _Place | None,
    ) -> _Place | None:
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
                    return _Place(
                        kept.chart, kept.x + scale * offset.x, kept.y + scale * offset.y
                    )
        return None

    def _anchor(self, small: Image, shape: tuple[int, ...], place: _Place) -> None:
        """Makes the field that is nearest to a place the reference, or a new one."""
        height, width = shape[:2]

        def away(kept: _Field) -> float:
            across, down = abs(kept.x - place.x), abs(kept.y - place.y)
            return max(across / width, down / height)

        near = [
            kept
            for kept in self._fields
            if kept.chart == place.chart and kept.shape == shape
        ]
        nearest = min(near, key=away, default=None)
        if nearest is None or away(nearest) > _NEW_FIELD:
            nearest = _Field(small, shape, place.chart, place.x, place.y)
        else:
            self._fields.remove(nearest)
        self._fields.append(nearest)  # the last one in sight is the last to go
        del self._fields[:-MOST_FIELDS]
        self._reference, self._here = nearest, place

    def _near(self, place: _Place, width: int, height: int) -> Iterable[_Cell]:
        """The cells that a frame may show."""
        for kept in self._fields:
            if kept.chart == place.chart and _overlap(kept, place, width, height):
                yield from kept.cells

    def _associate(
        self, found: Sequence[CellResult], place: _Place | None, shape: tuple[int, ...]
    ) -> list[_Cell | None]:
        """The known cell that each found one is; nearest pairs first."""
        matched: list[_Cell | None] = [None] * len(found)
        if place is None:
            return matched
        height, width = shape[:2]
        pairs = []
        for cell in self._near(place, width, height):
            cx, cy = cell.place()
            for i, sighting in enumerate(found):
                x, y = sighting.record.box.centre
                away = math.hypot(place.x + x - cx, place.y + y - cy)
                if away < min(cell.reach, _reach(sighting)):
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
        known: Sequence[_Cell | None],
        place: _Place,
        shape: tuple[int, ...],
    ) -> list[int]:
        """Which of the found cells are whole and none, nor a part, of the known."""
        height, width = shape[:2]
        near = list(self._near(place, width, height))
        new = []
        for i, sighting in enumerate(found):
            if known[i] is not None or sighting.record.cut_by_border:
                continue
            if not any(_share_centre(sighting.record.box, c, place) for c in near):
                new.append(i)
        return new

    def _start(
        self, sighting: CellResult, place: _Place, view: npt.NDArray[np.float32]
    ) -> _Cell:
        """Puts a new cell on the map."""
        kept = self._reference
        assert kept is not None, "a place has an anchor"
        self._numbers += 1
        box = sighting.record.box
        x, y = box.centre
        cell = _Cell(
            self._numbers,
            kept,
            place.x + x - kept.x,
            place.y + y - kept.y,
            box.width,
            box.height,
            _reach(sighting),
            view,
            sighting.record.gate,
        )
        kept.cells.append(cell)
        return cell

    def _join(self, here: _Place, there: _Place) -> list[Decision]:
        """Moves a chart onto another one: both places are one.

        Returns:
            Decisions on the cells that turned out to be on both.
        """
        moved = [kept for kept in self._fields if kept.chart == here.chart]
        stayed = [kept for kept in self._fields if kept.chart == there.chart]
        for kept in moved:
            kept.chart = there.chart
            kept.x += there.x - here.x
            kept.y += there.y - here.y
        decisions = []
        old = [cell for kept in stayed for cell in kept.cells]
        for cell in [cell for kept in moved for cell in kept.cells]:
            twin = min(old, key=lambda other: _distance(cell, other), default=None)
            if twin and _distance(cell, twin) < min(cell.reach, twin.reach):
                decisions += self._unite(cell, twin)
                old.remove(twin)
        return decisions

    def _unite(self, one: _Cell, other: _Cell) -> list[Decision]:
        """Makes two cells one, under the older number."""
        old, new = sorted((one, other), key=lambda cell: cell.number)
        new.field.cells.remove(new)
        gone = self._decision(new, same_as=old.number)
        if new.total is not None:
            old.total = new.total if old.total is None else old.total + new.total
        old.votes += new.votes
        old.votes_as_platelet += new.votes_as_platelet
        old.votes_as_large += new.votes_as_large
        old.sightings += new.sightings
        return [gone, self._decision(old)]

    def _decision(self, cell: _Cell, same_as: int | None = None) -> Decision:
        """What is held of a cell now; its flag says whether that is to be reviewed."""
        if cell.total is None:
            poor = () if cell.gate is None else (cell.gate,)
            cell.flagged = bool(poor)
            return Decision(cell.number, None, None, poor, 0, None, same_as)
        mean = cell.total / np.float32(cell.votes)
        probabilities = softmax(mean, self._temperature)
        best = int(probabilities.argmax())
        reasons, code = self._decide(mean), self._codes[best]
        if code != PLATELET and cell.votes_as_platelet > cell.votes / 2:
            reasons += (PLATELET_SIZE,)
        if code == PLATELET and cell.votes_as_large > cell.votes / 2:
            reasons += (WHITE_CELL_SIZE,)
        cell.flagged = bool(reasons)
        return Decision(
            cell.number,
            code,
            float(probabilities[best]),
            reasons,
            cell.votes,
            mean,
            same_as,
        )


def _is_young(cell: _Cell | None) -> bool:
    return cell is None or cell.sightings < _LOOKUPS


def _sight(cell: _Cell, sighting: CellResult) -> bool:
    """Counts a sighting; whether it votes."""
    record = sighting.record
    if record.cut_by_border:
        return False
    cell.sightings += 1
    if sighting.logits is None or cell.votes >= MOST_VOTES:
        return False
    cell.total = sighting.logits + (0 if cell.total is None else cell.total)
    cell.votes += 1
    cell.votes_as_platelet += record.kind == "platelet"
    side = max(record.box.width, record.box.height)
    cell.votes_as_large += side > _LARGEST_PLATELET * record.red_cell_px
    return True


def _reach(sighting: CellResult) -> float:
    record = sighting.record
    side = max(record.box.width, record.box.height)
    return max(_REACH * side, _LEAST_REACH * record.red_cell_px)


def _distance(one: _Cell, other: _Cell) -> float:
    return math.dist(one.place(), other.place())


def _overlap(kept: _Field, place: _Place, width: int, height: int) -> bool:
    """Whether a frame may show cells of a field: they lie up to `_NEW_FIELD` off it."""
    reach = 1 + _NEW_FIELD
    return (
        kept.chart == place.chart
        and abs(kept.x - place.x) < reach * width
        and abs(kept.y - place.y) < reach * height
    )


def _share_centre(box: Box, cell: _Cell, place: _Place) -> bool:
    """Whether the centre of a box or of a cell lies in the other one."""
    cx, cy = cell.place()
    (x, y) = box.centre
    across, down = abs(place.x + x - cx), abs(place.y + y - cy)
    # A platelet that lies against a white cell is no part of it.
    part = 3 * max(cell.width, cell.height) > max(box.width, box.height)
    return (part and across < box.width / 2 and down < box.height / 2) or (
        across < cell.width / 2 and down < cell.height / 2
    )


def _view(image: Image, sighting: CellResult) -> npt.NDArray[np.float32]:
    """What a cell is known by again: its green channel, at its own scale.

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
