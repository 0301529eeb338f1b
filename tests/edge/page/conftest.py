"""A page over a folder with one session, and people who use it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from edgecell.edge.page.app import create_app
from edgecell.edge.page.library import key_of
from edgecell.edge.page.people import accounts as accounts_module
from edgecell.edge.page.people.accounts import Accounts, Person, Role
from edgecell.edge.page.people.guard import Door
from edgecell.edge.record.store import Store
from tests.factories import SESSION, tracked

HERE = "http://localhost"
PASSWORD = "correct horse battery"
CELLS = 30


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A session of 30 cells called SNE; the first 24 wait for review."""
    folder = tmp_path / "results" / "slide"
    with Store(folder, SESSION) as store:
        store.write(
            [
                tracked(i, reasons=("low confidence",) if i < 24 else ())
                for i in range(CELLS)
            ]
        )
        store.end("stopped")
    return folder


@pytest.fixture
def base(folder: Path) -> str:
    return f"/s/{key_of(folder)}"


@pytest.fixture
def client(folder: Path) -> Iterator[TestClient]:
    """Somebody on loopback who may do everything without signing in."""
    door = Door("127.0.0.1", 8765, everybody=Person("ann", "manage"))
    app = create_app(folder.parent, door, None)
    with TestClient(app, HERE, headers={"Origin": HERE}) as client:
        yield client


@pytest.fixture
def signed_in(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, Role], TestClient]:
    """Makes a browser in which somebody of a role is signed in."""
    monkeypatch.setitem(accounts_module._SCRYPT, "n", 16)
    accounts = Accounts(folder.parent / "accounts.sqlite")
    app = create_app(folder.parent, Door("127.0.0.1", 8765), accounts)

    def sign_in(name: str, role: Role) -> TestClient:
        person = accounts.accept(accounts.invite(role), name, PASSWORD)
        client = TestClient(app, HERE, headers={"Origin": HERE})
        client.cookies.set("edgecell", accounts.begin(person.name))
        return client

    return sign_in
