"""What a report says: one order of classes, three readings, where it comes from."""

import hashlib
import json
import time
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from edgecell import RESEARCH_USE
from edgecell.classes import ERYTHROBLAST, GROUPS, PLATELET
from edgecell.edge.count.readings import NAMES
from edgecell.edge.record.review import Review
from edgecell.edge.record.sessions import RecordedSession
from edgecell.edge.report.texts import text
from edgecell.files import csv_text

ORDER = ("SNE", "BNE", "BNE+SNE", "MMY", "MY", "PMY", "MYE", "BA", "EO", "LY", "MO")
"""Classes in the order of a laboratory's report: granulocytes from ripe to unripe."""

_BROKEN_OFF_S = 60.0
"""A session without an end whose last frame is older was interrupted by a power cut."""

OUTSIDE = (ERYTHROBLAST, PLATELET)


@dataclass(frozen=True)
class Content:
    """What is signed.

    Attributes:
        session: name, times, source and frames.
        model: name and hash of the model, version of edgecell that recorded.
        microscope: the verdict on it, if one was recorded; '' if not.
        sample: the sample's number; ''.
        comment: the reviewers' words; ''.
        readings: see `Readings.to_dict`.
        people: who named cells, and how many each.
        cells: for each cell its number, the machine's class, whether the machine
            accepts it, and the label that people gave it.
        waiting: cells that nobody has decided on.
        running: whether the session still grows; one that was interrupted does not.
        morphology: shapes of the neutrophils' nuclei, in words; ''.
    """

    session: dict[str, Any]
    model: dict[str, Any]
    microscope: str
    sample: str
    comment: str
    readings: dict[str, Any]
    people: dict[str, int]
    cells: tuple[tuple[int, str | None, bool, str | None], ...]
    waiting: int
    running: bool
    morphology: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; without words it is the same as before words existed."""
        said = asdict(self) | {"note": RESEARCH_USE}
        return {k: v for k, v in said.items() if v or k != "morphology"}

    @property
    def sha256(self) -> str:
        """Hash of the whole content."""
        return hash_of(self.to_dict())


def as_text(content: dict[str, Any]) -> str:
    """The canonical text of a report's content, which is hashed."""
    return json.dumps(content, sort_keys=True, ensure_ascii=False)


def hash_of(content: dict[str, Any]) -> str:
    """SHA-256 of a report's content."""
    return hashlib.sha256(as_text(content).encode()).hexdigest()


def table_rows(readings: dict[str, Any]) -> list[dict[str, Any]]:
    """The report's table from the readings' JSON.

    Returns:
        For each line ``class``, ``name``, and for each reading what `Row.to_dict`
        gives.
    """
    by_class = {
        key: {row["class"]: row for row in readings[key]["classes"]} for key in NAMES
    }
    named = by_class["reviewed"]  # people name more than the machine does
    others = [code for code in named if code not in (*ORDER, *OUTSIDE)]
    return [
        {"class": code, "name": named[code]["name"]}
        | {key: rows.get(code) for key, rows in by_class.items()}
        for code in (*ORDER, *others, *OUTSIDE)
    ]


@dataclass(frozen=True)
class Line:
    """A line of the table as it is shown.

    Attributes:
        code: class.
        name: in words.
        figures: for each reading number, percent and interval as text.
        waiting: cells of this class that wait.
    """

    code: str
    name: str
    figures: tuple[tuple[str, str, str], ...]
    waiting: int


@dataclass(frozen=True)
class View:
    """A report as it is shown, on paper or screen.

    Attributes:
        sample: the sample's number; ''.
        signed: whether what is shown is signed.
        standing: 'not signed', or who signed it and when.
        caveat: what the reader has to know first; ''.
        lines: the table.
        totals: name and a figure for each reading.
        facts: name and value: where the figures come from.
    """

    sample: str
    signed: bool
    standing: str
    caveat: str
    lines: tuple[Line, ...]
    totals: tuple[tuple[str, tuple[str, ...]], ...]
    facts: tuple[tuple[str, str], ...]


def view_of(content: dict[str, Any], standing: str, signed: bool) -> View:
    """Puts what a report says into words.

    Args:
        content: see `Content.to_dict`; for a signed report, the frozen content.
        standing: see `View`.
        signed: likewise.
    """
    readings, session, model = (
        content["readings"],
        content["session"],
        content["model"],
    )
    three = [readings[key] for key in NAMES]
    people = ", ".join(f"{name} ({n})" for name, n in content["people"].items())
    times = f"{session['started']} - {session['ended'] or '?'}"
    facts = {
        "comment": content["comment"],
        "named_by": people or text("report.nobody"),
        "microscope": content["microscope"] or text("report.microscope_unknown"),
        "morphology": content.get("morphology", ""),
        "source": session["source"],
        "session": session["folder"],
        "time": times,
        "frames": f"{session['frames']} ({_gated(session['gated'])})",
        "model": model["sha256"],
        "version": model["version"],
        "hash": hash_of(content),
    }
    totals = {
        "white_cells": tuple(str(d["white_cells"]) for d in three),
        "per_100": tuple(_figure(d["erythroblasts_per_100"]) for d in three),
        "waiting": tuple(str(d["to_review"]) for d in three),
    }
    return View(
        content["sample"],
        signed,
        standing,
        text("report.not_known") if content["waiting"] else "",
        tuple(map(_shown, table_rows(readings))),
        tuple((text(f"report.{name}"), figures) for name, figures in totals.items()),
        tuple(
            (text(f"report.{name}"), value) for name, value in facts.items() if value
        ),
    )


def _gated(gated: dict[str, int]) -> str:
    reasons = ", ".join(f"{reason} {n}" for reason, n in gated.items())
    return text("report.gated", reasons=reasons) if reasons else text("report.ungated")


def _shown(line: dict[str, Any]) -> Line:
    figures = []
    for row in (line[key] for key in NAMES):
        interval = ""
        if row and row["low"] is not None:
            interval = f"{row['low']:.1f}-{row['high']:.1f}"
        percent = _figure(row["percent"]) if row else ""
        figures.append((str(row["count"]) if row else "", percent, interval))
    return Line(
        line["class"], line["name"], tuple(figures), line["reviewed"]["flagged"]
    )


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def report_csv(content: dict[str, Any]) -> str:
    """A report's table as CSV, the readings side by side.

    Args:
        content: see `Content.to_dict`.
    """
    fields = ("count", "percent", "low", "high", "flagged")
    heads = [f"{key} {field}" for key in NAMES for field in fields]
    rows = []
    for line in table_rows(content["readings"]):
        figures = [(line[key] or {}).get(field) for key in NAMES for field in fields]
        rows.append((line["class"], line["name"], *figures))
    return csv_text(("class", "name", *heads), rows)


def content_of(review: Review, sample: str, comment: str) -> Content:
    """What a report on a session says now.

    Args:
        review: the session.
        sample: the sample's number.
        comment: the reviewers' words.
    """
    summary, readings = review.session.summary(), review.session.readings()
    looks = review.looks("")
    people: dict[str, int] = {}
    for look in looks:
        if look.naming is not None and look.label is not None:
            people[look.naming.person] = people.get(look.naming.person, 0) + 1
    return Content(
        session={
            "folder": review.folder.resolve().name.encode("utf-8", "replace").decode(),
            "started": summary.started,
            "ended": summary.ended,
            "end_reason": summary.end_reason,
            "source": summary.source,
            "frames": summary.frames,
            "gated": summary.gated,
        },
        model={
            "sha256": summary.model_sha256,
            "version": summary.version,
        },
        microscope=summary.microscope,
        sample=sample,
        comment=comment,
        readings=readings.to_dict(),
        people=dict(sorted(people.items())),
        cells=tuple((k.cell, k.code, not k.reasons, k.label) for k in looks),
        waiting=sum(look.waits for look in looks),
        morphology=_nuclei(review.session),
        running=summary.ended is None
        and abs(time.time() - review.last_captured()) < _BROKEN_OFF_S,
    )


def _nuclei(session: RecordedSession) -> str:
    """Shapes of the nuclei of the neutrophils that the machine describes; ''."""
    decisions = session.decisions()
    words = session.words(decisions)
    shapes: Counter[str] = Counter()
    for d in decisions:
        if d.code in GROUPS["neutrophils"] and d.cell in words:
            named = {v.attribute: v.value for v in words[d.cell].values}
            shapes[named.get("nucleus_shape", text("report.not_clear"))] += 1
    n = shapes.total()
    each = ", ".join(f"{shape} {k / n:.0%}" for shape, k in shapes.most_common())
    return text("report.nuclei", n=n, shapes=each) if n else ""
