"""HL7 version 2: the ORU^R01 message of a result, and what a receiver answers."""

from dataclasses import dataclass
from datetime import datetime

from edgecell import __version__
from edgecell.edge.outbox.result import PANEL, LabResult
from edgecell.optional import require

_ESCAPES = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}
_ACCEPTED = ("AA", "CA")
_PASSING = ("206", "207")
"""Errors of the receiver's own (table 0357: record locked, internal error), which say
nothing against the message."""


@dataclass(frozen=True)
class Answer:
    """A receiver's acknowledgement.

    Attributes:
        control: control ID of the message that it answers.
        accepted: whether the receiver took the message.
        passing: whether it may take the same message later.
        reason: why it did not, in its own words; empty if it gave none.
    """

    control: str
    accepted: bool
    passing: bool
    reason: str


def oru_r01(result: LabResult, control: str) -> str:
    """The message, segments ended by carriage returns (HL7 2.5.1, chapter 7).

    Args:
        result: what to send.
        control: control ID (MSH-10); the receiver knows a repeated message by it.
    """
    status = "F" if result.final else "P"
    issued, observed = _time(result.issued), _time(result.observed)
    sample, signers = _text(result.sample), "~".join(map(_text, result.signed_by))
    panel = "^".join((*PANEL, "LN"))
    software = f"edgecell^{__version__}"
    segments = [
        f"MSH|^~\\&|edgecell||||{issued}||ORU^R01^ORU_R01|{_text(control)}|P|2.5.1"
        "||||||UNICODE UTF-8",
        "PID|1",
        f"OBR|1||{sample}|{panel}|||{observed}|||||||||||||||{issued}"
        f"||LAB|{status}|||||||{signers}",
        *(f"NTE|{i}|L|{_text(note)}" for i, note in enumerate(result.notes, 1)),
    ]
    for i, figure in enumerate(result.observations, 1):
        segments += [
            f"OBX|{i}|NM|{figure.loinc}^{_text(figure.name)}^LN||{figure.value:g}"
            f"|{figure.unit}|||||{status}|||{observed}||||{software}|{issued}",
            f"NTE|1|L|{_text(figure.note)}",
        ]
    return "\r".join(segments) + "\r"


def read_answer(message: str) -> Answer | None:
    """Reads an acknowledgement.

    Args:
        message: what the receiver sent, without its frame.

    Returns:
        None if it is no acknowledgement.
    """
    hl7 = require("hl7", "lis")
    try:
        parsed = hl7.parse(message)
        msa = parsed.segment("MSA")
        code, control = str(msa(1)), str(msa(2))
    except (hl7.HL7Exception, KeyError, IndexError):
        return None
    words, passing = [], False
    if len(msa) > 3:
        words.append(str(msa(3)))
    for segment in parsed:
        if str(segment(0)) == "ERR":
            fields = [str(field) for field in segment[1:]]
            words += [field for field in fields if field]
            passing = any(f.partition("^")[0] in _PASSING for f in fields[:3])
    reason = " ".join(" ".join(words).split())
    return Answer(control, code in _ACCEPTED, passing, reason)


def _text(text: str) -> str:
    """A field's text, with HL7's delimiters escaped (chapter 2.7)."""
    line = " ".join(text.split())
    return "".join(_ESCAPES.get(char, char) for char in line)


def _time(iso: str) -> str:
    return datetime.fromisoformat(iso).strftime("%Y%m%d%H%M%S%z")
