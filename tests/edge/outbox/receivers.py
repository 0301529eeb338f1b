"""Receivers of the tests: an MLLP listener and a FHIR server, on the loopback."""

import socketserver
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import hl7

Habit = Literal[
    "accept", "reject", "silent", "hang up", "rubbish", "other control", "busy"
]


class Listener(socketserver.ThreadingTCPServer):
    """An MLLP listener that keeps the control IDs it has acknowledged.

    Like a laboratory's system it knows a repeated message by its control ID:
    ``filed`` has each once, ``received`` each time.
    """

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, habit: Habit) -> None:
        super().__init__(("127.0.0.1", 0), _Receive)
        self.habit = habit
        self.received: list[str] = []
        self.filed: dict[str, str] = {}
        self.stopped = threading.Event()

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.server_address[1]}"


class _Receive(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        server = self.server
        assert isinstance(server, Listener)
        data = b""
        while b"\x1c\r" not in data:
            part = self.request.recv(65536)
            if not part:
                return
            data += part
        text = data[1:-2].decode()
        message = hl7.parse(text)
        control = str(message.segment("MSH")(10))
        server.received.append(control)
        if server.habit == "hang up":
            return
        if server.habit == "silent":
            server.stopped.wait()
            return
        if server.habit == "rubbish":
            self.request.sendall(b"\x0bhello\x1c\r")
            return
        code = {"reject": "AR", "busy": "AE"}.get(server.habit, "AA")
        if server.habit == "other control":
            control = "another"
        if code == "AA":
            server.filed[control] = text
        answer = (
            f"MSH|^~\\&|LIS||edgecell||20261126||ACK|1|P|2.5.1\r"
            f"MSA|{code}|{control}|{'no such sample' if code == 'AR' else ''}\r"
        )
        if server.habit == "busy":
            answer += "ERR|||207^Application internal error|E\r"
        self.request.sendall(b"\x0b" + answer.encode() + b"\x1c\r")


@contextmanager
def listener(habit: Habit = "accept") -> Iterator[Listener]:
    with Listener(habit) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.stopped.set()
            server.shutdown()


@contextmanager
def fhir_server(
    status: int, password: str | None = None
) -> Iterator[tuple[str, list[bytes]]]:
    """Answers each POST with a status; yields its address and the bodies it got.

    Without the ``password`` of the user 'lab', if there is one, it answers 401.
    """
    wanted = f"Basic {b64encode(f'lab:{password}'.encode()).decode()}"
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            known = password is None or self.headers["Authorization"] == wanted
            self.send_response(status if known else 401)
            self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            self.end_headers()
            self.wfile.write(b'{"resourceType": "OperationOutcome"}')

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/fhir", bodies
        server.shutdown()
