"""Counts each cell once: recognises cells seen before, and decides on their class.

`slide_map` recognises the cells, `votes` decides on them.
"""

from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

from edgecell.edge.analyse.pipeline import FrameResult
from edgecell.edge.count.fields import MappedCell
from edgecell.edge.count.slide_map import MOST_FIELDS, SlideMap
from edgecell.edge.count.votes import Rule, Votes
from edgecell.model.decision import Decision
from edgecell.model.microscopes.microscope import Verdict


@dataclass(frozen=True)
class Told:
    """The microscope that all frames of one size come from.

    Attributes:
        width: of the frames, pixels.
        height: likewise.
        verdict: which microscope it is.
    """

    width: int
    height: int
    verdict: Verdict


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
        told: the microscope, in the frame in which it is identified.
    """

    result: FrameResult
    cells: tuple[int | None, ...]
    votes: tuple[bool, ...]
    changed: tuple[Decision, ...]
    to_review: frozenset[int] = frozenset()
    told: tuple[Told, ...] = ()

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


class Tracker:
    """Gives each cell of a session one number and one decision.

    A cell that the border cuts is only recognised; it counts, and votes, once it is
    seen whole. One session is one slide at one magnification.
    """

    def __init__(self, rule: Rule, most_fields: int = MOST_FIELDS) -> None:
        """Starts with an empty map.

        Args:
            rule: the model's; see `Rule.of_model`.
            most_fields: see `MOST_FIELDS`.
        """
        self._rule = rule
        self._map = SlideMap(most_fields)
        # Weak: what the map forgets is forgotten here.
        self._votes: WeakKeyDictionary[MappedCell, Votes] = WeakKeyDictionary()
        self._decisions: WeakKeyDictionary[MappedCell, Decision] = WeakKeyDictionary()

    def update(self, result: FrameResult) -> TrackedFrame:
        """Processes the next frame.

        Args:
            result: a frame's, of any source, in the order of time. A gated frame has
                no place on the map: the next one is registered against those before.
        """
        if result.gate is not None:
            return TrackedFrame(result, (), (), ())
        field = result.frame.image if result.field is None else result.field
        found = self._map.match(result.cells, field)
        result = replace(result, field=None)  # it is known by now, and takes memory
        changed: dict[int, Decision] = {}
        for kept, gone in found.united:
            changed[gone.number] = self._decide(gone, same_as=kept.number)
            self._votes[kept].merge(self._votes[gone])
            changed[kept.number] = self._decide(kept)
        votes = []
        for i, (cell, sighting) in enumerate(
            zip(found.cells, result.cells, strict=True)
        ):
            if cell is None:
                votes.append(False)
                continue
            if i in found.new:
                self._votes[cell] = Votes(sighting.record.gate)
            votes.append(self._votes[cell].add(sighting))
            if votes[i] or i in found.new:
                changed[cell.number] = self._decide(cell)
        return TrackedFrame(
            result,
            tuple(None if cell is None else cell.number for cell in found.cells),
            tuple(votes),
            tuple(changed.values()),
            frozenset(
                i
                for i, cell in enumerate(found.cells)
                if cell is not None and self._decisions[cell].reasons
            ),
        )

    def _decide(self, cell: MappedCell, same_as: int | None = None) -> Decision:
        decision = self._votes[cell].decide(cell.number, self._rule, same_as)
        self._decisions[cell] = decision
        return decision
