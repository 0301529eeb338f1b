"""Combines the sightings of one cell into its class and whether to review it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgecell.edge.analyse.pipeline import CellResult
from edgecell.model.decision import Decision, review_reasons, size_reasons
from edgecell.model.modelfile import ModelRecord
from edgecell.model.probabilities import only, possible_classes, softmax

MOST_VOTES = 8
"""Sightings that vote on a cell. All of them are recorded: more would cost disk
space and would, from the same camera and focus, hardly say anything new."""


@dataclass(frozen=True)
class Rule:
    """How a model's logits become a decision.

    Attributes:
        codes: class codes in the order of the logits.
        temperature: divides the logits before the softmax.
        review: reasons to review a cell, from the mean of its logits, float32 (C,).
    """

    codes: tuple[str, ...]
    temperature: float = 1.0
    review: Callable[[npt.NDArray[np.float32]], tuple[str, ...]] = lambda logits: ()

    @classmethod
    def of_model(cls, record: ModelRecord) -> "Rule":
        """A model's classes, temperature and rule for review."""
        return cls(
            record.codes,
            record.temperature,
            lambda logits: review_reasons(logits, record),
        )


class Votes:
    """The votes on one cell: the logits and sizes of its first sightings, added up."""

    def __init__(self, gate: str | None) -> None:
        """Starts without a vote.

        Args:
            gate: why the cell's first sighting was too poor to be classified, if so:
                the reason to review it for as long as nothing else is known.
        """
        self._gate = gate
        self._total: npt.NDArray[np.float32] | None = None
        self._count, self._sizes = 0, 0.0

    def add(self, sighting: CellResult) -> bool:
        """Adds a sighting; returns whether it votes.

        A sighting that the border cuts, that could not be classified, or that comes
        after `MOST_VOTES` others does not.
        """
        record = sighting.record
        if record.cut_by_border or sighting.logits is None or self._count >= MOST_VOTES:
            return False
        self._total = sighting.logits + (0 if self._total is None else self._total)
        self._count += 1
        self._sizes += record.size_red_cells
        return True

    def merge(self, other: "Votes") -> None:
        """Adds the votes of a cell that turned out to be this one."""
        if other._total is not None:
            self._total = other._total + (0 if self._total is None else self._total)
        self._count += other._count
        self._sizes += other._sizes

    def decide(self, cell: int, rule: Rule, same_as: int | None = None) -> Decision:
        """The decision on the cell as the votes stand now.

        Args:
            cell: the cell's number.
            rule: the model's.
            same_as: the cell that this one turned out to be.
        """
        if self._total is None:
            reasons = () if self._gate is None else (self._gate,)
            return Decision(cell, None, None, reasons, 0, None, same_as)
        size = self._sizes / self._count
        mean = only(
            self._total / np.float32(self._count), possible_classes(rule.codes, size)
        )
        probabilities = softmax(mean, rule.temperature)
        best = int(probabilities.argmax())
        code = rule.codes[best]
        return Decision(
            cell,
            code,
            float(probabilities[best]),
            rule.review(mean) + size_reasons(code, size),
            self._count,
            mean,
            same_as,
        )
