"""Intervals that stay valid while a count goes on, and goals that end it.

A usual 95 % interval holds for a number of cells that was fixed beforehand. If you look
after each cell and stop when the interval suits you, it is wrong far more often. The
intervals here hold at all numbers of cells at once, so a run may stop on them.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgecell.classes import CODES, ERYTHROBLAST, PLATELET
from edgecell.edge.count.differential import Differential
from edgecell.errors import InputError

_ALPHA = 0.05
_STEPS = 50
"""Halvings of the bisection: more than a float64 can tell apart."""

_NO_WHITE_CELLS = (ERYTHROBLAST, PLATELET)
_GOAL = re.compile(r"(width:)?([A-Z+]+)\s*<\s*(\d+(?:\.\d+)?)\s*%")


def sequential_interval(count: int, total: int) -> tuple[float, float]:
    """95 % interval of a share that holds at all numbers of cells at once.

    Every share p with (n + 1) C(n, k) p^k (1 - p)^(n - k) > 0.05 (Robbins, Annals of
    Mathematical Statistics 1970, 41:1397-1409; a mixture over a uniform prior
    and Ville's inequality).

    Args:
        count: cells of the class, k, 0..total.
        total: all cells, n.

    Returns:
        Lower and upper bound, 0..1; (0, 1) for no cells at all.
    """
    if total == 0:
        return 0.0, 1.0
    share = count / total
    low = _edge(count, total, 0.0, share) if count else 0.0
    high = _edge(count, total, 1.0, share) if count < total else 1.0
    return low, high


def _edge(count: int, total: int, outside: float, inside: float) -> float:
    """Bisects for the share at which the interval ends; stays on its outer side."""
    rest = total - count
    constant = math.lgamma(total + 2) - math.lgamma(count + 1) - math.lgamma(rest + 1)
    least = math.log(_ALPHA) - constant
    for _ in range(_STEPS):
        p = (outside + inside) / 2
        if count * math.log(p) + rest * math.log1p(-p) > least:
            inside = p
        else:
            outside = p
    return outside


@dataclass(frozen=True)
class Goal:
    """A statement on a class that a run counts until it is decided.

    Attributes:
        codes: classes that are counted together.
        below: share or width, 0..1.
        width: whether ``below`` bounds the interval's width instead of the share.
    """

    codes: tuple[str, ...]
    below: float
    width: bool

    def __str__(self) -> str:
        prefix = "width:" if self.width else ""
        return f"{prefix}{'+'.join(self.codes)}<{100 * self.below:g}%"

    def outcome(self, differential: Differential) -> bool | None:
        """Whether the statement holds; None while that is not certain yet.

        Cells that wait for review may be of the class or not, as in
        `interval_with_waiting`.

        Args:
            differential: the count so far.
        """
        low, high = self.interval(differential)
        if self.width:
            return True if high - low < self.below else None
        if high < self.below:
            return True
        return False if low >= self.below else None

    def to_dict(self, differential: Differential) -> dict[str, Any]:
        """The goal and where the count stands, ready for JSON; shares in percent."""
        low, high = self.interval(differential)
        return {
            "goal": str(self),
            "holds": self.outcome(differential),
            "white_cells": differential.white_cells,
            "low": round(100 * low, 2),
            "high": round(100 * high, 2),
        }

    def interval(self, differential: Differential) -> tuple[float, float]:
        """The share's sequential interval, 0..1, waiting cells in its width."""
        counted: Mapping[str, int] = differential.counted
        count = sum(counted.get(code, 0) for code in self.codes)
        waiting = differential.to_review
        total = differential.white_cells + waiting
        low, _ = sequential_interval(count, total)
        _, high = sequential_interval(count + waiting, total)
        return low, high


def parse_goal(text: str) -> Goal:
    """Reads 'MYE<5%', 'BNE+SNE<60%' or 'width:SNE<10%'.

    Raises:
        InputError: it is none of these, or names no white cell.
    """
    match = _GOAL.fullmatch(text.strip())
    if match is None:
        raise InputError(
            f"'{text}' is not a goal; write a class and a share such as 'MYE<5%', or "
            "'width:SNE<10%' for the width of its interval"
        )
    codes = tuple(match[2].split("+"))
    outside = [c for c in codes if c not in CODES or c in _NO_WHITE_CELLS]
    if outside or not all(codes):
        raise InputError(
            f"'{match[2]}' names no white cells; choose from "
            f"{', '.join(c for c in CODES if c not in ('ERB', 'PLT'))}, joined by '+'"
        )
    below = float(match[3]) / 100
    if not 0 < below < 1:
        raise InputError(f"the share in '{text}' has to lie between 0 and 100 %")
    return Goal(codes, below, bool(match[1]))
