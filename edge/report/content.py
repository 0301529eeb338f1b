"""What a report says: one order of classes, three readings, where it comes from."""

import csv
import hashlib
import io
import json
from dataclasses import asdict, dataclass
from typing import Any

from edgecell import RESEARCH_USE
from edgecell.classes import ERYTHROBLAST, PLATELET
from edgecell.edge.count.readings import NAMES
from edgecell.edge.record.review import Review

ORDER = ("SNE", "BNE", "BNE+SNE", "MMY", "MY", "PMY", "MYE", "BA", "EO", "LY", "MO")
"""Classes in the order of a laboratory's report: granulocytes from ripe to unripe."""

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
        cells: of each cell number, machine's class, whether the machine accepts it,
            and the label that people gave it.
        waiting: cells that nobody has decided on.
        running: whether the session still grows.
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

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self) | {"note": RESEARCH_USE}

    def to_json(self) -> str:
        """The one text of it that its hash is of."""
        return json.dumps(self.to_dict(), sort_keys=True, ensure_ascii=False)

    @property
    def sha256(self) -> str:
        """Hash of all that it says."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def rows(self) -> list[dict[str, Any]]:
        """The table: a line a class, with the three readings side by side."""
        return table_rows(self.readings)


def table_rows(readings: dict[str, Any]) -> list[dict[str, Any]]:
    """The report's table from the readings' JSON.

    Returns:
        For each line ``class``, ``name``, and by reading what `Row.to_dict` says.
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


def report_csv(content: Content) -> str:
    """The table and what it rests on as CSV (RFC 4180)."""
    text = io.StringIO()
    writer = csv.writer(text)
    fields = ("count", "percent", "low", "high", "flagged")
    heads = [f"{key} {field}" for key in NAMES for field in fields]
    writer.writerow(("class", "name", *heads))
    for line in content.rows():
        figures = [(line[key] or {}).get(field) for key in NAMES for field in fields]
        writer.writerow((line["class"], line["name"], *figures))
    return text.getvalue()


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
        microscope=str(summary.settings.get("microscope") or ""),
        sample=sample,
        comment=comment,
        readings=readings.to_dict(),
        people=dict(sorted(people.items())),
        cells=tuple((k.cell, k.code, not k.reasons, k.label) for k in looks),
        waiting=sum(look.waits for look in looks),
        running=summary.ended is None,
    )
