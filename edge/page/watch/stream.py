"""The live page: the stream, what is polled beside it, pause and the next slide."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, cast

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from edgecell.edge.find.quality import BLURRED, BRIGHT, CAST, DARK, EMPTY
from edgecell.edge.page.forms import Form, posted
from edgecell.edge.page.html import render
from edgecell.edge.page.library import key_of
from edgecell.edge.page.people.guard import person_with
from edgecell.edge.report.texts import text

if TYPE_CHECKING:  # it brings the whole loop, which a page without one doesn't need
    from edgecell.edge.page.watch.live import Live

MODES = ("maps", "boxes", "clean")

_TRUSTED = re.compile(r"known \(.*\)|calibrated \(.*\), shown to be right")
"""The verdict on a microscope on which cells are accepted without review."""

_KEPT = {"Cache-Control": "private, max-age=3600, immutable"}
"""A last cell's address names the frame that it was seen in, so its pixels stay."""

_LOOK_S = 0.04
_BOUNDARY = "edgecell-frame"
_REPEAT_S = 2.0
"""How often a picture is sent again while none comes: a proxy or browser would
otherwise hold the stream for dead."""

_MOST_SAMPLE = 60


def _live(request: Request) -> "Live":
    live = request.app.state.live
    if live is None:
        raise HTTPException(404, text("live.none"))
    return cast("Live", live)


def show(request: Request) -> Response:
    """The page."""
    person, live = person_with(request, "view"), _live(request)
    return render(
        request,
        "live.html",
        modes=MODES,
        may_steer=person.may("review"),
        **_state(live),
    )


def _state(live: "Live") -> dict[str, Any]:
    """Values that the live page uses."""
    run, state = live.run, live.state()
    return {
        "state": state,
        "lamps": _lamps(state) if state["running"] else (),
        "cells": live.last_cells(),
        "key": "" if run is None else key_of(run.out),
    }


def _lamps(state: dict[str, Any]) -> tuple[tuple[str, str, bool], ...]:
    """For each thing that is monitored: its name, a word for it, whether it is well."""
    gate, old = state["gate"], state["stale"]

    def seen(what: str, *faults: str) -> tuple[str, str, bool]:
        if old:
            return what, text("live.unknown"), False
        word = gate if gate in faults else text("live.good")
        return what, word, gate not in faults

    recording = state["health"]["recording"]
    microscope = state["health"]["microscope"]
    camera = text("live.is_lost") if old else state["source"]
    return (
        (text("live.camera"), camera, not old),
        seen(text("live.focus"), BLURRED),
        seen(text("live.exposure"), DARK, BRIGHT),
        seen(text("live.field"), EMPTY, CAST),
        (
            text("live.recording"),
            text("live.good") if recording == "on" else recording,
            recording == "on",
        ),
        (
            text("report.microscope"),
            microscope,
            _TRUSTED.fullmatch(microscope) is not None,
        ),
    )


def state(request: Request) -> Response:
    """What the page polls once a second."""
    person = person_with(request, "view")
    live = _live(request)
    return render(
        request, "live_state.html", may_steer=person.may("review"), **_state(live)
    )


def cell(request: Request) -> Response:
    """One of the last cells."""
    person_with(request, "view")
    data = _live(request).crop(request.path_params["cell"])
    if data is None:
        raise HTTPException(404, text("live.gone"))
    return Response(data, media_type="image/jpeg", headers=_KEPT)


async def stream(request: Request) -> Response:
    """The newest pictures, for as long as somebody looks (Motion JPEG)."""
    person_with(request, "view")
    mode = request.query_params.get("show", MODES[0])
    if mode not in MODES:
        raise HTTPException(400, text("live.mode"))
    kind = f"multipart/x-mixed-replace; boundary={_BOUNDARY}"
    return StreamingResponse(_parts(_live(request), mode), media_type=kind)


async def _parts(live: "Live", mode: str) -> AsyncIterator[bytes]:
    """Parts of the stream; each is the newest picture when the viewer is ready."""
    boundary = f"\r\n--{_BOUNDARY}\r\n".encode()
    sent, sent_s = -1, time.monotonic()
    yield boundary
    while True:
        await asyncio.sleep(_LOOK_S)
        now = time.monotonic()
        if live.number == sent and now - sent_s < _REPEAT_S:
            continue
        picture = await run_in_threadpool(live.picture, mode)
        if picture is None or (picture.number == sent and now - sent_s < _REPEAT_S):
            continue
        sent, sent_s = picture.number, now
        size = f"Content-Length: {len(picture.data)}\r\n\r\n".encode()
        # A browser shows a picture when the boundary after it has come.
        yield b"Content-Type: image/jpeg\r\n" + size + picture.data + boundary


def steer(request: Request, form: Form) -> Response:
    """Pauses, resumes, or begins the next slide."""
    person, live = person_with(request, "review"), _live(request)
    run, action = live.run, form.get("do", "")
    if run is None:
        raise HTTPException(409, text("live.not_yet"))
    if action == "pause":
        run.pause()
    elif action == "resume":
        run.resume()
    elif action == "slide":
        sample = " ".join(form.get("sample", "").split())
        if len(sample) > _MOST_SAMPLE or not (sample or "x").isprintable():
            raise HTTPException(400, text("problem.long"))
        live.next_slide(person.name, sample)
    else:
        raise HTTPException(400, text("live.action"))
    return RedirectResponse("/live", 303)


ROUTES = [
    Route("/live", show),
    Route("/live/state", state),
    Route("/live/stream", stream),
    Route("/live/cell/{cell:int}.jpg", cell),
    Route("/live/steer", posted(steer), methods=["POST"]),
]
