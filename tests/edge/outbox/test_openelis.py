"""OpenELIS reads a result as it is meant.

`read` does what OpenELIS' analyzer bridge does with an ORU^R01 (HL7ResultParser and
HapiReceivingApplication in github.com/DIGI-UW/openelis-analyzer-bridge, read in
November 2026): plain splitting, without a library.
"""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from edgecell.edge.outbox.hl7 import oru_r01
from edgecell.edge.outbox.result import LOINC
from tests.edge.outbox.test_messages import result

PROFILE: dict[str, Any] = json.loads(
    (Path(__file__).parents[3] / "docs" / "laboratory" / "openelis.json").read_text()
)


class Read(NamedTuple):
    sender: str
    accession: str
    values: dict[str, tuple[str, str]]


def read(message: str) -> Read:
    """Sender, accession number, and (value, unit) by test code."""
    sender = accession = ""
    values = {}
    for line in filter(None, message.split("\r")):
        fields = line.split("|")
        if fields[0] == "MSH":  # MSH-1 is the separator itself
            sender = fields[2].split("^")[0]
        elif fields[0] == "OBR":  # the filler's number, else the placer's; all of it
            accession = fields[3].strip() or fields[2].strip()
        elif fields[0] == "OBX" and fields[5].strip():
            assert fields[2] in ("NM", "SN"), "otherwise it is text"
            assert re.fullmatch(r"-?\d{1,12}(\.\d{1,6})?", fields[5])
            code = fields[3].split("^")[0]
            values[code] = (fields[5], fields[6].split("^")[0])
    return Read(sender, accession, values)


@pytest.mark.parametrize("signers", [(), ("A. Roe",)])
def test_its_profile_knows_all_that_is_sent(signers: tuple[str, ...]) -> None:
    sent = result(signers)
    found = read(oru_r01(sent, "0123456789abcdef0123"))
    assert re.search(PROFILE["msh3_pattern"], found.sender)
    assert re.search(PROFILE["identifier_pattern"], found.sender)
    assert found.accession == "S-17", "the laboratory's own number and nothing else"
    units = {t["test_code"]: t["unit"] for t in PROFILE["default_test_mappings"]}
    assert len(found.values) == len(sent.observations) == 11
    for figure in sent.observations:
        assert found.values[figure.loinc] == (f"{figure.value:g}", figure.unit)
        assert units[figure.loinc] == figure.unit


def test_the_profile_has_the_codes_that_are_sent_and_no_others() -> None:
    mapped = PROFILE["default_test_mappings"]
    assert {t["loinc"] for t in mapped} == {c for pair in LOINC.values() for c in pair}
    assert all(t["test_code"] == t["loinc"] for t in mapped)
