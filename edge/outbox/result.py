"""A session's differential as a laboratory's system takes it: coded observations."""

from dataclasses import dataclass

from edgecell.classes import CLASSES, ERYTHROBLAST, PLATELET
from edgecell.edge.count.differential import Differential

PANEL = ("69738-3", "Differential panel - Blood")
"""LOINC panel that holds the observations."""

_PERCENT = "%"
_PER_100 = "/100{WBCs}"
"""UCUM units."""

# class: (LOINC without a method, LOINC of a manual count), per cent of leukocytes, or
# erythroblasts per 100 leukocytes. The manual codes of `UNCONFIRMED` were seen in one
# instrument's specification alone.
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
UNCONFIRMED = ("ERB", "MYE", "PMY")
"""Classes whose manual code the laboratory has to check against its own catalogue."""


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
        notes: what holds for all of them, a line each.
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


def observations(differential: Differential, signed: bool) -> tuple[Observation, ...]:
    """The figures of a differential, coded.

    Args:
        differential: the reading that is reported.
        signed: whether a person has signed it: then it counts as a manual count.
    """
    rows = {row.code: row for row in differential.rows()}
    whites = differential.white_cells
    figures = []
    for cell_class in CLASSES:
        code, row = cell_class.code, rows[cell_class.code]
        if code == PLATELET or not whites:
            continue
        if code == ERYTHROBLAST:
            value, unit = differential.erythroblasts_per_100, _PER_100
            note = f"{row.count} beside {whites} white cells"
        else:
            value, unit = 100 * (row.share or 0.0), _PERCENT
            low, high = row.interval or (0.0, 1.0)
            note = (
                f"95 % interval {100 * low:.1f} to {100 * high:.1f} %; "
                f"{row.count} of {whites} white cells"
            )
        assert value is not None
        figures.append(
            Observation(
                code, LOINC[code][signed], cell_class.name, round(value, 1), unit, note
            )
        )
    return tuple(figures)
