import asyncio
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from starlette.testclient import TestClient
from starlette.types import Message

from edgecell.edge.page.cells.gallery import FIRST, Filter, strips
from edgecell.edge.page.cells.keys import DEFAULT
from edgecell.edge.page.library import key_of
from edgecell.edge.page.people.accounts import Role
from edgecell.edge.record.connection import open_database
from edgecell.edge.record.review import Look, Review
from edgecell.edge.record.store import Session, Store
from edgecell.edge.record.trail import open_trail
from tests.edge.page.conftest import CELLS, HERE
from tests.edge.record.test_words import frame, record
from tests.factories import MODEL, NOISE, SESSION, tracked

SignIn = Callable[[str, Role], TestClient]


def name(
    client: TestClient, base: str, cells: str, label: str, comment: str = ""
) -> str:
    form = {"cells": cells, "label": label, "comment": comment}
    answer = client.post(f"{base}/name", data=form)
    assert answer.status_code == 200, answer.text
    return str(answer.text)


def labels(folder: Path) -> dict[int, str]:
    with open_trail(folder, "ro") as trail:
        return trail.reviewed()


def look(cell: int, **changes: object) -> Look:
    values: dict[str, object] = {
        "cell": cell,
        "code": "SNE",
        "probability": 0.9,
        "reasons": (),
        "top": (),
        "votes": 1,
        "sighting": 1,
        "naming": None,
        "differ": False,
        "asked": "",
        "drawn": False,
        "seen": True,
    }
    return Look(**(values | changes))  # type: ignore[arg-type]


def test_strips_put_doubtful_cells_first_in_the_laboratorys_order() -> None:
    unsure = ("low confidence",)
    found = strips(
        [
            look(1, probability=0.8),
            look(2, probability=0.7, reasons=unsure),
            look(3, probability=0.4, reasons=unsure),
            look(4, code="MO"),
            look(5, code="PLT"),
            look(6, code=None, probability=None),
        ],
        Filter(),
    )
    assert [s.label for s in found] == ["SNE", "MO", "PLT", ""]
    assert [k.cell for k in found[0].looks] == [3, 2, 1]
    assert (found[0].waiting, found[3].waiting) == (2, 1)


@pytest.mark.parametrize(
    ("query", "cells"),
    [
        ({}, [1, 2, 3, 4]),
        ({"state": "waiting"}, [2]),
        ({"state": "accepted"}, [1, 3, 4]),
        ({"state": "unseen"}, [3]),
        ({"state": "nonsense"}, [1, 2, 3, 4]),
        ({"label": "MO"}, [4]),
        ({"reason": "several"}, [2]),
        ({"below": "50"}, [2]),
        ({"below": "-1"}, [1, 2, 3, 4]),
        ({"below": "²"}, [1, 2, 3, 4]),
        ({"person": "ann"}, []),
    ],
)
def test_filters(query: dict[str, str], cells: list[int]) -> None:
    reasons = ("several classes possible: SNE, BNE",)
    looks = [
        look(1),
        look(2, probability=0.5, reasons=reasons),
        look(3, seen=False),
        look(4, code="MO"),
    ]
    wanted = Filter.of(query)
    assert [k.cell for k in looks if wanted.takes(k)] == cells
    assert Filter.of(wanted.query()) == wanted


def test_a_named_cell_is_kept_beside_the_machines_decision(
    client: TestClient, base: str, folder: Path
) -> None:
    answer = name(client, base, "1,2", "LY", "sure <b>")
    assert "Saved: 2 named LY" in answer
    assert 'id="c1"' in answer
    assert "hx-swap-oob" in answer
    assert labels(folder) == {1: "LY", 2: "LY"}
    page = client.get(f"{base}/cell/1").text
    assert "SNE → LY" in page
    assert "sure &lt;b&gt;" in page
    assert "Saved: 1 accepted" in name(client, base, "1", "=", "as it says")
    assert "as it says" in client.get(f"{base}/cell/1").text
    assert labels(folder) == {1: "SNE", 2: "LY"}
    client.post(f"{base}/undo", data={"x": "1"})
    assert labels(folder) == {1: "LY", 2: "LY"}
    assert "Saved: 1 no longer named" in name(client, base, "2", "")
    client.post(f"{base}/undo", data={"x": "1"})
    data = client.get(f"/api/sessions/{base[3:]}").json()["readings"]
    assert data["accepted"]["white_cells"] == CELLS - 24
    assert data["reviewed"]["white_cells"] == CELLS - 24 + 2


@pytest.mark.parametrize("cells", ["", "x", "1,", "-1", "1;2", "²", "9" * 12])
def test_cells_that_are_no_numbers_are_refused(
    client: TestClient, base: str, cells: str
) -> None:
    form = {"cells": cells, "label": "LY"}
    assert client.post(f"{base}/name", data=form).status_code == 400


@pytest.mark.parametrize(
    ("cells", "label"), [("99", "LY"), ("1,99", "LY"), ("1", "LYA")]
)
def test_a_wrong_cell_or_label_names_none_of_them(
    client: TestClient, base: str, folder: Path, cells: str, label: str
) -> None:
    form = {"cells": cells, "label": label}
    assert client.post(f"{base}/name", data=form).status_code == 400
    assert labels(folder) == {}


def test_two_reviewers_of_one_cell_both_see_it(base: str, signed_in: SignIn) -> None:
    ann, bob = signed_in("ann", "review"), signed_in("bob", "review")
    pulse = re.search(rf"{base}/changes/\d+/\d+", ann.get(f"{base}/review").text)
    assert pulse is not None
    assert ann.get(pulse[0]).status_code == 204
    name(ann, base, "1", "LY")
    name(bob, base, "1", "MO")
    changed = ann.get(pulse[0])
    assert changed.status_code == 200
    assert "MO" in changed.text
    assert "differ" in changed.text
    trail = bob.get(f"{base}/cell/1").text
    assert trail.index("bob") < trail.index("ann"), "the later one first"
    assert ann.post(f"{base}/undo", data={"x": "1"}).status_code == 400


def test_a_disk_that_takes_nothing_shows_all_and_says_why_not(
    client: TestClient, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    for address in ("review", "report", "cell/1", "crop/1.jpg", "map/1.png"):
        assert client.get(f"{base}/{address}").status_code == 200
    answer = client.post(
        f"{base}/name",
        data={"cells": "1", "label": "LY"},
        headers={"HX-Request": "true"},
    )
    assert answer.status_code == 409
    assert "a read-only disk" in answer.text


def test_a_running_session_is_reviewed_and_its_new_cells_are_offered(
    client: TestClient, folder: Path
) -> None:
    running = folder.parent / "running"
    base = f"/s/{key_of(running)}"
    with Store(running, SESSION) as store:
        store.write([tracked(0)])
        name(client, base, "1", "LY")
        assert client.get(f"{base}/changes/1/1").status_code == 204
        store.write([tracked(1), tracked(2)])
        assert "new cells (2)" in client.get(f"{base}/changes/1/1").text
        name(client, base, "3", "MO")
        store.end("stopped")
    assert labels(running) == {1: "LY", 3: "MO"}


def test_a_sample_is_drawn_at_random_and_kept(
    client: TestClient, base: str, folder: Path
) -> None:
    assert client.post(f"{base}/sample", data={"x": "1"}).status_code == 200
    with open_database(folder, "ro") as database:
        drawn = [k.cell for k in Review(folder, database).looks("") if k.drawn]
    assert len(drawn) == CELLS
    page = client.get(f"{base}/review?state=sample").text
    assert len(re.findall(r'id="c\d+"', page)) == CELLS


def test_pictures_come_with_their_type_and_may_be_kept(
    client: TestClient, base: str
) -> None:
    crop, heat = client.get(f"{base}/crop/1.jpg"), client.get(f"{base}/map/1.png")
    assert crop.headers["content-type"] == "image/jpeg"
    assert heat.content.startswith(b"\x89PNG")
    assert "immutable" in crop.headers["cache-control"]
    for missing in ("crop/999.jpg", "map/999.png", "context/1.jpg", "context/999.jpg"):
        assert client.get(f"{base}/{missing}").status_code == 404


def test_surroundings_are_cut_from_the_clean_picture(
    client: TestClient, base: str, folder: Path
) -> None:
    annotated = np.full((120, 160, 3), 255, np.uint8)
    with Store(folder.parent / "more", SESSION) as store:
        drawn = store.write_picture(0, annotated)
        clean = store.write_picture(0, NOISE, clean=True)
    for made in (drawn, clean):
        there = folder / made.parent.name
        there.mkdir(exist_ok=True)
        shutil.copy(made, there)

    def shown() -> npt.NDArray[np.uint8]:
        data = client.get(f"{base}/context/1.jpg").content
        return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), 1), np.uint8)

    seen = shown()
    # The crop reaches 10 pixels beyond the left border, its margin is 60 wide: what is
    # left is 110 wide and the frame's whole 120 high.
    assert seen.shape == (120, 110, 3)
    outside = seen[5:15, 60:100].astype(int) - NOISE[5:15, 60:100]
    assert np.abs(outside).mean() < 8
    (folder / "clean" / "000000.jpg").unlink()
    assert shown()[5:15, 60:100].min() > 240
    assert 'class="context"' in client.get(f"{base}/cell/1").text


def test_an_explanation_is_asked_for_and_waits_for_a_worker(
    client: TestClient, base: str
) -> None:
    form = {"cells": "1", "method": "lime"}
    assert client.post(f"{base}/explain", data=form).status_code == 204
    assert "explain work" in client.get(f"{base}/cell/1").text
    form["method"] = "guessing"
    assert client.post(f"{base}/explain", data=form).status_code == 400


def test_a_thousand_cells_come_in_parts(client: TestClient, folder: Path) -> None:
    large = folder.parent / "large"
    with Store(large, SESSION) as store:
        store.write([tracked(i) for i in range(1000)])
        store.end("stopped")
    base = f"/s/{key_of(large)}"
    page = client.get(f"{base}/review").text
    assert len(page.encode()) < 100_000, "before its pictures"
    seen = re.findall(r'id="c(\d+)"', page)
    assert len(seen) == FIRST
    while address := re.search(r'hx-get="([^"]*/more/[^"]*)"', page):
        page = client.get(address[1].replace("&amp;", "&")).text
        seen += re.findall(r'id="c(\d+)"', page)
    assert sorted(map(int, seen)) == list(range(1, 1001))


HOSTILE = '<script>alert(1)</script>" onload="x {{7*7}} ../.. %2e%2e'


def test_hostile_names_of_folders_sources_and_classes_stay_text(
    client: TestClient, folder: Path
) -> None:
    session = Session(HOSTILE, MODEL, {"sample": HOSTILE, "microscope": HOSTILE})
    hostile = folder.parent / HOSTILE.replace("/", "_")
    with Store(hostile, session) as store:
        store.write([tracked(0, reasons=(HOSTILE,))])
        store.end(HOSTILE)
    with open_database(hostile, "rw") as database:
        database.execute("UPDATE decisions SET code = ?", (HOSTILE,))
    base = f"/s/{key_of(hostile)}"
    assert re.fullmatch(r"/s/[a-z0-9-]+", base)
    for address in ("/", *(f"{base}/{x}" for x in ("review", "report", "cell/1"))):
        page = client.get(address).text
        assert "<script>alert" not in page
        assert '" onload=' not in page
        assert "x 49" not in page
    assert client.get(f"{base}/trace/1").status_code == 200
    assert client.get(f"{base}/report.csv").status_code == 200


@pytest.mark.parametrize("size", ["", "-1", "x", "\u0663", str(1 << 21), "9" * 5000])
def test_a_form_of_no_or_too_large_a_size_is_not_read(
    client: TestClient, base: str, size: str
) -> None:
    headers = {b"content-length": size.encode()}
    answer = client.post(f"{base}/name", content=b"cells=1", headers=headers)
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "key", ["..", "%2e%2e", "slide", "..%2fresults", "%00", "a" * 300]
)
def test_only_known_keys_lead_to_a_folder(client: TestClient, key: str) -> None:
    assert client.get(f"/s/{key}/review").status_code == 404


def test_a_browser_that_goes_away_in_the_middle_of_a_form(
    client: TestClient, base: str
) -> None:
    parts: Iterator[Message] = iter(
        [
            {"type": "http.request", "body": b"cells=1", "more_body": True},
            {"type": "http.disconnect"},
        ]
    )
    sent: list[Message] = []

    async def receive() -> Message:
        return next(parts)

    async def send(message: Message) -> None:
        sent.append(message)

    headers = {"host": "localhost", "origin": HERE, "content-length": "99"}
    headers["content-type"] = "application/x-www-form-urlencoded"
    scope = {
        "type": "http",
        "method": "POST",
        "path": f"{base}/name",
        "query_string": b"",
        "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
    }

    async def ask() -> None:
        await client.app(scope, receive, send)

    asyncio.run(ask())
    assert sent[0]["status"] == 400


def test_a_name_that_is_no_utf8_is_served(client: TestClient, folder: Path) -> None:
    other = Path(os.fsdecode(os.fsencode(folder.parent) + b"/caf\xe9"))
    with Store(other, SESSION) as store:
        store.write([tracked(0)])
        store.end("stopped")
    assert "caf\ufffd" in client.get("/").text
    assert client.get(f"/s/{key_of(other)}/report.pdf").status_code == 200
    assert client.get("/api/sessions").status_code == 200
    assert client.get(f"/api/sessions/{key_of(other)}").status_code == 200


def test_a_damaged_session_does_not_break_the_list(
    client: TestClient, folder: Path
) -> None:
    (folder.parent / "broken").mkdir()
    (folder.parent / "broken" / "session.sqlite").write_bytes(b"no database" * 99)
    page = client.get("/").text
    assert "slide" in page
    assert "broken" in page
    assert client.get("/api/status").json()["unreadable"] == ["broken"]


def test_own_keys_are_kept_per_person(base: str, signed_in: SignIn) -> None:
    ann, bob = signed_in("ann", "review"), signed_in("bob", "review")
    form = {"SNE": "1", "back": "//evil.example"}
    answer = ann.post("/keys", data=form, follow_redirects=False)
    assert answer.headers["location"] == "/"
    assert "<kbd>1</kbd>" in ann.get(f"{base}/cell/1").text
    assert f"<kbd>{DEFAULT['SNE']}</kbd>" in bob.get(f"{base}/cell/1").text
    for clash in ({"SNE": "b"}, {"SNE": "?"}):
        assert ann.post("/keys", data=clash).status_code == 400


def test_a_cell_in_detail_is_put_into_words(client: TestClient, folder: Path) -> None:
    record(folder.parent / "told", frame(0), frame(1, None))
    base = f"/s/{key_of(folder.parent / 'told')}"
    told, silent = (client.get(f"{base}/cell/{n}").text for n in (1, 2))
    assert "Segmented neutrophil, not band neutrophil: it has" in told
    assert "nucleus shape: <b>segmented-bilobed</b> 82 %" in told
    assert "Learned only from BA, BNE, SNE of the microscope pbc; other" in told
    assert "Learned only from" not in silent
    assert "neutrophils (1)" in client.get(f"{base}/report").text
