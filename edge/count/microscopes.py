"""Holds acceptance back until it is known which microscope the cells come from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import numpy.typing as npt

from edgecell.edge.count.scope import Scope
from edgecell.edge.count.tracking import Told, TrackedFrame
from edgecell.errors import InputError
from edgecell.model.decision import Decision
from edgecell.model.microscopes.microscope import (
    CELLS,
    Microscope,
    Verdict,
    in_words,
    judge,
)

ENOUGH = 5
"""White cells without which no microscope is called known: a single foreign cell can't
be told from a known microscope's, and of five most sets can."""

NOT_TOLD = "microscope not identified yet"
UNKNOWN = "unknown microscope"
NOT_SHOWN = "not yet shown to be right on this microscope"
OTHER_CAMERA = "the scope file is for another camera"
OF_MICROSCOPE = (
    NOT_TOLD,
    UNKNOWN,
    NOT_SHOWN,
    OTHER_CAMERA,
    "microscope not told yet",
    "the scope file is another camera's",
)
"""Reasons that say nothing of the cell itself; the last two are of earlier sessions."""


@dataclass(frozen=True)
class Settled:
    """What remains to be recorded when a session ends.

    Attributes:
        decisions: those that were held back, as they stand now.
        told: microscopes that were identified from the few cells available.
    """

    decisions: tuple[Decision, ...] = ()
    told: tuple[Told, ...] = ()


NOTHING = Settled()


class _View:
    """Frames of one size, which one microscope made."""

    def __init__(self) -> None:
        self.features: dict[int, npt.NDArray[np.float32]] = {}
        self.red_cell_px: list[float] = []
        self.verdict: Verdict | None = None
        self.reason = NOT_TOLD
        self.held: dict[int, Decision] = {}


class MicroscopeGate:
    """Identifies the microscope from the first white cells; flags all if unknown.

    A camera's frames have one size. Still images of several sizes may come from
    several microscopes, so each size is judged by itself.
    """

    def __init__(
        self,
        microscopes: Sequence[Microscope],
        scope: Scope | None = None,
    ) -> None:
        """Starts without cells.

        Args:
            microscopes: those of the model's record; without any, nothing is held.
            scope: what the model was shown to do on another microscope.
        """
        self._microscopes = microscopes
        self._scope = scope
        self._views: dict[tuple[int, int], _View] = {}

    @property
    def told(self) -> Mapping[tuple[int, int], Verdict]:
        """The verdicts so far, by (width, height) of the frames."""
        found = {size: view.verdict for size, view in self._views.items()}
        return {size: verdict for size, verdict in found.items() if verdict}

    def summary(self) -> str:
        """The verdicts in one line, see `in_words`."""
        if not self._microscopes:
            return "not identified: the model file describes no microscopes"
        few = [
            f"{w}x{h}: not identified"
            for (w, h), v in self._views.items()
            if not v.verdict
        ]
        return ", ".join(
            [in_words(self.told), *few] if self.told else ["not identified yet"]
        )

    def admit(self, tracked: TrackedFrame) -> TrackedFrame:
        """Adds what the microscope says to a frame's decisions.

        Args:
            tracked: the tracker's, with its image.

        Returns:
            The same frame. Decisions that were held back so far are among the changed
            ones as soon as the verdict stands.
        """
        if not self._microscopes or not tracked.cells:
            return tracked
        height, width = tracked.result.frame.image.shape[:2]
        view = self._views.setdefault((width, height), _View())
        told: tuple[Told, ...] = ()
        if view.verdict is None:
            self._look(view, tracked)
            if len(view.features) >= CELLS:
                told = (self._judge(view, (width, height)),)
        reason = view.reason
        changed = self._released(view) if told else {}
        for decision in tracked.changed:
            if view.verdict is None:
                view.held.pop(decision.cell, None)
                if decision.code is not None and decision.same_as is None:
                    view.held[decision.cell] = decision
            changed[decision.cell] = _with(decision, reason)
        to_review = tracked.to_review
        if reason:
            to_review = frozenset(i for i, c in enumerate(tracked.cells) if c)
        return replace(
            tracked,
            changed=tuple(changed.values()),
            to_review=to_review,
            told=told,
        )

    def settle(self) -> Settled:
        """Judges from the available cells, at the end of a session.

        If a microscope looks known from fewer than `ENOUGH` cells, its cells stay
        flagged: many a foreign cell by itself looks like a known one. Without any white
        cell nothing is said of it.
        """
        decisions: dict[int, Decision] = {}
        told = []
        for size, view in self._views.items():
            if view.verdict is None:
                judged = self._judge(view, size)
                cells, trusted = judged.verdict.cells, judged.verdict.trusted
                if not cells or (trusted and cells < ENOUGH):
                    view.verdict = None
                else:
                    told.append(judged)
                    decisions |= self._released(view)
        return Settled(tuple(decisions.values()), tuple(told))

    def _look(self, view: _View, tracked: TrackedFrame) -> None:
        """Adds the scale, and the features of white cells, each cell once."""
        if tracked.result.red_cell_px is not None:
            view.red_cell_px.append(tracked.result.red_cell_px)
        for number, cell in zip(tracked.cells, tracked.result.cells, strict=True):
            record = cell.record
            if (
                number is not None
                and cell.pooled is not None
                and record.kind == "white"
                and not record.cut_by_border
                and len(view.features) < CELLS
            ):
                view.features.setdefault(number, cell.pooled)

    def _judge(self, view: _View, size: tuple[int, int]) -> Told:
        """Settles the verdict on frames of a size, and why their cells are flagged."""
        verdict, scope = Verdict("unknown", None, 0), self._scope
        if view.features:
            features = np.stack(list(view.features.values()))
            verdict = judge(features, self._microscopes)
            if verdict.kind == "unknown" and scope and scope.described:
                again = judge(features, [scope.described])
                verdict = verdict if again.kind == "unknown" else again
        view.reason = {"unknown": UNKNOWN, "calibrated": NOT_SHOWN}.get(
            verdict.kind, ""
        )
        if verdict.kind == "calibrated" and scope is not None:
            if not scope.fits(size, _middle(view.red_cell_px)):
                view.reason = OTHER_CAMERA
            elif scope.shown.holds:
                verdict, view.reason = replace(verdict, kind="shown"), ""
        view.verdict = verdict
        return Told(*size, verdict)

    def _released(self, view: _View) -> dict[int, Decision]:
        reason = view.reason
        held, view.held = view.held, {}
        return {cell: _with(decision, reason) for cell, decision in held.items()}


def check_one_camera(told: Sequence[Mapping[tuple[int, int], Verdict]]) -> None:
    """Refuses sessions that don't come from one camera on one microscope.

    Args:
        told: the verdicts of each session, by (width, height) of the frames.

    Raises:
        InputError: frames of several sizes, or one session's microscope is known and
            another's is not.
    """
    together = {size: verdict for each in told for size, verdict in each.items()}
    known = {verdict.kind == "known" for each in told for verdict in each.values()}
    if len(together) > 1 or len(known) > 1:
        raise InputError(
            "the sessions show more than one camera or microscope "
            f"({in_words(together)}); give those of one"
        )


def _middle(values: Sequence[float]) -> float | None:
    return median(values) if values else None


def _with(decision: Decision, reason: str) -> Decision:
    """The decision with one more reason; one without a class needs none."""
    if not reason or decision.code is None or decision.same_as is not None:
        return decision
    return replace(decision, reasons=(*decision.reasons, reason))
