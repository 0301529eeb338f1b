"""A cell of a scanned slide is brought back under the objective from the page."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from edgecell.benchmarks.stage.microscope import Mechanics, microscope
from edgecell.edge.loop.config import LoopConfig
from edgecell.edge.loop.run import open_run
from edgecell.edge.page.app import create_app
from edgecell.edge.page.library import key_of
from edgecell.edge.page.people.accounts import Person, Role
from edgecell.edge.page.people.guard import Door
from edgecell.edge.record.sessions import open_session
from edgecell.edge.stage.openflexure import OpenFlexure
from edgecell.edge.stage.places import Driver, place_of_cell
from edgecell.edge.stage.scan import Scan, ScanMap
from tests.edge.page.conftest import HERE
from tests.edge.stage.test_scan import VIEW, slide

ASKED = {"HX-Request": "true"}


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A scanned slide, and its microscope, which stays on."""
    folder = tmp_path_factory.mktemp("results") / "slide"
    mechanics = Mechanics(slide(), VIEW)
    mechanics.move(0, 1200, 0)  # away from the limits
    with microscope(mechanics) as address:
        with OpenFlexure(address) as stage:
            scan = Scan(stage, 3, 1, settle_s=0.05)
            config = LoopConfig(address, out=folder, red_cell_px=88.0)
            open_run(config, scan).go([ScanMap(scan, address)])
        yield folder, address


def within_reach(folder: Path) -> int:
    """A cell that the stage can bring into the middle."""
    with open_session(folder) as session:
        cells = [d.cell for d in session.decisions() if session.sightings(d.cell)]
    places = {cell: place_of_cell(folder, cell) for cell in cells}
    return next(cell for cell, p in places.items() if p.x >= 0 and p.y >= 0)


def looking(
    folder: Path, driver: Driver | None, role: Role = "review"
) -> tuple[TestClient, str]:
    door = Door("127.0.0.1", 8765, everybody=Person("ann", role))
    app = create_app(folder.parent, door, None, driver=driver)
    client = TestClient(app, HERE, headers={"Origin": HERE} | ASKED)
    return client, f"/s/{key_of(folder)}"


def test_the_stage_drives_to_the_cell(scanned: tuple[Path, str]) -> None:
    folder, address = scanned
    client, base = looking(folder, Driver(address))
    cell = within_reach(folder)
    assert 'id="drive"' in client.get(f"{base}/cell/{cell}").text
    answer = client.post(f"{base}/show/{cell}", data={"cell": cell})
    assert (answer.status_code, answer.text) == (
        200,
        f"Cell {cell} lies in the middle of the picture.",
    )
    with OpenFlexure(address) as stage:
        at, there = stage.position(), place_of_cell(folder, cell)
        assert (at.x, at.y) == (there.x, there.y)


def refusal(client: TestClient, address: str) -> tuple[int, str]:
    answer = client.post(address, data={"cell": "1"})
    assert "\n" not in answer.text, "one line"
    return answer.status_code, answer.text


def test_refusals_are_one_line(scanned: tuple[Path, str], folder: Path) -> None:
    scan, address = scanned
    without, base = looking(scan, None)
    assert "drive" not in without.get(f"{base}/cell/1").text
    assert refusal(without, f"{base}/show/1")[0] == 409
    viewer, _ = looking(scan, Driver(address), "view")
    assert refusal(viewer, f"{base}/show/1")[0] == 403
    other, _ = looking(scan, Driver("openflexure://127.0.0.1:9"))
    assert "scanned with" in refusal(other, f"{base}/show/1")[1]
    driving, _ = looking(scan, Driver(address))
    assert refusal(driving, f"{base}/show/9999")[0] == 400
    no_scan, base = looking(folder, Driver(address))
    assert "drive" not in no_scan.get(f"{base}/cell/1").text
    assert "was not recorded by" in refusal(no_scan, f"{base}/show/1")[1]


def test_a_lost_stage_is_one_line(scanned: tuple[Path, str]) -> None:
    scan, _ = scanned
    away = "openflexure://127.0.0.1:9"
    told = (scan / "scan.json").read_text()
    try:
        (scan / "scan.json").write_text(told.replace(scanned[1], away))
        client, base = looking(scan, Driver(away))
        status, said = refusal(client, f"{base}/show/1")
    finally:
        (scan / "scan.json").write_text(told)
    assert status == 409
    assert "lost" in said


def test_only_this_page_may_drive(scanned: tuple[Path, str]) -> None:
    folder, address = scanned
    client, base = looking(folder, Driver(address))
    elsewhere = {"Origin": "http://evil.example"}
    answer = client.post(f"{base}/show/1", data={"cell": 1}, headers=elsewhere)
    assert answer.status_code == 403
