"""The JSON addresses do what their OpenAPI description says."""

from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from starlette.testclient import TestClient

from edgecell.edge.page.app import create_app
from edgecell.edge.page.openapi import openapi
from edgecell.edge.page.people.accounts import Person
from edgecell.edge.page.people.guard import Door
from tests.edge.page.conftest import CELLS, HERE


@pytest.fixture
def described(folder: Path) -> Any:
    door = Door("127.0.0.1", 8765, everybody=Person("ann", "manage"))
    app = create_app(folder.parent, door, None)
    host = {"Host": "localhost"}
    return schemathesis.openapi.from_asgi("/api/openapi.json", app, headers=host)


def test_every_answer_is_one_of_those_described(described: Any) -> None:
    operations = [result.ok() for result in described.get_all_operations()]
    assert len(operations) == 6
    for operation in operations:

        @settings(
            max_examples=25,
            deadline=None,
            database=None,
            phases=(Phase.explicit, Phase.generate),
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def answers(case: Any) -> None:
            case.call_and_validate(headers={"Origin": HERE, "Host": "localhost"})

        answers()


def test_the_description_names_every_json_address(client: TestClient) -> None:
    answered = client.get("/api/openapi.json").json()
    assert answered == openapi()
    from edgecell.edge.page.api import ROUTES

    paths = {route.path.replace(":int", "") for route in ROUTES}
    described = set(answered["paths"]) - {"/api/status"}
    assert described == paths - {"/api/openapi.json"}


def test_naming_by_a_program(client: TestClient, base: str) -> None:
    address = f"/api/sessions/{base[3:]}"
    form = {"cells": "1,2", "label": "lymphocyte", "comment": "by a program"}
    answer = client.post(f"{address}/namings", data=form)
    assert answer.status_code == 201
    assert [n["label"] for n in answer.json()["namings"]] == ["LY", "LY"]
    cell = client.get(f"{address}/cells/1").json()
    assert (cell["label"], cell["named_by"], cell["class"]) == ("LY", "ann", "SNE")
    assert cell["namings"][0]["comment"] == "by a program"
    assert len(client.get(f"{address}/cells").json()["cells"]) == CELLS
    assert client.get(f"{address}/cells/999").status_code == 404
    assert client.get(f"{address}/cells/{2**70}").status_code == 404
    assert client.get("/api/sessions/none-00000000").status_code == 404
    assert client.post(f"{address}/namings", data={"cells": "1"}).status_code == 201
