"""The OpenAPI description of the JSON addresses."""

from typing import Any

from edgecell import RESEARCH_USE, __version__

_LABEL = (
    "A class code, codes joined by '|', 'not a cell', 'other: NAME', or nothing, which "
    "takes the label away."
)
_KEY = {
    "name": "key",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[a-z0-9-]+$"},
}
_NUMBER = {
    "name": "cell",
    "in": "path",
    "required": True,
    "schema": {"type": "integer", "minimum": 0},
}
_OBJECT = {"application/json": {"schema": {"type": "object"}}}
_ERROR = {
    "application/json": {
        "schema": {
            "type": "object",
            "required": ["error"],
            "properties": {"error": {"type": "string"}},
        }
    }
}
_ERRORS = {
    "400": "The request is not valid.",
    "401": "Nobody is signed in.",
    "403": "The role does not allow it, or the request does not come from the page.",
    "404": "There is no such session or cell.",
    "409": "It could not be written to the disk.",
    "413": "The form is too large.",
}


def _operation(
    what: str, parameters: list[dict[str, Any]], success: str = "200"
) -> dict[str, Any]:
    answers = {success: {"description": "Done.", "content": _OBJECT}} | {
        status: {"description": text, "content": _ERROR}
        for status, text in _ERRORS.items()
    }
    return {"summary": what, "parameters": parameters, "responses": answers}


_FORM = {
    "required": True,
    "content": {
        "application/x-www-form-urlencoded": {
            "schema": {
                "type": "object",
                "required": ["cells", "label"],
                "properties": {
                    "cells": {
                        "type": "string",
                        "pattern": "^[0-9]{1,9}(,[0-9]{1,9})*$",
                    },
                    "label": {
                        "type": "string",
                        "description": _LABEL,
                    },
                    "comment": {"type": "string", "maxLength": 500},
                },
            }
        }
    },
}


def openapi() -> dict[str, Any]:
    """The JSON addresses, as OpenAPI 3.1 describes them."""
    naming = _operation("Name cells.", [_KEY], "201") | {"requestBody": _FORM}
    return {
        "openapi": "3.1.0",
        "info": {"title": "edgecell", "version": __version__, "summary": RESEARCH_USE},
        "paths": {
            "/api/status": {
                "get": _operation(
                    "The state of the loop, the machine and the sessions.", []
                )
            },
            "/api/sessions": {"get": _operation("All sessions.", [])},
            "/api/sessions/{key}": {"get": _operation("One session.", [_KEY])},
            "/api/sessions/{key}/cells": {"get": _operation("Its cells.", [_KEY])},
            "/api/sessions/{key}/cells/{cell}": {
                "get": _operation("One cell.", [_KEY, _NUMBER])
            },
            "/api/sessions/{key}/namings": {"post": naming},
        },
    }
