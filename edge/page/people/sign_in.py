"""Pages for signing in, for one-time links, and for those who manage accounts."""

import math
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from edgecell.edge.page.forms import Form, posted
from edgecell.edge.page.html import render
from edgecell.edge.page.people.accounts import LEAST_PASSWORD, ROLES, SESSION_S
from edgecell.edge.page.people.guard import cookie_of, person_with
from edgecell.edge.report.texts import text
from edgecell.errors import InputError


def _accounts(request: Request) -> Any:
    accounts = request.app.state.accounts
    if accounts is None:
        raise HTTPException(404, text("people.none"))
    return accounts


def _let_in(request: Request, token: str, to: str) -> Response:
    door = request.app.state.door
    answer = RedirectResponse(to, 303)
    answer.set_cookie(
        door.cookie,
        token,
        max_age=int(SESSION_S),
        secure=door.secure,
        httponly=True,
        samesite="strict",
    )
    return answer


def _inside(to: str) -> str:
    """An address of this page, whatever a link asked for."""
    if to.startswith("/") and not to.startswith(("//", "/\\")) and to.isprintable():
        return to
    return "/"


def show_sign_in(request: Request) -> Response:
    """The form."""
    to = _inside(request.query_params.get("next", "/"))
    return render(request, "sign_in.html", to=to, name="", error="")


def sign_in(request: Request, form: Form) -> Response:
    """Name and password; wrong ones have to wait longer every time."""
    accounts = _accounts(request)
    name, to = form.get("name", "").strip(), _inside(form.get("next", "/"))
    pace, address = request.app.state.pace, request.client
    tries = [f"name {name.lower()}"]
    if request.app.state.door.origin is None:  # behind a proxy all have its address
        tries.append(f"from {address.host if address else ''}")
    wait = pace.wait_s(*tries)
    if wait > 0:
        error = text("sign_in.wait", seconds=math.ceil(wait))
        page = render(request, "sign_in.html", 429, to=to, name=name, error=error)
        page.headers["Retry-After"] = str(math.ceil(wait))
        return page
    pace.failed(*tries)  # before the slow part: many tries at once are many tries
    token = accounts.sign_in(name, form.get("password", ""))
    if token is None:
        error = text("sign_in.wrong")
        return render(request, "sign_in.html", 401, to=to, name=name, error=error)
    pace.succeeded(*tries)
    return _let_in(request, token, to)


def sign_out(request: Request, _: Form) -> Response:
    """Ends the session."""
    door = request.app.state.door
    token = cookie_of(request.headers.get("cookie", ""), door.cookie)
    if token is not None:
        _accounts(request).sign_out(token)
    answer = RedirectResponse("/sign-in", 303)
    answer.delete_cookie(door.cookie, secure=door.secure, samesite="strict")
    return answer


def show_welcome(request: Request) -> Response:
    """The form behind a one-time link."""
    token = request.query_params.get("token", "")
    invitation = _accounts(request).invitation(token)
    if invitation is None:
        raise HTTPException(410, text("welcome.old"))
    return _welcome(request, token, invitation[0], "", 200)


def _welcome(
    request: Request, token: str, settled: str | None, error: str, status: int
) -> Response:
    return render(
        request,
        "welcome.html",
        status,
        token=token,
        settled=settled,
        least=LEAST_PASSWORD,
        error=error,
    )


def welcome(request: Request, form: Form) -> Response:
    """Makes the account, or sets its password, and signs in."""
    accounts = _accounts(request)
    token = form.get("token", "")
    try:
        password = form.get("password", "")
        if password != form.get("again", ""):
            raise InputError(text("welcome.differ"))
        person = accounts.accept(token, form.get("name", ""), password)
    except InputError as e:
        invitation = accounts.invitation(token)
        if invitation is None:
            raise HTTPException(410, text("welcome.old")) from e
        return _welcome(request, token, invitation[0], str(e), 400)
    return _let_in(request, accounts.begin(person.name), "/")


def show_people(request: Request) -> Response:
    """Everybody, for those who manage accounts."""
    person_with(request, "manage")
    people = _accounts(request).people()
    return render(request, "people.html", people=people, roles=ROLES, link="", error="")


def change_people(request: Request, form: Form) -> Response:
    """Invites, changes a role, lets choose a new password, removes."""
    person_with(request, "manage")
    accounts, link, error = _accounts(request), "", ""
    name, role, action = form.get("name", ""), form.get("role", ""), form.get("do")
    known = {person.name: person for person in accounts.people()}
    try:
        if action == "invite" and role in ROLES:
            link = accounts.invite(role)
        elif name not in known:
            raise InputError(text("people.unknown"))
        elif action == "role" and role in ROLES:
            accounts.set_role(name, role)
        elif action == "password":
            link = accounts.invite(known[name].role, name)
        elif action == "remove":
            accounts.remove(name)
    except InputError as e:
        error = str(e)
    if link:
        link = f"{request.app.state.door.address}/welcome?token={link}"
    return render(
        request,
        "people.html",
        400 if error else 200,
        people=accounts.people(),
        roles=ROLES,
        link=link,
        error=error,
    )


ROUTES = [
    Route("/sign-in", show_sign_in),
    Route("/sign-in", posted(sign_in), methods=["POST"]),
    Route("/sign-out", posted(sign_out), methods=["POST"]),
    Route("/welcome", show_welcome),
    Route("/welcome", posted(welcome), methods=["POST"]),
    Route("/people", show_people),
    Route("/people", posted(change_people), methods=["POST"]),
]
