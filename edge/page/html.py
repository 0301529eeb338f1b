"""Templates whose values are escaped."""

from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse

from edgecell import RESEARCH_USE, __version__
from edgecell.edge.report.texts import text, words

_HERE = Path(__file__).parent
STATIC = _HERE / "static"


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals |= {
        "t": text,
        "words": words,
        "research_use": RESEARCH_USE,
        "version": __version__,
    }
    return environment


def render(
    request: Request, template: str, status: int = 200, **values: Any
) -> HTMLResponse:
    """Fills a template; its values are escaped.

    Args:
        request: says who is looking.
        template: a file in templates/.
        status: of HTTP.
        values: what the template names.
    """
    page = _environment().get_template(template)
    shown = page.render(
        person=request.scope.get("person"),
        path=request.url.path,
        live=request.app.state.live is not None,
        has_accounts=request.app.state.accounts is not None,
        **values,
    )
    return HTMLResponse(shown, status)
