from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from edgecell.edge.page.app import create_app
from edgecell.edge.page.people.accounts import Accounts, Role
from edgecell.edge.page.people.guard import Door, is_loopback
from tests.edge.page.conftest import HERE, PASSWORD

SignIn = Callable[[str, Role], TestClient]


def names(base: str, client: TestClient, **headers: str) -> int:
    form = {"cells": "1", "label": "LY"}
    answer = client.post(f"{base}/name", data=form, headers=headers)
    return int(answer.status_code)


def test_nothing_runs_or_loads_that_is_not_the_pages_own(client: TestClient) -> None:
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "<script>" not in answer.text
    assert " style=" not in answer.text
    assert " on" + "click" not in answer.text


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://localhost", "http://localhost:1"]
)
def test_changes_are_taken_from_the_page_alone(
    base: str, client: TestClient, origin: str
) -> None:
    assert names(base, client, Origin=origin) == 403
    assert names(base, client) == 200


def test_a_change_without_an_origin_is_refused(base: str, client: TestClient) -> None:
    del client.headers["Origin"]
    assert names(base, client) == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "", "[::"])
def test_a_name_that_points_here_is_not_the_page(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"Host": host}).status_code == 421
    assert client.get("/", headers={"Host": "127.0.0.1:8765"}).status_code == 200


def test_who_is_not_signed_in_sees_the_form_alone(base: str, signed_in: SignIn) -> None:
    client = signed_in("ann", "view")
    client.cookies.clear()
    answer = client.get(f"{base}/review", follow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["location"] == f"/sign-in?next={base}/review"
    assert client.get(f"{base}/crop/1.jpg", follow_redirects=False).status_code == 303
    assert names(base, client) == 401
    assert client.get("/sign-in").status_code == 200
    assert client.get("/static/page.css").status_code == 200


def test_roles_bound_what_people_may_do(base: str, signed_in: SignIn) -> None:
    viewer, reviewer = signed_in("vi", "view"), signed_in("re", "review")
    assert viewer.get(f"{base}/review").status_code == 200
    assert names(base, viewer) == 403
    assert names(base, reviewer) == 200
    assert reviewer.get("/people").status_code == 403
    assert signed_in("ma", "manage").get("/people").status_code == 200


def test_signing_in_sets_a_strict_cookie_and_goes_on(signed_in: SignIn) -> None:
    client = signed_in("ann", "view")
    client.cookies.clear()
    form = {"name": "ann", "password": PASSWORD, "next": "//evil.example"}
    answer = client.post("/sign-in", data=form, follow_redirects=False)
    assert answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert client.get("/", follow_redirects=False).status_code == 200
    client.post("/sign-out")
    assert client.get("/", follow_redirects=False).status_code == 303


def test_guessing_is_slowed_down(signed_in: SignIn) -> None:
    client = signed_in("ann", "view")
    form = {"name": "ann", "password": "wrong horse battery"}
    answers = [client.post("/sign-in", data=form).status_code for _ in range(6)]
    assert answers == [401] * 5 + [429]
    right = client.post("/sign-in", data={"name": "ann", "password": PASSWORD})
    assert right.status_code == 429
    assert int(right.headers["retry-after"]) > 0


def test_over_https_the_cookie_is_secure(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path / "accounts.sqlite")
    door = Door("0.0.0.0", 8765, secure=True)
    here = "https://slides.local"
    client = TestClient(
        create_app(tmp_path, door, accounts), here, headers={"Origin": here}
    )
    form = {"name": "ann", "password": PASSWORD, "again": PASSWORD}
    form["token"] = accounts.invite("manage")
    answer = client.post("/welcome", data=form, follow_redirects=False)
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-edgecell=")
    assert "Secure" in cookie
    assert client.get("/").status_code == 200


def test_behind_a_proxy_the_proxys_origin_counts(tmp_path: Path) -> None:
    origin = "https://slides.example"
    door = Door("127.0.0.1", 8765, secure=True, origin=origin)
    app = create_app(tmp_path, door, Accounts(tmp_path / "accounts.sqlite"))
    client = TestClient(app, HERE, headers={"Host": "slides.example"})
    form = {"name": "ann", "password": PASSWORD}
    for sent, status in ((origin, 401), ("http://slides.example", 403)):
        headers = {"Origin": sent}
        assert client.post("/sign-in", data=form, headers=headers).status_code == status


def test_a_manager_invites_and_the_link_works_once(signed_in: SignIn) -> None:
    manager = signed_in("ma", "manage")
    page = manager.post("/people", data={"do": "invite", "role": "sign"}).text
    token = page.partition("token=")[2].partition("<")[0]
    guest = TestClient(manager.app, HERE, headers={"Origin": HERE})
    assert guest.get(f"/welcome?token={token}").status_code == 200
    form = {"token": token, "name": "Bo <b>", "password": PASSWORD}
    assert guest.post("/welcome", data=form | {"again": "x"}).status_code == 400
    assert guest.post("/welcome", data=form | {"again": PASSWORD}).status_code == 200
    assert guest.get(f"/welcome?token={token}").status_code == 410
    people = manager.get("/people").text
    assert "Bo &lt;b&gt;" in people
    assert "<b>" not in people


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.4", False),
        ("localhost.evil.example", False),
        ("", False),
    ],
)
def test_what_is_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
