"""A session's cells as lists: one line a cell, with what the machine and people say."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np

from edgecell.edge.record.damage import damage_told
from edgecell.edge.record.sessions import Place, RecordedSession
from edgecell.files import csv_text
from edgecell.model.decision import Decision
from edgecell.model.probabilities import softmax
from edgecell.morphology.words import Words

_COLUMNS = (
    *("cell", "class", "probability", "runner_up", "runner_up_probability", "votes"),
    *("review", "waits", "label", "person"),
    *("frame", "name", "captured_utc", "x", "y", "attributes", "sentence"),
)


@dataclass(frozen=True)
class CellInShort:
    """A cell as a line of a list.

    Attributes:
        decision: the machine's decision.
        runner_up: the second most probable class; None without votes.
        runner_up_probability: of that class, 0..1; None likewise.
        label: what people take it for; None if nobody named it.
        person: who named it last; None likewise.
        place: where it was first seen whole.
        words: its description in words; None where nothing supports one.
    """

    decision: Decision
    runner_up: str | None
    runner_up_probability: float | None
    label: str | None
    person: str | None
    place: Place
    words: Words | None = None

    @property
    def waits(self) -> bool:
        """Whether a person has to look at it and nobody has yet."""
        return self.label is None and (
            bool(self.decision.reasons) or self.decision.code is None
        )

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        d, place = self.decision, self.place
        centre = place.box.centre if place.box else None
        return {
            "cell": d.cell,
            "class": d.code,
            "probability": d.probability,
            "runner_up": self.runner_up,
            "runner_up_probability": self.runner_up_probability,
            "review": list(d.reasons),
            "waits": self.waits,
            "label": self.label,
            "person": self.person,
            "votes": d.votes,
            "frame": place.frame,
            "name": place.name,
            "captured_utc": utc(place.captured),
            "x": None if centre is None else centre[0],
            "y": None if centre is None else centre[1],
            "attributes": None if self.words is None else self.words.to_dict(),
        }


@damage_told
def cells_in_short(session: RecordedSession) -> list[CellInShort]:
    """Each cell of a session once, by number."""
    holding, places = session.trail.holding(), session.places()
    decisions = session.decisions()
    words = session.words(decisions)
    cells = []
    for d in decisions:
        naming = holding.get(d.cell)
        label = naming.label if naming else None
        person = naming.person if naming and label else None
        runner_up = _runner_up(session, d)
        said = words.get(d.cell)
        cells.append(CellInShort(d, *runner_up, label, person, places[d.cell], said))
    return cells


def _runner_up(
    session: RecordedSession, decision: Decision
) -> tuple[str | None, float | None]:
    if decision.logits is None:
        return None, None
    probabilities = softmax(decision.logits, session.model.temperature)
    second = int(np.argsort(-probabilities)[1])
    return session.model.codes[second], float(probabilities[second])


def waiting(cells: Sequence[CellInShort]) -> list[CellInShort]:
    """The cells that wait for review, the most doubtful first."""
    return sorted(
        (cell for cell in cells if cell.waits),
        key=lambda cell: cell.decision.probability or 0.0,
    )


def cells_csv(cells: Sequence[CellInShort]) -> str:
    """One line a cell, with a header (RFC 4180, but lines end in LF)."""
    rows = [
        cell.to_dict()
        | {
            "review": "; ".join(cell.decision.reasons),
            "attributes": str(cell.words or ""),
            "sentence": cell.words.sentence if cell.words else "",
        }
        for cell in cells
    ]
    return csv_text(_COLUMNS, ([_short(row[c]) for c in _COLUMNS] for row in rows))


def utc(seconds: float) -> str:
    """Seconds since 1970 as '2026-11-26 14:10:40 UTC'."""
    try:
        time = datetime.fromtimestamp(seconds, timezone.utc)
    except (OverflowError, ValueError, OSError):
        return "?"
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


def _short(value: object) -> object:
    if not isinstance(value, float):
        return value
    return f"{value:.4f}".rstrip("0").rstrip(".")
