"""Which cells the review page shows, in which strips, in which order."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from edgecell.classes import CLASSES, NOT_A_CELL, OTHER
from edgecell.edge.page.forms import whole_number
from edgecell.edge.record.review import Look
from edgecell.edge.report.content import ORDER, OUTSIDE

STATES = ("all", "waiting", "accepted", "named", "differ", "asked", "unseen", "sample")
STRIPS = (*(c for c in ORDER if "+" not in c), *OUTSIDE)
"""Strips that always stand in the same order; others follow them."""

FIRST = 60
"""Cells of a strip that come with the page; the others when they scroll into view."""

_FIRST_IN_ALL = 150
"""Bounds the page: a cell takes some 400 bytes before its picture."""


@dataclass(frozen=True)
class Filter:
    """What is to be shown.

    Attributes:
        state: one of `STATES`.
        label: a strip alone; '' for all.
        reason: how a reason for review starts; '' for any.
        below: highest probability of the machine's class, percent.
        person: who named it last; '' for anybody.
    """

    state: str = "all"
    label: str = ""
    reason: str = ""
    below: int = 100
    person: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> "Filter":
        """Reads an address's query; invalid values are ignored."""
        state, below = query.get("state", "all"), whole_number(query.get("below", ""))
        return cls(
            state if state in STATES else "all",
            query.get("label", ""),
            query.get("reason", ""),
            100 if below is None else min(100, below),
            query.get("person", ""),
        )

    def query(self) -> dict[str, str]:
        """The filter as a query, without its default values."""
        plain = Filter()
        return {
            name: str(value)
            for name, value in vars(self).items()
            if value != getattr(plain, name)
        }

    def takes(self, look: Look) -> bool:
        """Whether a cell is to be shown."""
        person = "" if look.naming is None else look.naming.person
        return (
            _in_state(look, self.state)
            and self.label in ("", strip_of(look))
            and self.person in ("", person)
            and (self.below == 100 or 100 * (look.probability or 0) <= self.below)
            and any(r.startswith(self.reason) for r in look.reasons or ("",))
        )


def _in_state(look: Look, state: str) -> bool:
    return {
        "all": True,
        "waiting": look.waits,
        "accepted": look.label is None and not look.waits,
        "named": look.label is not None,
        "differ": look.differ,
        "asked": bool(look.asked),
        "unseen": not look.seen,
        "sample": look.drawn,
    }[state]


def strip_of(look: Look) -> str:
    """The strip that a cell belongs to: its present label; '' for none."""
    now = look.now
    return OTHER if now.startswith(OTHER) else now


@dataclass(frozen=True)
class Strip:
    """Cells with the same label.

    Attributes:
        label: a class code, codes joined by '|', 'not a cell', 'other', or ''.
        looks: all of them, doubtful ones first.
        first: how many of them come with the page.
    """

    label: str
    looks: Sequence[Look] = field(repr=False)
    first: int

    @property
    def waiting(self) -> int:
        """How many wait for review."""
        return sum(look.waits for look in self.looks)


def strips(looks: Iterable[Look], wanted: Filter) -> list[Strip]:
    """Groups the cells by label, the doubtful ones first.

    Args:
        looks: all cells.
        wanted: which of them.
    """
    by_label: dict[str, list[Look]] = {}
    for look in looks:
        if wanted.takes(look):
            by_label.setdefault(strip_of(look), []).append(look)
    order = {label: i for i, label in enumerate((*STRIPS, OTHER))}
    left, found = _FIRST_IN_ALL, []
    for label in sorted(by_label, key=lambda x: (order.get(x, 99), x)):
        cells = sorted(by_label[label], key=_doubt)
        first = min(len(cells), FIRST, max(left, 0))
        left -= first
        found.append(Strip(label, cells, first))
    return found


def _doubt(look: Look) -> tuple[bool, float, int]:
    return not (look.waits or look.asked), look.probability or 0.0, look.cell


def class_names() -> dict[str, str]:
    """English names by code."""
    return {c.code: c.name for c in CLASSES}


def reasons_of(looks: Iterable[Look]) -> list[str]:
    """The kinds of reasons for review that occur, each by its beginning."""
    return sorted({r.partition(":")[0] for look in looks for r in look.reasons})


def people_of(looks: Iterable[Look]) -> list[str]:
    """Who named cells last."""
    return sorted({look.naming.person for look in looks if look.naming is not None})


def short(label: str) -> str:
    """A label for a card: a cross for what is not a cell."""
    return "✕" if label == NOT_A_CELL else label.removeprefix(f"{OTHER}: ")
