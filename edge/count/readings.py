"""Three readings of one session's cells, kept apart wherever figures are shown."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgecell.classes import NOT_A_CELL
from edgecell.edge.count.differential import CellCount, Differential, Row
from edgecell.files import csv_text
from edgecell.model.decision import Decision

_FIRST = 24
_GROUP = 18

NAMES = {
    "accepted": "machine, accepted",
    "all": "machine, all",
    "reviewed": "reviewed",
}


@dataclass(frozen=True)
class Readings:
    """The differential three ways: accepted, the machine's guesses, and reviewed.

    Attributes:
        accepted: the cells that the machine's rule accepts; what it flags waits.
        all: every classified cell under the machine's first guess, flagged or not.
        reviewed: a person's name where there is one, else what the machine accepts;
            flagged cells without a name wait.
        named: cells that a person has named.
        not_cells: how many of these are not cells.
    """

    accepted: Differential
    all: Differential
    reviewed: Differential
    named: int = 0
    not_cells: int = 0

    def each(self) -> Mapping[str, Differential]:
        """The three by the keys of `NAMES`, in their order."""
        return {key: getattr(self, key) for key in NAMES}

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; shares in percent."""
        return {
            "named": self.named,
            "not_cells": self.not_cells,
            **{key: d.to_dict() for key, d in self.each().items()},
        }

    def to_csv(self) -> str:
        """One line for each reading and class as CSV, with a header."""
        rows = [
            {"reading": key, **row.to_dict()}
            for key, differential in self.each().items()
            for row in differential.rows()
        ]
        return csv_text(list(rows[0]), (row.values() for row in rows))

    def rows(self) -> list[tuple[Row, ...]]:
        """For each class its row in each reading, in the order of `NAMES`."""
        by_code = [{row.code: row for row in d.rows()} for d in self.each().values()]
        codes = dict.fromkeys(code for rows in by_code for code in rows)
        return [
            tuple(rows.get(code, Row(code, code, 0, None, None, 0)) for rows in by_code)
            for code in codes
        ]

    def lines(self) -> list[str]:
        """A table of 78 columns for the terminal: a group of columns a reading."""
        three = list(self.each().values())
        totals: dict[str, Sequence[object]] = {
            "white cells": [d.white_cells for d in three],
            "erythroblasts per 100": [_decimal(d.erythroblasts_per_100) for d in three],
            "waiting for review": [d.to_review for d in three],
        }
        heads = "".join(f"{name:>{_GROUP}}" for name in NAMES.values())
        columns = f" {'n':>4}{'%':>5}{'95 %':>8}" * len(three)
        return [
            f"{'':<{_FIRST}}{heads}",
            f"{'class':<{_FIRST}}{columns}",
            *(_line(row) for row in self.rows()),
            *(
                f"{name:<{_FIRST}}"
                + "".join(f" {n:>4}{'':<13}" for n in figures).rstrip()
                for name, figures in totals.items()
            ),
        ]


def readings(decisions: Iterable[Decision], names: Mapping[int, str]) -> Readings:
    """Reads a session's cells in the three ways.

    Args:
        decisions: the machine's, each cell once.
        names: by cell, the label that people gave it, see `trail.reviewed_label`.
    """
    decisions = list(decisions)
    kept = [d for d in decisions if names.get(d.cell) != NOT_A_CELL]
    return Readings(
        accepted=_count(decisions),
        all=_count(replace(d, reasons=()) for d in decisions),
        reviewed=_count(
            replace(d, code=names[d.cell], reasons=()) if d.cell in names else d
            for d in kept
        ),
        named=sum(d.cell in names for d in decisions),
        not_cells=len(decisions) - len(kept),
    )


def _count(decisions: Iterable[Decision]) -> Differential:
    count = CellCount()
    count.put(decisions)
    return count.differential()


def _line(rows: Sequence[Row]) -> str:
    first = rows[0]
    name = f"{first.code} {first.name}"
    return f"{name:<{_FIRST}}{''.join(map(_group, rows))}".rstrip()


def _group(row: Row) -> str:
    share, interval = "", ""
    if row.share is not None and row.interval is not None:
        low, high = row.interval
        share = _decimal(100 * row.share)
        interval = f"{100 * low:.0f}-{100 * high:.0f}"
    return f" {row.count:>4}{share:>5}{interval:>8}"


def _decimal(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.1f}".replace("100.0", "100")
