"""Brings a cell of a scanned slide back under the objective."""

from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from edgecell.edge.page.forms import Form, posted
from edgecell.edge.page.library import folder_of
from edgecell.edge.page.people.guard import person_with
from edgecell.edge.report.texts import text

if TYPE_CHECKING:
    from edgecell.edge.stage.places import Driver


def driver_of(request: Request) -> "Driver | None":
    """The stage that the page drives; None if there is none."""
    driver: Driver | None = request.app.state.driver
    return driver


def show(request: Request, _: Form) -> Response:
    """Drives the stage to a cell, and answers when it stands there."""
    person_with(request, "review")
    driver, cell = driver_of(request), request.path_params["cell"]
    if driver is None:
        raise HTTPException(409, text("drive.no_stage"))
    driver.show(folder_of(request), cell)
    return PlainTextResponse(text("drive.there", cell=cell))


ROUTES = [Route("/s/{key}/show/{cell:int}", posted(show), methods=["POST"])]
