"""The differential: how many cells of each class, and how certain that is."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from edgecell.classes import CLASSES, ERYTHROBLAST, GROUPS, OTHER, PLATELET, SEPARATOR
from edgecell.files import csv_text
from edgecell.model.decision import Decision

_BANDS_MERGED = GROUPS["neutrophils"]
_Z = 1.959963984540054
"""97.5 % quantile of the normal distribution."""


def wilson(count: int, total: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson, JASA 1927, 22:209-212).

    Args:
        count: cells of the class, 0..total.
        total: all cells.

    Returns:
        Lower and upper bound, 0..1; (0, 1) for no cells at all.
    """
    if total == 0:
        return 0.0, 1.0
    share, zz = count / total, _Z * _Z
    middle = (share + zz / (2 * total)) / (1 + zz / total)
    half = math.sqrt(share * (1 - share) / total + zz / (4 * total * total))
    half *= _Z / (1 + zz / total)
    return max(0.0, middle - half), min(1.0, middle + half)


def interval_with_waiting(
    count: int, total: int, waiting: int, perhaps: int = 0
) -> tuple[float, float]:
    """95 % interval of a share while some cells wait for review.

    Each waiting cell may turn out to be of the class, of another, or not a white cell.
    The bounds are those of the two extremes: none of them is of the class, or all are
    (Manski, American Economic Review 1990, 80:319-323, with Wilson's bounds).

    Args:
        count: counted cells of the class, 0..total.
        total: counted white cells.
        waiting: cells that nobody has decided on.
        perhaps: counted white cells that are of this class or of another.

    Returns:
        Lower and upper bound, 0..1; Wilson's interval if nothing waits.
    """
    low, _ = wilson(count, total + waiting)
    _, high = wilson(count + waiting + perhaps, total + waiting)
    return low, high


@dataclass(frozen=True)
class Row:
    """A line of the differential.

    Attributes:
        code: class, or classes joined by '+'.
        name: in words.
        count: counted cells.
        share: of the white cells, 0..1; None outside of the denominator, and as long
            as there are no white cells.
        interval: its 95 % interval with the waiting cells in its width, see
            `interval_with_waiting`; None likewise.
        flagged: waiting cells that the machine took for this class; not in count.
    """

    code: str
    name: str
    count: int
    share: float | None
    interval: tuple[float, float] | None
    flagged: int

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON and CSV; shares in percent."""
        low, high = self.interval or (None, None)
        return {
            "class": self.code,
            "name": self.name,
            "count": self.count,
            "percent": _percent(self.share),
            "low": _percent(low),
            "high": _percent(high),
            "flagged": self.flagged,
        }


@dataclass(frozen=True)
class Differential:
    """Cells by class, each once.

    Erythroblasts and platelets are not white cells: they are outside the denominator.
    Flagged cells are in no count until somebody has looked at them; until then they
    widen every interval.

    Attributes:
        counted: counted cells by label: a class code; codes joined by '|' for cells
            that are one of them; 'other' or 'other: NAME'.
        flagged: cells to be reviewed by the class that was suggested.
        unclassified: cells that were never seen well enough to be classified.
    """

    counted: Mapping[str, int]
    flagged: Mapping[str, int]
    unclassified: int = 0

    @property
    def white_cells(self) -> int:
        """Counted white cells: the denominator."""
        outside = (ERYTHROBLAST, PLATELET)
        return sum(n for label, n in self.counted.items() if label not in outside)

    @property
    def platelets(self) -> int:
        """Counted platelets."""
        return self.counted.get(PLATELET, 0)

    @property
    def erythroblasts_per_100(self) -> float | None:
        """Counted erythroblasts per 100 white cells; None without white cells."""
        whites = self.white_cells
        return 100 * self.counted.get(ERYTHROBLAST, 0) / whites if whites else None

    @property
    def to_review(self) -> int:
        """Flagged and unclassified cells."""
        return sum(self.flagged.values()) + self.unclassified

    def rows(self) -> list[Row]:
        """A row for each class, for bands and segmented together, and for others."""
        rows = [self._row((c.code,), c.name) for c in CLASSES]
        rows.append(self._row(_BANDS_MERGED, "neutrophils"))
        others = sum(n for x, n in self.counted.items() if x.startswith(OTHER))
        return [*rows, *([self._share(OTHER, "other", others)] if others else [])]

    def _row(self, codes: tuple[str, ...], name: str) -> Row:
        count, perhaps = 0, 0
        for label, n in self.counted.items():
            possible = set(label.split(SEPARATOR))
            if possible <= set(codes):
                count += n
            elif possible & set(codes):
                perhaps += n
        flagged = sum(self.flagged.get(code, 0) for code in codes)
        return self._share("+".join(codes), name, count, perhaps, flagged)

    def _share(
        self, code: str, name: str, count: int, perhaps: int = 0, flagged: int = 0
    ) -> Row:
        """A row; ``perhaps`` of the counted cells may be of its class."""
        whites = self.white_cells
        if not whites or code in (ERYTHROBLAST, PLATELET):
            return Row(code, name, count, None, None, flagged)
        interval = interval_with_waiting(count, whites, self.to_review, perhaps)
        return Row(code, name, count, count / whites, interval, flagged)

    def lines(
        self, target: int | None = None, most_rows: int | None = None
    ) -> list[str]:
        """A table for the terminal, two lines above the classes' rows.

        Args:
            target: white cells at which the count ends, if it does.
            most_rows: rows that there is room for; classes without a cell go first.
        """
        rows = self.rows()
        if most_rows is not None and len(rows) > most_rows:
            seen = [row for row in rows if row.count or row.flagged]
            rows = seen[: max(most_rows, 0)]
        aim = "" if target is None else f" of {target}"
        per_100 = self.erythroblasts_per_100
        nucleated = "-" if per_100 is None else f"{per_100:.1f}"
        return [
            f"White cells: {self.white_cells}{aim}, "
            f"erythroblasts per 100: {nucleated}, "
            f"platelets: {self.platelets}, to review: {self.to_review} "
            f"({self.unclassified} unclassified)",
            f"{'class':<28}{'count':>6}{'%':>7}  {'95 % interval':<14}{'to review':>9}",
            *map(_line, rows),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; shares in percent."""
        per_100 = self.erythroblasts_per_100
        return {
            "white_cells": self.white_cells,
            "classes": [row.to_dict() for row in self.rows()],
            "erythroblasts_per_100": None if per_100 is None else round(per_100, 2),
            "platelets": self.platelets,
            "to_review": self.to_review,
            "unclassified": self.unclassified,
        }

    def to_csv(self) -> str:
        """The rows as CSV, with a header; shares in percent."""
        rows = [row.to_dict() for row in self.rows()]
        return csv_text(list(rows[0]), (row.values() for row in rows))


class CellCount:
    """Counts cells while their decisions change."""

    def __init__(self) -> None:
        self._decisions: dict[int, tuple[str | None, bool]] = {}
        self._numbers: Counter[tuple[str | None, bool]] = Counter()

    def put(self, decisions: Iterable[Decision]) -> None:
        """Adds new decisions; each replaces the previous one on the same cell."""
        for decision in decisions:
            before = self._decisions.pop(decision.cell, None)
            if before is not None:
                self._numbers[before] -= 1
            if decision.same_as is None:
                now = (decision.code, bool(decision.reasons))
                self._decisions[decision.cell] = now
                self._numbers[now] += 1

    def differential(self) -> Differential:
        """The differential of the cells so far."""
        numbers = {key: n for key, n in self._numbers.items() if n}
        return Differential(
            counted={c: n for (c, flag), n in numbers.items() if c and not flag},
            flagged={c: n for (c, flag), n in numbers.items() if c and flag},
            unclassified=sum(n for (c, _), n in numbers.items() if c is None),
        )


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 2)


def _line(row: Row) -> str:
    share, interval = "", ""
    if row.share is not None and row.interval is not None:
        low, high = row.interval
        share, interval = f"{100 * row.share:.1f}", f"{100 * low:.1f}-{100 * high:.1f}"
    flagged = row.flagged or ""
    name = f"{row.code:<4}{row.name}" if len(row.code) < 4 else f"{row.code} {row.name}"
    return f"{name:<28}{row.count:>6}{share:>7}  {interval:<14}{flagged:>9}".rstrip()
