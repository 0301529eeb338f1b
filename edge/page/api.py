"""Sessions, cells and namings as JSON."""

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edgecell import RESEARCH_USE
from edgecell.edge.page.cells.review import cells_in
from edgecell.edge.page.forms import Form, posted
from edgecell.edge.page.library import Entry, review_of
from edgecell.edge.page.openapi import openapi
from edgecell.edge.page.people.guard import person_with
from edgecell.edge.record.review import Look
from edgecell.edge.report.signing import Reports
from edgecell.errors import InputError


def sessions(request: Request) -> Response:
    """All sessions."""
    person_with(request, "view")
    entries = request.app.state.library.entries()
    return JSONResponse(
        {"note": RESEARCH_USE, "sessions": [_entry(e) for e in entries]}
    )


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "key": entry.key,
        "name": entry.name,
        "problem": entry.problem or None,
        "started": entry.summary.started if entry.summary else None,
        "ended": entry.summary.ended if entry.summary else None,
        "sample": entry.sample or None,
        "waiting": entry.readings.reviewed.to_review if entry.readings else None,
        "signed_by": list(entry.signed),
    }


def session(request: Request) -> Response:
    """One session: its three readings, and its signed reports."""
    person_with(request, "view")
    with review_of(request) as review:
        signed = Reports(review).signed()
        summary = review.session.summary().to_dict()
        summary["folder"] = summary["folder"].encode("utf-8", "replace").decode()
        data = {
            "note": RESEARCH_USE,
            "session": summary,
            "readings": review.session.readings().to_dict(),
            "signed": [
                {"version": s.version, "made": s.made, "sha256": s.sha256}
                | {"people": [signature.person for signature in s.signatures]}
                for s in signed
            ],
        }
    return JSONResponse(data)


def _cell(look: Look) -> dict[str, Any]:
    return {
        "cell": look.cell,
        "class": look.code,
        "probability": look.probability,
        "review": list(look.reasons),
        "waits": look.waits,
        "label": look.label,
        "named_by": look.naming.person if look.naming and look.label else None,
        "top": [{"class": code, "probability": p} for code, p in look.top],
        "votes": look.votes,
        "second_opinion": look.asked or None,
    }


def cells(request: Request) -> Response:
    """The cells of a session."""
    person = person_with(request, "view")
    with review_of(request) as review:
        looks = review.looks(person.name)
    return JSONResponse({"cells": [_cell(look) for look in looks]})


def cell(request: Request) -> Response:
    """One cell: what it rests on, and who named it."""
    person_with(request, "view")
    number = request.path_params["cell"]
    if number > 2**63 - 1:
        raise HTTPException(404, "there is no such cell")
    with review_of(request) as review:
        try:
            decision = review.session.decision(number)
        except InputError as e:
            raise HTTPException(404, str(e)) from e
        look = next(k for k in review.looks("") if k.cell == decision.cell)
        words = review.session.words([decision]).get(decision.cell)
        data = _cell(look) | {
            "attributes": words and words.to_dict(),
            "sightings": [s.to_dict() for s in review.session.sightings(decision.cell)],
            "namings": [n.to_dict() for n in review.trail.namings(decision.cell)],
        }
    return JSONResponse(data)


def name(request: Request, form: Form) -> Response:
    """Names cells; each row of the answer is on the disk."""
    person, numbers = person_with(request, "review"), cells_in(form)
    label, comment = form.get("label"), form.get("comment", "")
    with review_of(request, "rw") as review:
        rows = review.trail.name(person.name, numbers, label or None, comment)
    return JSONResponse({"namings": [row.to_dict() for row in rows]}, 201)


def description(request: Request) -> Response:
    """The OpenAPI description of the JSON addresses."""
    person_with(request, "view")
    return JSONResponse(openapi())


ROUTES = [
    Route("/api/openapi.json", description),
    Route("/api/sessions", sessions),
    Route("/api/sessions/{key}", session),
    Route("/api/sessions/{key}/cells", cells),
    Route("/api/sessions/{key}/cells/{cell:int}", cell),
    Route("/api/sessions/{key}/namings", posted(name), methods=["POST"]),
]
