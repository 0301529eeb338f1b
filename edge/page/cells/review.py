"""The review page: strips of cells, one cell in detail, naming, undo."""

from typing import Any
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from edgecell.classes import NOT_A_CELL, OTHER
from edgecell.edge.page.cells import gallery, keys
from edgecell.edge.page.cells.drive import driver_of
from edgecell.edge.page.cells.pictures import frame_file
from edgecell.edge.page.forms import Form, posted, whole_number
from edgecell.edge.page.html import render
from edgecell.edge.page.library import review_of, shown_name
from edgecell.edge.page.people.guard import person_with
from edgecell.edge.record.review import Look, Review
from edgecell.edge.report.texts import text
from edgecell.edge.stage.places import is_scan
from edgecell.errors import InputError
from edgecell.explainers import DEFERRED

_CHUNK = 120
_MOST_CELLS = 20_000
"""Of one change: a session has a thousand or two."""

_SAMPLE = 50


def show(request: Request) -> Response:
    """The page."""
    person, wanted = (
        person_with(request, "view"),
        gallery.Filter.of(request.query_params),
    )
    with review_of(request) as review:
        looks = review.looks(person.name)
        shown = gallery.strips(looks, wanted)
        return render(
            request,
            "review.html",
            **_around(request, review),
            strips=shown,
            wanted=wanted,
            query=urlencode(wanted.query()),
            states=gallery.STATES,
            reasons=gallery.reasons_of(looks),
            people=gallery.people_of(looks),
            total=len(looks),
            shown=sum(len(strip.looks) for strip in shown),
            keys=keys.of(request),
            actions=keys.DEFAULT,
            readings=review.session.readings(),
            newest=review.newest(),
            name_of_classes=gallery.class_names(),
        )


def _around(request: Request, review: Review) -> dict[str, Any]:
    """Values that every part of the page uses."""
    return {
        "key": request.path_params["key"],
        "name": shown_name(review.folder),
        "labels": (*gallery.STRIPS, OTHER, NOT_A_CELL),
        "short": gallery.short,
        "strip_of": gallery.strip_of,
        "may_name": request.scope["person"].may("review"),
    }


def more(request: Request) -> Response:
    """Further cells of a strip."""
    person, wanted = (
        person_with(request, "view"),
        gallery.Filter.of(request.query_params),
    )
    start = request.path_params["start"]
    with review_of(request) as review:
        looks = review.looks(person.name)
        strip = next(
            (
                strip
                for strip in gallery.strips(looks, wanted)
                if strip.label == request.query_params.get("strip", "")
            ),
            None,
        )
        return render(
            request,
            "more.html",
            **_around(request, review),
            strip=strip,
            looks=() if strip is None else strip.looks[start : start + _CHUNK],
            end=start + _CHUNK,
            query=urlencode(wanted.query()),
        )


def cell(request: Request) -> Response:
    """One cell in detail."""
    person = person_with(request, "view")
    with review_of(request) as review:
        look = _look(review, person.name, request.path_params["cell"])
        sightings = review.session.sightings(look.cell)
        decision = review.session.decision(look.cell)
        place = None if look.sighting is None else review.place(look.sighting)
        file = None if place is None else frame_file(review.folder, place.frame)
        return render(
            request,
            "detail.html",
            **_around(request, review),
            look=look,
            trail=review.trail.namings(look.cell)[::-1],
            explained=review.explained(look.cell),
            methods=DEFERRED,
            keys=keys.of(request),
            sightings=sightings,
            heads=review.session.model.attributes,
            said=review.session.words([decision]).get(look.cell),
            has_map=look.sighting is not None
            and review.heat(look.sighting) is not None,
            has_context=file is not None,
            can_drive=driver_of(request) is not None and is_scan(review.folder),
            name_of_classes=gallery.class_names(),
        )


def _look(review: Review, person: str, number: int) -> Look:
    """A cell, also under the number that it had before it turned out to be another.

    Raises:
        HTTPException: there is none.
    """
    try:
        number = review.session.decision(number).cell
    except InputError as e:
        raise HTTPException(404, str(e)) from e
    return next(k for k in review.looks(person) if k.cell == number)


def trace(request: Request) -> Response:
    """What the decision on a cell rests on: pixels, logits, the model."""
    person = person_with(request, "view")
    with review_of(request) as review:
        look = _look(review, person.name, request.path_params["cell"])
        return render(
            request,
            "trace.html",
            **_around(request, review),
            look=look,
            codes=review.session.model.codes,
            decision=review.session.decision(look.cell),
            sightings=review.numbered_sightings(look.cell),
            summary=review.session.summary(),
        )


def cells_in(form: Form) -> list[int]:
    """The cells that a change is for.

    Raises:
        HTTPException: they are not numbers with commas between them, or too many.
    """
    parts = form.get("cells", "").split(",")
    numbers = [n for n in map(whole_number, parts) if n is not None]
    if len(numbers) != len(parts) or len(numbers) > _MOST_CELLS:
        raise HTTPException(400, text("problem.cells"))
    return list(dict.fromkeys(numbers))


def name(request: Request, form: Form) -> Response:
    """Names cells; '=' is the machine's class of each, '' takes a label away."""
    person, cells = person_with(request, "review"), cells_in(form)
    with review_of(request, "rw") as review:
        label, comment = form.get("label", ""), form.get("comment", "")
        if label == "=":
            rows = review.accept(person.name, cells, comment)
            said = text("review.accepted", n=len(rows))
        else:
            rows = review.trail.name(person.name, cells, label or None, comment)
            said = (
                text("review.saved", n=len(rows), label=gallery.short(label))
                if label
                else text("review.unnamed", n=len(rows))
            )
        return _changed(request, review, [row.cell for row in rows], said)


def undo(request: Request, form: Form) -> Response:
    """Undoes this person's last change."""
    person = person_with(request, "review")
    with review_of(request, "rw") as review:
        rows = review.trail.undo(person.name)
        said = text("review.undone", n=len(rows)) if rows else text("review.nothing")
        return _changed(request, review, [row.cell for row in rows], said)


def ask(request: Request, form: Form) -> Response:
    """Asks for a second opinion."""
    person, cells = person_with(request, "review"), cells_in(form)
    with review_of(request, "rw") as review:
        review.ask(person.name, cells)
        return _changed(request, review, cells, text("review.asked", n=len(cells)))


def explain(request: Request, form: Form) -> Response:
    """Puts an explanation on the queue."""
    person_with(request, "review")
    method = form.get("method", "")
    if method not in DEFERRED:
        raise HTTPException(400, text("problem.method"))
    with review_of(request, "rw") as review:
        for number in cells_in(form):
            review.explain(number, method)
    return Response(status_code=204)


def saw(request: Request, form: Form) -> Response:
    """Records what a person has seen, unless the disk doesn't take it."""
    person = person_with(request, "view")
    with review_of(request, "rw") as review:
        review.saw(person.name, cells_in(form))
    return Response(status_code=204)


def sample(request: Request, form: Form) -> Response:
    """Draws the random sample that shows how good the machine is."""
    person_with(request, "review")
    with review_of(request, "rw") as review:
        review.trail.draw(_SAMPLE)
    return RedirectResponse(f"/s/{request.path_params['key']}/review?state=sample", 303)


def changes(request: Request) -> Response:
    """What other people have changed since; nothing (204) if they haven't."""
    person = person_with(request, "view")
    since, total = request.path_params["since"], request.path_params["total"]
    with review_of(request) as review:
        newest = review.newest()
        looks = review.looks(person.name)
        if newest == since and len(looks) == total:
            return Response(status_code=204)
        changed = [k.cell for k in looks if k.naming is not None or k.asked or k.differ]
        return _changed(request, review, changed, "", known=total)


def _changed(
    request: Request,
    review: Review,
    cells: list[int],
    said: str,
    known: int | None = None,
) -> Response:
    """The changed cells' cards, the counts, and a message."""
    looks = review.looks(request.scope["person"].name)
    roots = review.trail.roots()
    numbers = {roots.get(number, number) for number in cells}
    return render(
        request,
        "changed.html",
        **_around(request, review),
        looks=[look for look in looks if look.cell in numbers],
        readings=review.session.readings(),
        newest=review.newest(),
        total=len(looks),
        fresh=0 if known is None else len(looks) - known,
        said=said,
        name_of_classes=gallery.class_names(),
    )


ROUTES = [
    Route("/s/{key}/review", show),
    Route("/s/{key}/more/{start:int}", more),
    Route("/s/{key}/cell/{cell:int}", cell),
    Route("/s/{key}/trace/{cell:int}", trace),
    Route("/s/{key}/changes/{since:int}/{total:int}", changes),
    Route("/s/{key}/name", posted(name), methods=["POST"]),
    Route("/s/{key}/undo", posted(undo), methods=["POST"]),
    Route("/s/{key}/ask", posted(ask), methods=["POST"]),
    Route("/s/{key}/explain", posted(explain), methods=["POST"]),
    Route("/s/{key}/seen", posted(saw), methods=["POST"]),
    Route("/s/{key}/sample", posted(sample), methods=["POST"]),
]
