"""What calls itself a microscope's server and is none, or a faulty one."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from edgecell.edge.stage.base import Position, StageError
from edgecell.edge.stage.openflexure import OpenFlexure
from edgecell.errors import InputError

HERE = {"x": 0, "y": 0, "z": 0}
RUNNING = {"links": [{"rel": "self", "href": "/running"}]}


@contextmanager
def answering(answers: dict[str, Any]) -> Iterator[str]:
    """A server on loopback.

    Args:
        answers: what it sends, by the beginnings of paths: bytes as they are, anything
            else as JSON over HTTP.
    """
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                path = connection.recv(4096).split()[1].decode()
                said = next((a for p, a in answers.items() if path.startswith(p)), b"")
                if not isinstance(said, bytes):
                    body = json.dumps(said).encode()
                    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
                    said = head.encode() + body
                connection.sendall(said)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with closing(listener):
        yield f"openflexure://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)
    assert not thread.is_alive()


def described(**stage: Any) -> dict[str, Any]:
    """Thing Descriptions of a microscope, with changes to its stage's."""
    position = {"forms": [{"href": "/position"}]}
    move = {"forms": [{"href": "/move"}]}
    thing = {
        "title": "stage",
        "properties": {"position": position},
        "actions": {"move_relative": move},
    }
    return {"stage": thing | stage, "camera": {"title": "camera"}}


def told(address: str) -> str:
    """The one line that says what is wrong when the stage is to move."""
    with pytest.raises(StageError) as caught, OpenFlexure(address) as stage:
        stage.move_to(Position(5, 5))
    said = str(caught.value)
    assert said.isprintable()
    assert len(said) < 400
    return said


@pytest.mark.parametrize(
    "address",
    [
        "",
        "http://pi",
        "openflexure://",
        "openflexure://pi:x",
        "openflexure://pi:0",
        "openflexure://pi:99999",
        "openflexure://my pi",
        "openflexure://p\x1bi",
        "openflexure://[::1",
    ],
)
def test_no_stage(address: str) -> None:
    with pytest.raises(InputError, match="not a stage"):
        OpenFlexure(address)


@pytest.mark.parametrize(
    "address",
    ["openflexure://127.0.0.1:9", "openflexure://[::1]:9", "openflexure://a..b"],
)
def test_a_microscope_that_is_away(address: str) -> None:
    assert "lost" in told(address)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: /thing_descriptions/\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n<html>hello</html>",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000,
        b"HTTP/1.1 200 OK\r\n\r\n\xff\xfe",
        {},
        [],
        "hello",
        {"stage": {"title": "Stage"}},
        {"lamp": {"properties": {"brightness": {"forms": [{"href": "/lamp"}]}}}},
    ],
)
def test_another_server(said: Any) -> None:
    with answering({"/": said}) as address:
        told(address)


@pytest.mark.parametrize(
    "stage",
    [
        {"properties": "position"},
        {"properties": ["position"]},
        {"properties": {"position": 3}},
        {"properties": {"position": {"forms": 3}}},
        {"properties": {"position": {"forms": {"href": "/position"}}}},
        {"properties": {"position": {"forms": ["/position"]}}},
        {"base": 4},
        {"base": "http://["},
        {"base": "file:///etc/"},
    ],
)
def test_a_damaged_description(stage: dict[str, Any]) -> None:
    with answering({"/thing": described(**stage)}) as address:
        said = told(address)
    assert "has no position" in said or "unusable address" in said


@pytest.mark.parametrize(
    "position", [None, [0, 0, 0], {"x": 0}, HERE | {"y": "low"}, HERE | {"z": 1e999}]
)
def test_a_position_that_is_none(position: Any) -> None:
    with answering({"/thing": described(), "/position": position}) as address:
        assert "valid position" in told(address)


@pytest.mark.parametrize(
    ("move", "running", "said"),
    [
        (None, None, "no link"),
        ({"links": 3}, None, "no link"),
        ({"links": ["self"]}, None, "no link"),
        ({"links": [{"rel": "self", "href": "file:///etc"}]}, None, "unusable"),
        (RUNNING, {"status": "error", "error": "stuck"}, "no reason"),
        (
            RUNNING,
            {"status": "error", "error": {"detail": "stuck\nfast"}},
            "stuck fast",
        ),
        (RUNNING, {"status": "error", "log": "hot"}, "no reason"),
        (RUNNING, {"status": "cancelled", "log": [{"message": "by hand"}]}, "by hand"),
    ],
)
def test_a_move_that_fails(move: Any, running: Any, said: str) -> None:
    answers = {
        "/thing": described(),
        "/position": HERE,
        "/move": move,
        "/running": running,
    }
    with answering(answers) as address:
        assert said in told(address)
