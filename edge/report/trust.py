"""How often a model is right on a microscope, from a random sample people named.

Whoever reviews the doubtful cells first sees the machine's worst; only cells drawn at
random (`Trail.draw`) show how good it is, and of these only those that `edgecell adapt`
has not learned from.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from statistics import median
from typing import Any

from edgecell.classes import PLATELET
from edgecell.edge.adapt.cells import named_cells
from edgecell.edge.count.microscopes import OF_MICROSCOPE, check_one_camera
from edgecell.edge.count.scope import LEAST, SAME_SCALE, Scope, Shown
from edgecell.edge.record.pictures import equal_cells, export_hashes, hashes
from edgecell.edge.record.sessions import RecordedSession, open_session
from edgecell.edge.record.trail import codes_of, now
from edgecell.edge.report.export import session_key
from edgecell.errors import InputError
from edgecell.files import several
from edgecell.model.classifier import Classifier
from edgecell.model.decision import Decision
from edgecell.model.microscopes.fit import fit_calibrated
from edgecell.model.microscopes.microscope import Microscope


@dataclass(frozen=True)
class Trust:
    """What a random sample says so far.

    Attributes:
        shown: how often the model is right on the cells that count.
        drawn: white cells of the sample; the same picture counts once.
        unnamed: of these, those that nobody has named yet.
        learned: those that `edgecell adapt` has learned from, which don't count.
        unclassified: named ones to which the machine gave no class.
        rate: of all white cells, the share that the rule accepts, 0..1.
        undrawn: white cells that are not in the sample.
    """

    shown: Shown
    drawn: int
    unnamed: int
    learned: int
    unclassified: int
    rate: float
    undrawn: int

    @property
    def more(self) -> int | None:
        """How many more cells to name, if all are right; None if no number would do.

        On average, so many cells contain the accepted ones that are still missing. All
        unnamed cells that are drawn count too: leaving some out would be a choice.
        """
        missing = self.shown.missing
        if missing and not self.rate:
            return None
        return max(self.unnamed, math.ceil(missing / (self.rate or 1) - 1e-9))

    def advice(self) -> str:
        """What to do so that cells are accepted without review, in a sentence."""
        more, least = self.more, f"{100 * self.shown.least:g} %"
        if self.unnamed and not self.shown.missing:
            return (
                f"{several(self.unnamed, 'more reviewed cell')}: name the rest of the "
                "sample, because a sample with gaps is no longer random."
            )
        if more == 0:
            return (
                f"The lower bound is above {least}: cells are accepted without review."
            )
        high = self.shown.interval[1]
        if high < self.shown.least:
            return (
                "Too few of the cells that the model's rule accepts are right (upper "
                f"bound {high:.1%}): adapt the model first."
            )
        if more is None:
            return (
                "The model's rule accepts no cell of this microscope: adapt it first."
            )
        return (
            f"{several(more, 'more reviewed cell')} of a random sample "
            f"{'is' if more == 1 else 'are'} needed before cells are accepted without "
            "review, if all that the rule accepts are right (lower bound above "
            f"{least})."
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


class _Kind(IntEnum):
    """What a cell of the sample counts as; of equal cells, the first kind counts."""

    LEARNED = 0
    JUDGED = 1
    UNCLASSIFIED = 2
    UNNAMED = 3


@dataclass(frozen=True)
class _Drawn:
    """A cell of the sample: hashes of its pictures, and how it was judged."""

    kind: _Kind
    pictures: tuple[str, ...]
    right: bool = False
    accepted: bool = False


def would_accept(decision: Decision) -> bool:
    """Whether the model's rule accepts a cell, whatever the microscope."""
    return decision.code is not None and not set(decision.reasons) - {*OF_MICROSCOPE}


def trust(sessions: Sequence[RecordedSession], least: float = LEAST) -> Trust:
    """Compares what the machine says of a random sample with what people say.

    Platelets are recognised by their size and left out on both sides.

    Args:
        sessions: those of one model.
        least: what the lower bound has to exceed, 0..1.
    """
    taken: list[bool] = []
    sample: list[_Drawn] = []
    for session in sessions:
        decisions = {d.cell: d for d in session.decisions() if d.code != PLATELET}
        taken += map(would_accept, decisions.values())
        sample += _drawn(session, decisions)
    each = _each_once(sample)
    judged = [cell for cell in each if cell.kind is _Kind.JUDGED]
    accepted = [cell for cell in judged if cell.accepted]
    kinds = Counter(cell.kind for cell in each)
    return Trust(
        Shown(
            len(judged),
            sum(cell.right for cell in judged),
            len(accepted),
            sum(cell.right for cell in accepted),
            least,
        ),
        len(each),
        kinds[_Kind.UNNAMED],
        kinds[_Kind.LEARNED],
        kinds[_Kind.UNCLASSIFIED],
        sum(taken) / len(taken) if taken else 0.0,
        len(taken) - len(sample),
    )


def _drawn(
    session: RecordedSession, decisions: Mapping[int, Decision]
) -> Iterator[_Drawn]:
    """The cells of a session's sample that have such a decision."""
    reviewed, known = session.trail.reviewed(), _learned(session)
    for cell in filter(decisions.__contains__, session.trail.drawn()):
        sightings, decision = session.sightings(cell), decisions[cell]
        pictures = hashes(sightings)
        if cell not in reviewed:
            yield _Drawn(_Kind.UNNAMED, pictures)
        elif known and not known.isdisjoint(
            pictures + export_hashes(sightings, session.model.preprocessing)
        ):
            yield _Drawn(_Kind.LEARNED, pictures)
        elif decision.code is None:
            yield _Drawn(_Kind.UNCLASSIFIED, pictures)
        else:
            right = decision.code in codes_of(reviewed[cell])
            yield _Drawn(_Kind.JUDGED, pictures, right, would_accept(decision))


def _each_once(cells: Sequence[_Drawn]) -> list[_Drawn]:
    """Merges cells that share a picture; the result is wrong if any name says so."""
    cells = sorted(cells, key=lambda c: c.kind)
    once = []
    for group in equal_cells([cell.pictures for cell in cells]):
        first, *others = (cells[i] for i in group)
        same = [first, *(cell for cell in others if cell.kind is first.kind)]
        right, accepted = all(c.right for c in same), any(c.accepted for c in same)
        once.append(replace(first, right=right, accepted=accepted))
    return once


def _learned(session: RecordedSession) -> frozenset[str]:
    """Hashes of the pictures that the session's model was adapted to."""
    return frozenset(session.model.training.get("adapted", {}).get("cells_sha256", ()))


def trust_of(
    folders: Sequence[Path], least: float, model: Path | str
) -> tuple[Trust, Scope | None]:
    """Judges the model of some sessions, and makes the scope of their microscope.

    Args:
        folders: sessions of one model and one camera.
        least: see `trust`.
        model: the model of the sessions, used to describe a microscope that it does not
            know, so that it is recognised later.

    Returns:
        What the sample says; and the scope, None if some of the sample has no name yet,
        the model knows the microscope, or no cell has identified it.

    Raises:
        InputError: a session can't be read, or they don't belong together; no random
            sample was drawn, or none of it counts.
    """
    with ExitStack() as stack:
        sessions = [stack.enter_context(open_session(f)) for f in folders]
        _check_together(sessions)
        found = trust(sessions, least)
        _check_sample(found, folders[0])
        check_one_camera([session.told() for session in sessions])
        told = {at: v for s in sessions for at, v in s.told().items()}
        unknown = [(at, v) for at, v in told.items() if v.kind != "known"]
        if not unknown or found.unnamed:
            return found, None
        ((size, verdict),), record = unknown, sessions[0].model
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
            more=found.more,
            sessions=tuple(map(session_key, sessions)),
            made=now(),
            described=described,
        )


def _check_together(sessions: Sequence[RecordedSession]) -> None:
    given: dict[str, Path] = {}
    for session in sessions:
        if (key := session_key(session)) in given:
            raise InputError(
                f"{given[key]} and {session.folder} are the same session; give it once"
            )
        given[key] = session.folder
    models = {(s.model.model_sha256, s.model.record_sha256): s.folder for s in sessions}
    if len(models) > 1:
        one, other, *_ = models.values()
        raise InputError(
            f"{one} and {other} were recorded with different models; give sessions of "
            "one of them"
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
            "no cells were drawn at random, and cells that somebody chose prove "
            f"little; draw a sample on the page, or with {draw}, and name its cells"
        )
    counted = found.shown.cells
    if not counted and found.learned:
        more = f"draw more with {draw}, and name those"
        if found.unnamed:
            more = f"name the other {found.unnamed}"
        elif not found.undrawn:
            more = (
                "and no white cell is left to draw: record new frames with 'edgecell "
                "run', and draw from that session"
            )
        raise InputError(
            f"'edgecell adapt' has learned from all {found.learned} named cells of the "
            f"sample; {more}"
        )
    if not counted:
        raise InputError(
            f"nobody has named a cell of the random sample of {found.drawn}; "
            f"name them on the page, or export them with {draw}"
        )


def _described(name: str, folders: Sequence[Path], model: Path | str) -> Microscope:
    """The description that identifies an unknown microscope later: its named cells."""
    classifier = Classifier(model)
    cells = named_cells(classifier, folders)
    return fit_calibrated(
        name, cells.features, cells.labels, classifier.record.microscopes
    )
