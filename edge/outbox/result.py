"""A session's differential as a laboratory's system takes it: coded observations."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from edgecell import RESEARCH_USE
from edgecell.classes import CLASSES, ERYTHROBLAST, PLATELET
from edgecell.edge.report.signing import Reports
from edgecell.errors import InputError

PANEL = ("69738-3", "Differential panel - Blood")
"""LOINC panel that holds the observations."""

_PERCENT = "%"
_PER_100 = "/100{WBCs}"
"""UCUM units."""

# class: (LOINC without a method, LOINC of a manual count), per cent of leukocytes, or
# erythroblasts per 100 leukocytes. The manual codes of ERB, MYE and PMY were seen in
# one instrument's specification alone: a laboratory checks them against its catalogue.
LOINC: dict[str, tuple[str, str]] = {
    "BA": ("30180-4", "707-0"),
    "BNE": ("26508-2", "764-1"),
    "EO": ("26450-7", "714-6"),
    "ERB": ("19048-8", "18309-5"),
    "LY": ("26478-8", "737-7"),
    "MMY": ("28541-1", "740-1"),
    "MO": ("26485-3", "744-3"),
    "MY": ("26498-6", "749-2"),
    "MYE": ("30445-1", "747-6"),
    "PMY": ("26524-9", "783-1"),
    "SNE": ("26505-8", "769-0"),
}


@dataclass(frozen=True)
class Observation:
    """One coded figure.

    Attributes:
        code: edgecell's class.
        loinc: the LOINC code.
        name: the class in words.
        value: per cent of the white cells, or erythroblasts per 100 of them.
        unit: UCUM.
        note: its interval and how many cells it rests on, in words.
    """

    code: str
    loinc: str
    name: str
    value: float
    unit: str
    note: str


@dataclass(frozen=True)
class LabResult:
    """What is sent of a session. It names no patient.

    Attributes:
        identifier: of this result; a later version of the report has another one.
        sample: the sample number that the laboratory gave.
        observed: when the count began, UTC, ISO 8601.
        issued: when the report was made or signed, UTC, ISO 8601.
        signed_by: persons who signed it; without one the result is preliminary.
        observations: the figures.
        notes: remarks that apply to all of them, one a line.
    """

    identifier: str
    sample: str
    observed: str
    issued: str
    signed_by: tuple[str, ...]
    observations: tuple[Observation, ...]
    notes: tuple[str, ...]

    @property
    def final(self) -> bool:
        """Whether a person answers for it."""
        return bool(self.signed_by)


def observations(reading: Mapping[str, Any], signed: bool) -> tuple[Observation, ...]:
    """The figures of a reading, coded.

    Args:
        reading: one of a report's readings, as `Differential.to_dict` gives it.
        signed: whether a person has signed it: then it counts as a manual count.
    """
    rows = {row["class"]: row for row in reading["classes"]}
    whites = reading["white_cells"]
    figures = []
    for cell_class in CLASSES:
        code, row = cell_class.code, rows[cell_class.code]
        if code == PLATELET or not whites:
            continue
        if code == ERYTHROBLAST:
            value, unit = reading["erythroblasts_per_100"], _PER_100
            note = f"{row['count']} per {whites} white cells"
        else:
            value, unit = row["percent"], _PERCENT
            note = (
                f"95 % interval {row['low']:.1f} to {row['high']:.1f} %; "
                f"{row['count']} of {whites} white cells"
            )
        loinc = LOINC[code][signed]
        figures.append(
            Observation(code, loinc, cell_class.name, round(value, 1), unit, note)
        )
    return tuple(figures)


def result_of(reports: Reports) -> LabResult:
    """What is sent of a session: its last signed report, or a preliminary result.

    The figures are the reviewed reading's: what people named, and what the machine
    accepted of the rest. A signed report is sent as it was signed.

    Args:
        reports: the session's.

    Raises:
        InputError: no white cell is counted, so there is nothing to send.
    """
    signed, draft = reports.last(), reports.draft()
    content = signed.content if signed else draft.to_dict()
    figures = observations(content["readings"]["reviewed"], signed is not None)
    if not figures:
        raise InputError("the session has no counted white cell; there is no result")
    sha256 = signed.sha256 if signed else draft.sha256
    notes = [
        RESEARCH_USE,
        f"edgecell {content['model']['version']}, model {content['model']['sha256']}",
        f"report {sha256}",
        *([content["comment"]] if content["comment"] else []),
    ]
    if not signed and draft.waiting:
        notes.append(f"cells to be reviewed: {draft.waiting}")
    if signed and not reports.is_current(signed):
        notes.append("cells were renamed after this report was signed")
    issued = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return LabResult(
        identifier=sha256[:32],
        sample=content["sample"],
        observed=content["session"]["started"],
        issued=signed.made if signed else issued,
        signed_by=tuple(s.person for s in signed.signatures) if signed else (),
        observations=figures,
        notes=tuple(notes),
    )
