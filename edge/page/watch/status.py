"""Health of the machine, the loop and the sessions: page, JSON and Prometheus."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edgecell import RESEARCH_USE, __version__
from edgecell.edge.page.html import render
from edgecell.edge.page.library import Entry
from edgecell.edge.page.people.guard import person_with
from edgecell.edge.record.connection import open_database
from edgecell.edge.record.review import Review
from edgecell.edge.show.health import read_board
from edgecell.errors import InputError

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from edgecell.edge.page.watch.live import Live


def status_of(app: Starlette) -> dict[str, Any]:
    """All that is known of their health, ready for JSON."""
    library, live = app.state.library, app.state.live
    entries = library.entries()
    disk = shutil.disk_usage(library.root)
    board = asdict(read_board())
    state = {"running": False} if live is None else live.state()
    sessions = [entry for entry in entries if entry.readings is not None]
    return {
        "note": RESEARCH_USE,
        "version": __version__,
        "loop": state,
        "disk": {"free_bytes": disk.free, "total_bytes": disk.total},
        "board": board,
        "sessions": len(entries),
        "unreadable": [entry.name for entry in entries if entry.problem],
        "cells_waiting": sum(e.readings.reviewed.to_review for e in sessions),
        "explanations_waiting": sum(map(_queued, _folders(app, sessions))),
    }


def _folders(app: Starlette, entries: list[Entry]) -> list[Any]:
    folders = app.state.library.folders()
    return [folders[entry.key] for entry in entries if entry.key in folders]


def _queued(folder: Any) -> int:
    try:
        with open_database(folder, "ro") as database:
            return Review(folder, database).explanations_waiting()
    except InputError:  # it has been moved away since
        return 0


class _Figures:
    """The status as Prometheus collects it."""

    def __init__(self, status: dict[str, Any], live: "Live | None") -> None:
        self._status, self._live = status, live

    def collect(self) -> "Iterator[Metric]":
        """Gauges; those of a loop that doesn't run are left out."""
        from edgecell.edge.loop.metrics import gauge, loop_metrics

        status = self._status
        yield gauge("sessions", "Recorded sessions.", status["sessions"])
        yield gauge("cells_waiting", "Cells to review.", status["cells_waiting"])
        waiting = status["explanations_waiting"]
        yield gauge(
            "explanations_waiting", "Explanations waiting in the queues.", waiting
        )
        yield gauge("disk_free_bytes", "Free disk space.", status["disk"]["free_bytes"])
        run = None if self._live is None else self._live.run
        health = None if run is None else run.health()
        if run is not None and health is not None:
            yield from loop_metrics(health, run.differential)


def show(request: Request) -> Response:
    """The page."""
    person_with(request, "view")
    return render(request, "status.html", now=status_of(request.app))


def as_json(request: Request) -> Response:
    """The same as JSON."""
    person_with(request, "view")
    return JSONResponse(json.loads(json.dumps(status_of(request.app))))


def metrics(request: Request) -> Response:
    """The same for Prometheus."""
    # It takes as long to import as the rest of the page, and so does the loop.
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    state = request.app.state
    registry.register(_Figures(status_of(request.app), state.live))
    kind = "text/plain; version=0.0.4; charset=utf-8"
    return Response(generate_latest(registry), headers={"Content-Type": kind})


ROUTES = [
    Route("/status", show),
    Route("/api/status", as_json),
    Route("/metrics", metrics),
]
