"""Keys of the review page: one for each class, which each person can change."""

import json
from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from edgecell.classes import NOT_A_CELL, OTHER
from edgecell.edge.page.forms import Form, posted
from edgecell.edge.page.people.guard import person_with
from edgecell.edge.report.texts import text

DEFAULT: Mapping[str, str] = {
    "SNE": "s",
    "BNE": "b",
    "MMY": "t",
    "MY": "y",
    "PMY": "p",
    "MYE": "k",
    "BA": "a",
    "EO": "e",
    "LY": "l",
    "MO": "o",
    "ERB": "r",
    "PLT": "d",
    OTHER: "w",
    NOT_A_CELL: "n",
    "comment": "c",
    "opinion": "q",
    "map": "m",
    "explain": "x",
}


def of(request: Request) -> dict[str, str]:
    """Somebody's keys by action, their own where they have chosen."""
    accounts = request.app.state.accounts
    own = {} if accounts is None else accounts.keys(request.scope["person"].name)
    return {action: own.get(action, key) for action, key in DEFAULT.items()}


def change(request: Request, form: Form) -> Response:
    """Keeps somebody's keys."""
    person = person_with(request, "view")
    accounts = request.app.state.accounts
    if accounts is None:
        raise HTTPException(404, text("people.none"))
    chosen = {
        action: form[action].strip().lower() for action in DEFAULT if form.get(action)
    }
    keys = {**DEFAULT, **chosen}
    usable = all(len(key) == 1 and key.isprintable() for key in keys.values())
    if not usable or "?" in keys.values() or len(set(keys.values())) < len(keys):
        raise HTTPException(400, text("problem.keys"))
    accounts.set_keys(person.name, chosen)
    back = form.get("back", "/")
    return RedirectResponse(back if back.startswith("/s/") else "/", 303)


def as_json(keys: Mapping[str, str]) -> str:
    """For the page's script."""
    return json.dumps(keys)


ROUTES = [Route("/keys", posted(change), methods=["POST"])]
