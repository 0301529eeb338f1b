import json
from typing import Any

import hl7
import pytest
from fhir.resources.R4B.bundle import Bundle

from edgecell.classes import CODES
from edgecell.edge.count.differential import Differential
from edgecell.edge.outbox.fhir import bundle
from edgecell.edge.outbox.hl7 import oru_r01, read_answer
from edgecell.edge.outbox.result import LOINC, LabResult, observations

COUNT = Differential({"SNE": 60, "LY": 40, "ERB": 3, "PLT": 9}, {})


def result(signed_by: tuple[str, ...] = (), sample: str = "S-17") -> LabResult:
    figures = observations(COUNT.to_dict(), signed=bool(signed_by))
    notes = ("For research use only. Not for diagnosis.", "model 0123abc | edgecell")
    began, issued = "2026-11-26T10:00:00+00:00", "2026-11-26T10:20:00+00:00"
    return LabResult("abc-1", sample, began, issued, signed_by, figures, notes)


def test_every_class_but_platelets_is_coded() -> None:
    assert set(LOINC) == set(CODES) - {"PLT"}
    assert len({code for pair in LOINC.values() for code in pair}) == 2 * len(LOINC)


def test_figures_by_hand() -> None:
    figures = {f.code: f for f in observations(COUNT.to_dict(), signed=True)}
    assert (figures["SNE"].value, figures["SNE"].unit) == (60.0, "%")
    assert figures["SNE"].note == "95 % interval 50.2 to 69.1 %; 60 of 100 white cells"
    assert (figures["ERB"].value, figures["ERB"].unit) == (3.0, "/100{WBCs}")
    assert figures["LY"].loinc == "737-7"
    assert observations(COUNT.to_dict(), signed=False)[0].loinc == "30180-4"
    assert observations(Differential({}, {"LY": 3}).to_dict(), signed=False) == ()


@pytest.mark.parametrize(("signers", "status"), [((), "P"), (("A. Roe",), "F")])
def test_the_message_as_an_independent_parser_reads_it(
    signers: tuple[str, ...], status: str
) -> None:
    message = hl7.parse(oru_r01(result(signers, "S|1^7"), "0123456789abcdef0123"))
    header = message.segment("MSH")
    assert str(header(9)) == "ORU^R01^ORU_R01"
    assert str(header(10)) == "0123456789abcdef0123"
    request = message.segment("OBR")
    assert message.unescape(str(request(3))) == "S|1^7"
    assert (str(request(4)(0)(0)), str(request(25))) == ("69738-3", status)
    rows = [s for s in message if str(s(0)) == "OBX"]
    assert len(rows) == 11
    segmented = next(r for r in rows if "segmented" in str(r(3)))
    assert (str(segmented(5)), str(segmented(6))) == ("60", "%")
    assert {str(r(11)) for r in rows} == {status}
    assert str(segmented(19)).startswith("20261126102000")
    assert str(message.segment("PID")) == "PID|1"


def test_the_bundle_is_valid_fhir() -> None:
    data = bundle(result(("A. Roe", "B. Doe")))
    read = Bundle.model_validate_json(json.dumps(data))
    assert len(read.entry or ()) == 12
    report: dict[str, Any] = data["entry"][0]["resource"]
    assert report["status"] == "final"
    urls = {entry["fullUrl"] for entry in data["entry"][1:]}
    assert {r["reference"] for r in report["result"]} == urls
    assert data == bundle(result(("A. Roe", "B. Doe")))  # sent again, it is the same


def test_answers() -> None:
    ack = "MSH|^~\\&|LIS||edgecell||2026||ACK|9|P|2.5.1\rMSA|{}|c1|{}\r"
    taken = read_answer(ack.format("AA", ""))
    assert taken is not None
    assert taken.accepted
    assert taken.control == "c1"
    refused = read_answer(ack.format("AE", "unknown sample") + "ERR|||204^key|E\r")
    assert refused is not None
    assert not refused.accepted
    assert not refused.passing
    assert refused.reason == "unknown sample 204^key E"
    busy = read_answer(ack.format("AE", "") + "ERR||PID^1|207^internal error|E\r")
    assert busy is not None
    assert (busy.accepted, busy.passing) == (False, True)
    for rubbish in ("", "hello", "MSH|^~\\&|LIS\r"):
        assert read_answer(rubbish) is None
