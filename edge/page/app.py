"""The page as an ASGI application."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from edgecell.edge.page import api, reports
from edgecell.edge.page.cells import drive, keys, pictures, review
from edgecell.edge.page.forms import whole_number
from edgecell.edge.page.html import STATIC, render
from edgecell.edge.page.library import Library
from edgecell.edge.page.people import sign_in
from edgecell.edge.page.people.accounts import Accounts
from edgecell.edge.page.people.guard import Door, Guard, person_with
from edgecell.edge.page.people.pace import Pace
from edgecell.edge.page.watch import status, stream
from edgecell.errors import InputError, OutputError, SourceError

if TYPE_CHECKING:
    from edgecell.edge.page.watch.live import Live
    from edgecell.edge.stage.places import Driver


A_PAGE = 60
"""Sessions on one page of the list."""


def sessions(request: Request) -> Response:
    """The list of sessions, or of those that are searched for, page by page."""
    person_with(request, "view")
    library = request.app.state.library
    entries, words = library.entries(), request.query_params.get("find", "").strip()
    found = [entry for entry in entries if entry.matches(words)]
    pages = max(1, math.ceil(len(found) / A_PAGE))
    asked = whole_number(request.query_params.get("page", "")) or 1
    page = min(max(1, asked), pages)
    return render(
        request,
        "sessions.html",
        entries=found[(page - 1) * A_PAGE : page * A_PAGE],
        total=len(entries),
        searchable=bool(words) or len(entries) > A_PAGE,
        find=words,
        page=page,
        pages=pages,
        root=str(library.root),
    )


def _problem(request: Request, status: int, what: str) -> Response:
    """An error in the form that the client expects: JSON, a line of text, or a page."""
    if request.url.path.startswith("/api/"):
        return JSONResponse({"error": what}, status)
    if "hx-request" in request.headers or request.scope.get("person") is None:
        return PlainTextResponse(what, status)
    return render(request, "problem.html", status, what=what)


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _problem(request, error.status_code, error.detail)


def _mistaken(request: Request, error: Exception) -> Response:
    return _problem(request, 400, str(error))


def _not_done(request: Request, error: Exception) -> Response:
    return _problem(request, 409, str(error))


def create_app(
    root: Path,
    door: Door,
    accounts: Accounts | None,
    live: "Live | None" = None,
    driver: "Driver | None" = None,
) -> Starlette:
    """Makes the application.

    Args:
        root: folder of sessions, or a session.
        door: how browsers reach it.
        accounts: who may sign in; None if nobody has to.
        live: the running loop; None if there is none.
        driver: the motorised stage; None if there is none.
    """
    app = Starlette(
        routes=[
            Route("/", sessions),
            *sign_in.ROUTES,
            *review.ROUTES,
            *reports.ROUTES,
            *pictures.ROUTES,
            *drive.ROUTES,
            *keys.ROUTES,
            *stream.ROUTES,
            *status.ROUTES,
            *api.ROUTES,
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[Middleware(Guard, door=door, accounts=accounts)],
        exception_handlers={
            HTTPException: _refused,
            InputError: _mistaken,
            OutputError: _not_done,
            SourceError: _not_done,
        },
    )
    app.state.library = Library(root)
    app.state.door, app.state.accounts, app.state.live = door, accounts, live
    app.state.pace, app.state.driver = Pace(), driver
    return app
