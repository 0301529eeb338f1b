"""How right a model is on a microscope: from a random sample that people have named.

Whoever reviews the doubtful cells first sees the machine's worst; only cells that were
drawn at random (`Trail.draw`) tell how good it is, and of these only those that
`edgecell adapt` has not learned from.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import cv2

from edgecell.classes import PLATELET
from edgecell.edge.adapt.cells import hashes, named_cells
from edgecell.edge.count.microscopes import OF_MICROSCOPE
from edgecell.edge.count.scope import LEAST, SAME_SCALE, Scope, Shown
from edgecell.edge.record.sessions import RecordedSession, open_session
from edgecell.edge.record.trail import codes_of, now
from edgecell.edge.report.export import export_image, session_key
from edgecell.errors import InputError
from edgecell.model.classifier import Classifier
from edgecell.model.decision import Decision
from edgecell.model.microscope import Microscope, fit_calibrated, in_words


@dataclass(frozen=True)
class Trust:
    """What a random sample says so far.

    Attributes:
        shown: how right the model is on the cells that count.
        drawn: white cells of the sample.
        unnamed: of these, those that nobody has named yet.
        learned: those that `edgecell adapt` has learned from, which don't count.
        unclassified: named ones to which the machine gave no class.
        rate: of all white cells, the share that the rule accepts, 0..1.
    """

    shown: Shown
    drawn: int
    unnamed: int
    learned: int
    unclassified: int
    rate: float

    @property
    def more(self) -> int | None:
        """Cells of the sample to be named yet, if all are right; None: none would do.

        They are as many as hold the accepted ones that are missing, in the mean, and
        at least those that are drawn already: leaving some out would be a choice.
        """
        missing = self.shown.missing
        if missing and not self.rate:
            return None
        return max(self.unnamed, math.ceil(missing / (self.rate or 1) - 1e-9))

    def advice(self) -> str:
        """What is to be done for cells to be accepted without review, in a sentence."""
        more, least = self.more, f"{100 * self.shown.least:g} %"
        if self.unnamed and not self.shown.missing:
            return (
                f"{self.unnamed} more reviewed cells: name the rest of the sample, as "
                "leaving some out would be a choice."
            )
        if more == 0:
            return (
                f"The lower bound is above {least}: cells are accepted without review."
            )
        if more is None:
            return (
                "The model's rule accepts no cell of this microscope: adapt it first."
            )
        return (
            f"{more} more reviewed cells of a random sample are needed before cells "
            "are accepted without review, if all that the rule accepts are right "
            f"(lower bound above {least})."
        )

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            **self.shown.to_dict(),
            "drawn": self.drawn,
            "unnamed": self.unnamed,
            "learned": self.learned,
            "unclassified": self.unclassified,
            "rate": self.rate,
            "more": self.more,
        }


def would_accept(decision: Decision) -> bool:
    """Whether the model's rule accepts a cell, whatever the microscope."""
    return decision.code is not None and not set(decision.reasons) - {*OF_MICROSCOPE}


def trust(sessions: Sequence[RecordedSession], least: float = LEAST) -> Trust:
    """Compares what the machine says of a random sample with what people say.

    Platelets are told by their size; they are left out on both sides.

    Args:
        sessions: those of one model.
        least: what the lower bound has to exceed, 0..1.
    """
    drawn, unnamed, learned, unclassified = 0, 0, 0, 0
    taken: list[bool] = []
    judged: list[tuple[bool, bool]] = []  # right, accepted by the rule
    for session in sessions:
        decisions = {d.cell: d for d in session.decisions() if d.code != PLATELET}
        taken += map(would_accept, decisions.values())
        reviewed, known = session.trail.reviewed(), _learned(session)
        for cell in filter(decisions.__contains__, session.trail.drawn()):
            decision = decisions[cell]
            drawn += 1
            if cell not in reviewed:
                unnamed += 1
            elif known and not known.isdisjoint(_hashes(session, cell)):
                learned += 1
            elif decision.code is None:
                unclassified += 1
            else:
                right = decision.code in codes_of(reviewed[cell])
                judged.append((right, would_accept(decision)))
    accepted = [right for right, accepted in judged if accepted]
    return Trust(
        Shown(
            len(judged),
            sum(right for right, _ in judged),
            len(accepted),
            sum(accepted),
            least,
        ),
        drawn,
        unnamed,
        learned,
        unclassified,
        sum(taken) / len(taken) if taken else 0.0,
    )


def _learned(session: RecordedSession) -> frozenset[str]:
    """Hashes of the pictures that the session's model was adapted to."""
    return frozenset(session.model.training.get("adapted", {}).get("cells_sha256", ()))


def _hashes(session: RecordedSession, cell: int) -> Iterator[str]:
    """SHA-256 of each picture of a cell that `adapt` may have read."""
    sightings = session.sightings(cell)
    yield from hashes(sightings)
    for sighting in sightings:
        if sighting.seen is not None and sighting.pixels is not None:
            image = export_image(sighting, session.model.preprocessing)
            yield hashlib.sha256(cv2.imencode(".png", image)[1].tobytes()).hexdigest()


def trust_of(
    folders: Sequence[Path], least: float, model: Path | str
) -> tuple[Trust, Scope | None]:
    """Judges the model of some sessions, and makes the scope of their microscope.

    Args:
        folders: sessions of one model and one camera.
        least: see `trust`.
        model: the model of the sessions, with which a microscope that it does not know
            is learned, to be known again.

    Returns:
        What the sample says; and the scope, None if some of the sample has no name
        yet, the model knows the microscope, or no cell has told it.

    Raises:
        InputError: a session can't be read, or they don't belong together; no random
            sample was drawn, or none of it counts.
    """
    with ExitStack() as stack:
        sessions = [stack.enter_context(open_session(f)) for f in folders]
        _check_together(sessions)
        found = trust(sessions, least)
        _check_sample(found, folders[0])
        told = {at: v for s in sessions for at, v in s.told().items()}
        known = {v.kind == "known" for s in sessions for v in s.told().values()}
        if len(told) > 1 or len(known) > 1:
            raise InputError(
                "the sessions show more than one camera or microscope "
                f"({in_words(told)}); give those of one"
            )
        if known != {False} or found.unnamed:
            return found, None
        (size, verdict), record = told.popitem(), sessions[0].model
        name, described = verdict.name or "", None
        if not any(m.calibrated for m in record.microscopes):
            name = folders[0].resolve().name
            described = _described(name, folders, model)
        return found, Scope(
            *size,
            red_cell_px=median(d for s in sessions for d in s.red_cell_px()),
            microscope=name,
            model_sha256=record.model_sha256,
            record_sha256=record.record_sha256,
            shown=found.shown,
            sessions=tuple(map(session_key, sessions)),
            made=now(),
            described=described,
        )


def _check_together(sessions: Sequence[RecordedSession]) -> None:
    models = {(s.model.model_sha256, s.model.record_sha256): s.folder for s in sessions}
    if len(models) > 1:
        one, other, *_ = models.values()
        raise InputError(
            f"{one} and {other} were seen by different models; give sessions of one of "
            "them"
        )
    scales = {s.folder: median(s.red_cell_px()) for s in sessions if s.red_cell_px()}
    if not scales:
        return
    low, high = min(scales, key=scales.__getitem__), max(scales, key=scales.__getitem__)
    if scales[high] > (1 + SAME_SCALE) * scales[low]:
        raise InputError(
            f"red cells are {scales[low]:.0f} px wide in {low} and {scales[high]:.0f} "
            f"in {high}: two cameras or objectives; give sessions of one of them"
        )


def _check_sample(found: Trust, folder: Path) -> None:
    draw = f"'edgecell session export {folder} --sample N --cells FOLDER'"
    if not found.drawn:
        raise InputError(
            "no cells were drawn at random, and those that somebody chose say little; "
            f"draw a sample on the page, or by {draw}, and name it"
        )
    counted = found.shown.cells
    if not counted and found.learned:
        raise InputError(
            f"'edgecell adapt' has learned from all {found.learned} named cells of the "
            f"sample; draw more by {draw}, and name those"
        )
    if not counted:
        raise InputError(
            f"nobody has named a cell of the random sample of {found.drawn}; "
            f"name them on the page, or export them by {draw}"
        )


def _described(name: str, folders: Sequence[Path], model: Path | str) -> Microscope:
    """What an unknown microscope is to be known again by: its named cells."""
    classifier = Classifier(model)
    cells = named_cells(classifier, folders)
    return fit_calibrated(
        name, cells.features, cells.labels, classifier.record.microscopes
    )
