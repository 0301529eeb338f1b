"""The live page beside a real loop, with a real server and raw sockets."""

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from starlette.testclient import TestClient

from edgecell.edge.loop.config import LoopConfig
from edgecell.edge.loop.run import Run, open_run
from edgecell.edge.page.app import create_app
from edgecell.edge.page.people.accounts import Accounts, Person
from edgecell.edge.page.people.guard import Door
from edgecell.edge.page.serve import listening, served
from edgecell.edge.page.watch.live import PICTURES_PER_S, Live, Picture
from edgecell.edge.page.watch.stream import MODES
from edgecell.edge.record.connection import open_database
from edgecell.edge.record.review import Review
from edgecell.edge.report.signing import Reports
from edgecell.edge.sources import SAMPLES
from edgecell.edge.sources.base import Frame, Skipped
from edgecell.edge.sources.still import read_image
from edgecell.model.classifier import Classifier
from edgecell.model.modelfile import bundled_model
from tests.edge.page.conftest import HERE
from tests.factories import tracked

FIELDS = [read_image(path) for path in sorted((SAMPLES / "frames").glob("bccd*"))]
ANN = Person("ann", "manage")


class Camera:
    """A camera whose frames the test lets come, one by one."""

    name = "camera"
    live = True
    total: int | None = None

    def __init__(self) -> None:
        self.skipped = Skipped()
        self._due = threading.Semaphore(0)

    def __enter__(self) -> "Camera":
        return self

    def __exit__(self, *_: object) -> None: ...

    def send(self) -> None:
        self._due.release()

    def __iter__(self) -> Iterator[Frame | None]:
        number = 0
        while True:
            if self._due.acquire(timeout=0.02):
                image = FIELDS[number % len(FIELDS)].copy()
                yield Frame(number, number / 10, image, self.name)
                number += 1
            else:
                yield None


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier(bundled_model())


class Going:
    """A loop on a thread, with its live page."""

    def __init__(self, classifier: Classifier, out: Path) -> None:
        self.camera, self.live = Camera(), Live(self._clock)
        self.still_s: float | None = None
        config = LoopConfig("camera", out=out, target=100)
        self.run = open_run(config, self.camera, classifier)
        self.thread = threading.Thread(target=self.run.go, args=([self.live],))

    def _clock(self) -> float:
        return time.monotonic() if self.still_s is None else self.still_s

    def frame(self) -> None:
        """Sends a frame and waits until it is done."""
        before = self.live.number
        self.camera.send()
        wait(lambda: self.live.number > before)

    def newest(self, mode: str) -> bytes:
        """The newest frame's picture, once it may be drawn."""
        drawn: list[Picture] = []

        def is_newest() -> bool:
            picture = self.live.picture(mode)
            assert picture is not None
            drawn.append(picture)
            return picture.number == self.live.number

        wait(is_newest)
        return drawn[-1].data


def wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.fixture
def going(classifier: Classifier, tmp_path: Path) -> Iterator[Going]:
    started = Going(classifier, tmp_path / "results" / "slide")
    started.thread.start()
    yield started
    started.run.stop()
    started.thread.join(30)
    assert not started.thread.is_alive()


@pytest.fixture
def client(going: Going, tmp_path: Path) -> TestClient:
    wait(lambda: going.live.run is not None)
    door = Door("127.0.0.1", 8765, everybody=ANN)
    app = create_app(tmp_path / "results", door, None, going.live)
    return TestClient(app, HERE, headers={"Origin": HERE})


def test_the_page_follows_the_loop(client: TestClient, going: Going) -> None:
    assert "not begun" in client.get("/live/state").text or client.get("/live")
    going.frame()
    page = client.get("/live").text
    assert 'src="/live/stream?show=maps"' in page
    state = client.get("/api/status").json()["loop"]
    assert (state["running"], state["source"], state["target"]) == (True, "camera", 100)
    assert state["differential"] == going.run.differential.to_dict()
    crops = re.findall(r"/live/cell/\d+\.jpg", client.get("/live/state").text)
    assert crops
    assert client.get(crops[0]).content.startswith(b"\xff\xd8")
    assert client.get("/live/cell/9999.jpg").status_code == 404
    figures = client.get("/metrics").text
    assert "edgecell_frames 1.0" in figures
    assert 'edgecell_cells{class="SNE"}' in figures


def test_pictures_with_maps_boxes_and_clean_differ(going: Going) -> None:
    assert going.live.picture("maps") is None
    going.frame()
    seen = {}
    for mode in MODES:
        sent = going.live.picture(mode)
        assert sent is not None
        picture = cv2.imdecode(np.frombuffer(sent.data, np.uint8), cv2.IMREAD_COLOR)
        seen[mode] = np.asarray(picture)
    height = FIELDS[0].shape[0]
    assert np.abs(seen["clean"].astype(int) - FIELDS[0]).mean() < 3
    assert seen["boxes"].shape[0] > height, "the line that it is for research"
    maps, boxes = (seen[mode][:height].astype(int) for mode in ("maps", "boxes"))
    heat = np.abs(maps - boxes)
    assert heat.max() > 60
    assert going.live.picture("maps") is going.live.picture("maps"), "drawn once"


def test_however_many_look_few_pictures_are_drawn(going: Going) -> None:
    going.still_s = 1000.0
    going.frame()
    first = going.live.picture("boxes")
    going.frame()
    assert going.live.picture("boxes") is first, "drawn a moment ago"
    assert going.live.picture("clean") is not None
    going.still_s += 1 / PICTURES_PER_S
    second = going.live.picture("boxes")
    assert first is not None
    assert second is not None
    assert second.number == first.number + 1


def test_a_camera_that_falls_silent_is_said_with_the_pictures_age(
    client: TestClient, going: Going
) -> None:
    going.frame()
    assert 'data-stale=""' in client.get("/live/state").text
    going.live.turn(tracked(9, age_s=75))
    state = client.get("/live/state").text
    assert 'data-stale="1"' in state
    assert "The picture is 75 s old" in state
    assert "not known" in state, "of the focus"


def test_pause_and_resume(client: TestClient, going: Going) -> None:
    going.frame()
    client.post("/live/steer", data={"do": "pause"})
    assert going.run.paused
    assert "Resume" in client.get("/live/state").text
    client.post("/live/steer", data={"do": "resume"})
    assert not going.run.paused
    going.frame()
    assert client.post("/live/steer", data={"do": "explode"}).status_code == 400


def test_a_new_slide_is_another_session_under_its_sample_number(
    client: TestClient, going: Going
) -> None:
    going.frame()
    before = going.run.out
    client.post("/live/steer", data={"do": "slide", "sample": "S-18"})
    wait(lambda: going.run.out != before and not going.live.last_cells())
    going.frame()
    with open_database(going.run.out, "ro") as database:
        note = Reports(Review(going.run.out, database)).note()
    assert note.sample == "S-18"
    assert len(client.get("/api/sessions").json()["sessions"]) == 2


def test_who_may_only_view_does_not_steer(going: Going, tmp_path: Path) -> None:
    accounts = Accounts(tmp_path / "accounts.sqlite")
    accounts.accept(accounts.invite("view"), "vi", "correct horse battery")
    app = create_app(tmp_path, Door("127.0.0.1", 8765), accounts, going.live)
    client = TestClient(app, HERE, headers={"Origin": HERE})
    client.cookies.set("edgecell", accounts.begin("vi"))
    assert client.post("/live/steer", data={"do": "pause"}).status_code == 403
    assert client.get("/live").status_code == 200


def test_without_a_loop_there_is_no_live_page(tmp_path: Path) -> None:
    app = create_app(tmp_path, Door("127.0.0.1", 8765, everybody=ANN), None)
    client = TestClient(app, HERE)
    assert client.get("/live").status_code == 404
    assert client.get("/api/status").json()["loop"] == {"running": False}
    assert "edgecell_frames " not in client.get("/metrics").text


def parts(stream: socket.socket) -> Iterator[bytes]:
    """The pictures of a Motion JPEG stream."""
    read = stream.makefile("rb")
    while line := read.readline():
        if line.lower().startswith(b"content-length"):
            read.readline()
            yield read.read(int(line.split(b":")[1]))


def watch(port: int) -> socket.socket:
    viewer = socket.create_connection(("127.0.0.1", port), timeout=30)
    viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    request = f"GET /live/stream?show=clean HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n"
    viewer.sendall(request.encode())
    return viewer


def test_viewers_get_the_newest_picture_and_stalled_ones_hold_up_nobody(
    going: Going, tmp_path: Path
) -> None:
    """Nor do open streams keep the server from ending."""
    door = Door("127.0.0.1", 0, everybody=ANN)
    taken = listening(door)
    port = taken.getsockname()[1]
    with served(create_app(tmp_path, door, None, going.live), taken, None):
        stalled = [watch(port) for _ in range(4)]  # they read nothing
        with watch(port) as viewer:
            pictures = parts(viewer)
            for _ in range(12):
                going.frame()
                newest = going.newest("clean")
                assert any(picture == newest for picture in pictures)
        for viewer in stalled:
            viewer.close()


def test_what_the_loop_does_for_the_page_is_no_drawing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edgecell.edge.page.watch.live.annotate", None)
    monkeypatch.setattr("edgecell.edge.page.watch.live.cv2", None)
    live = Live()
    for i in range(30):
        live.turn(tracked(i))
    assert live.number == 29
    assert [cell.cell for cell in live.last_cells()] == list(range(30, 18, -1))


def test_the_state_is_json_whatever_the_source_is_called(going: Going) -> None:
    going.frame()
    assert json.loads(json.dumps(going.live.state()))["lost"] == ""
    assert isinstance(going.live.run, Run)
