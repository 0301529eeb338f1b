"""FHIR R4: a result as a transaction bundle, plain JSON."""

import uuid
from typing import Any

from edgecell.edge.outbox.result import PANEL, LabResult, Observation

_LOINC = "http://loinc.org"
_UCUM = "http://unitsofmeasure.org"
_OURS = "urn:edgecell:result"
_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"


def bundle(result: LabResult) -> dict[str, Any]:
    """A DiagnosticReport with its Observations (https://hl7.org/fhir/R4/).

    Each entry is created only if the server has none with its identifier, so a bundle
    that is sent again changes nothing.

    Args:
        result: what to send.
    """
    names = {
        figure.code: f"{result.identifier}-{figure.code}"
        for figure in result.observations
    }
    report: dict[str, Any] = {
        "resourceType": "DiagnosticReport",
        "identifier": [_identifier(result.identifier)],
        "status": "final" if result.final else "preliminary",
        "code": {"coding": [_coding(*PANEL)]},
        "effectiveDateTime": result.observed,
        "issued": result.issued,
        "specimen": [{"identifier": {"value": result.sample}}],
        "result": [{"reference": _urn(name)} for name in names.values()],
        "conclusion": "\n".join(result.notes),
    }
    if result.signed_by:
        report["resultsInterpreter"] = [{"display": p} for p in result.signed_by]
    entries = [
        _entry(result.identifier, report),
        *(
            _entry(names[figure.code], _observation(result, figure))
            for figure in result.observations
        ),
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def _observation(result: LabResult, figure: Observation) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "identifier": [_identifier(f"{result.identifier}-{figure.code}")],
        "status": "final" if result.final else "preliminary",
        "category": [{"coding": [{"system": _CATEGORY, "code": "laboratory"}]}],
        "code": {"coding": [_coding(figure.loinc, figure.name)]},
        "specimen": {"identifier": {"value": result.sample}},
        "effectiveDateTime": result.observed,
        "issued": result.issued,
        "valueQuantity": {
            "value": figure.value,
            "unit": figure.unit,
            "system": _UCUM,
            "code": figure.unit,
        },
        "note": [{"text": figure.note}],
    }


def _entry(name: str, resource: dict[str, Any]) -> dict[str, Any]:
    kind = resource["resourceType"]
    return {
        "fullUrl": _urn(name),
        "resource": resource,
        "request": {
            "method": "POST",
            "url": kind,
            "ifNoneExist": f"identifier={_OURS}|{name}",
        },
    }


def _urn(name: str) -> str:
    """The same URN for the same name, so that a rebuilt bundle is identical."""
    return f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{_OURS}:{name}')}"


def _identifier(value: str) -> dict[str, str]:
    return {"system": _OURS, "value": value}


def _coding(code: str, display: str) -> dict[str, str]:
    return {"system": _LOINC, "code": code, "display": display}
