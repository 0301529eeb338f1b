"""The report of a session: to read, print, keep as PDF or CSV, and sign."""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from edgecell.edge.page.forms import Form, posted, whole_number
from edgecell.edge.page.html import render
from edgecell.edge.page.library import review_of, shown_name
from edgecell.edge.page.people.accounts import Person
from edgecell.edge.page.people.guard import person_with
from edgecell.edge.report.content import Content, report_csv
from edgecell.edge.report.signing import MOST_SIGNATURES, Note, Reports, Signed
from edgecell.edge.report.texts import text

_MOST_SAMPLE = 60
_MOST_COMMENT = 600


def show(request: Request) -> Response:
    """The page."""
    person, version = person_with(request, "view"), _version(request)
    with review_of(request) as review:
        reports = Reports(review)
        draft, signed = reports.draft(), reports.signed()
        last = signed[-1] if signed else None
        return render(
            request,
            "report.html",
            key=request.path_params["key"],
            name=shown_name(review.folder),
            view=reports.shown(version),
            version_shown=version,
            note=reports.note(),
            draft=draft,
            sha256=draft.sha256,
            signed=signed,
            cannot=_cannot(draft, last, person),
            may_note=person.may("review"),
        )


def _version(request: Request) -> int | None:
    """The signed version that an address asks for; None for the present state."""
    return whole_number(request.query_params.get("version", ""))


def _cannot(draft: Content, last: Signed | None, person: Person) -> str:
    """Why somebody can't sign it now; '' if they can."""
    if not person.may("sign"):
        return text("report.why_role")
    if draft.running:
        return text("report.why_running")
    if not draft.cells:
        return text("report.why_empty")
    if draft.waiting:
        return text("report.why_waiting", n=draft.waiting)
    if last is not None and last.sha256 == draft.sha256:
        if person.name in (s.person for s in last.signatures):
            return text("report.why_signed")
        if len(last.signatures) >= MOST_SIGNATURES:
            return text("report.why_two")
    return ""


def pdf(request: Request) -> Response:
    """The report as PDF."""
    from edgecell.edge.report.pdf import report_pdf  # fpdf2 takes long to import

    person_with(request, "view")
    with review_of(request) as review:
        data = report_pdf(Reports(review).shown(_version(request)))
    name = f'inline; filename="{request.path_params["key"]}.pdf"'
    return Response(
        data, media_type="application/pdf", headers={"Content-Disposition": name}
    )


def table(request: Request) -> Response:
    """The report's table as CSV."""
    person_with(request, "view")
    with review_of(request) as review:
        data = report_csv(Reports(review).content(_version(request)))
    name = f'attachment; filename="{request.path_params["key"]}.csv"'
    return Response(data, media_type="text/csv", headers={"Content-Disposition": name})


def note(request: Request, form: Form) -> Response:
    """Keeps the sample's number and the comment."""
    person = person_with(request, "review")
    sample, comment = _line(form.get("sample", "")), _line(form.get("comment", ""))
    if len(sample) > _MOST_SAMPLE or len(comment) > _MOST_COMMENT:
        raise HTTPException(400, text("problem.long"))
    with review_of(request, "rw") as review:
        Reports(review).set_note(person.name, Note(sample, comment))
    return _back(request)


def _line(given: str) -> str:
    """One line of what can be printed."""
    return " ".join("".join(c if c.isprintable() else " " for c in given).split())


def sign(request: Request, form: Form) -> Response:
    """Signs what the page showed."""
    person = person_with(request, "sign")
    with review_of(request, "rw") as review:
        Reports(review).sign(person.name, form.get("sha256", ""))
    return _back(request)


def _back(request: Request) -> Response:
    return RedirectResponse(f"/s/{request.path_params['key']}/report", 303)


ROUTES = [
    Route("/s/{key}/report", show),
    Route("/s/{key}/report.pdf", pdf),
    Route("/s/{key}/report.csv", table),
    Route("/s/{key}/note", posted(note), methods=["POST"]),
    Route("/s/{key}/sign", posted(sign), methods=["POST"]),
]
