"""Streams over HTTP: passwords, servers that misbehave, the age of what they send."""

import base64
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from edgecell.edge.sources import http
from edgecell.edge.sources.address import open_source
from edgecell.edge.sources.base import STALL_S
from edgecell.edge.sources.http import Dechunker
from edgecell.edge.sources.mjpeg import MjpegStream
from edgecell.edge.sources.secrets import Login, parse_challenges
from edgecell.errors import SourceError
from tests.edge.sources.servers import MjpegServer, Server, stamp_of
from tests.edge.sources.test_sources import PICTURE, take

OK = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n"


class Talker(Server):
    """A server that says what a function of the request says, then streams or hangs up.

    Attributes:
        requests: the requests so far.
    """

    def __init__(self, answer: Callable[[str], bytes]) -> None:
        super().__init__([PICTURE])
        self.requests: list[str] = []
        self._answer = answer

    @property
    def address(self) -> str:
        return f"http://anna:p%40ss@127.0.0.1:{self._port}/s?q=1"

    def talk(self, connection: socket.socket) -> None:
        request = connection.recv(4096).decode()
        self.requests.append(request)
        connection.sendall(self._answer(request))
        if b"200 OK" in self._answer(request):
            MjpegServer.stream(self, connection)


# RFC 7616, 3.9.1: the user Mufasa asks for /dir/index.html.
REALM = "http-auth@example.org"
NONCE = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
CNONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
MUFASA = Login("Mufasa", "Circle of Life")
DIGEST = 'Digest realm="c", nonce="n"'


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        (
            "SHA-256",
            "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
        ),
    ],
)
def test_digests_are_those_of_rfc_7616(algorithm: str, response: str) -> None:
    fields = {"realm": REALM, "nonce": NONCE, "qop": "auth, auth-int", "opaque": "x"}
    answer = MUFASA.digest(fields | {"algorithm": algorithm}, "/dir/index.html", CNONCE)
    assert answer is not None
    ((scheme, found),) = parse_challenges([answer])
    assert scheme == "digest"
    assert found["response"] == response
    assert (found["username"], found["opaque"], found["nc"]) == (
        "Mufasa",
        "x",
        "00000001",
    )


def test_a_digest_without_protection_is_that_of_rfc_2069() -> None:
    """H(H(user:realm:password):nonce:H(method:uri)), worked out with md5sum."""
    answer = Login("u", "p").digest({"realm": "r", "nonce": "n"}, "/", "c")
    assert answer is not None
    assert 'response="f23121ca97143c6b358da620220c83b4"' in answer
    assert "qop" not in answer


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        (
            ['Digest realm="a, Basic b=c", nonce=n'],
            [("digest", {"realm": "a, Basic b=c", "nonce": "n"})],
        ),
        (
            ["Basic realm=a, Digest nonce = n"],
            [("basic", {"realm": "a"}), ("digest", {"nonce": "n"})],
        ),
        (
            ["Negotiate", 'Basic realm="a\\"b"'],
            [("negotiate", {}), ("basic", {"realm": 'a"b'})],
        ),
        (['Digest =,=,"', "", "=,"], []),
    ],
)
def test_challenges_are_split(
    headers: list[str], found: list[tuple[str, dict[str, str]]]
) -> None:
    assert parse_challenges(headers) == found


@pytest.mark.parametrize(
    ("offered", "answered"),
    [
        ([f"{DIGEST}, algorithm=SHA-256", "Basic realm=c"], "=SHA-256"),
        ([f"{DIGEST}, algorithm=SHA-512-256", f"{DIGEST}, algorithm=MD5"], "=MD5"),
        (["Basic realm=c", DIGEST], "Digest username"),
        ([f'{DIGEST}, qop="auth-int"', "Basic realm=c"], "Basic"),
    ],
)
def test_of_several_challenges_one_is_answered(
    offered: list[str], answered: str
) -> None:
    def answer(request: str) -> bytes:
        if "Authorization:" in request:
            return OK + b"\r\n"
        lines = "".join(f"WWW-Authenticate: {line}\r\n" for line in offered)
        return f"HTTP/1.1 401 Unauthorized\r\n{lines}\r\n".encode()

    with Talker(answer) as server:
        with open_source(server.address) as source:
            take(source, 1)
        first, second = server.requests
        assert "Authorization" not in first, "a password is told to who asks for it"
        assert answered in second
        assert second.startswith("GET /s?q=1 HTTP/1.1\r\n")


def test_a_password_that_is_refused_is_an_error() -> None:
    refusal = b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=c\r\n\r\n"
    with Talker(lambda _: refusal) as server:
        with pytest.raises(
            SourceError, match="refuses that user and password"
        ) as error:
            open_source(server.address).__enter__()
        assert "p@ss" not in str(error.value)
        assert len(server.requests) < 10
        nobody = server.address.replace("anna:p%40ss@", "")
        with pytest.raises(SourceError, match="wants a user and a password"):
            open_source(nobody).__enter__()


def test_passwords_do_not_follow_to_another_host() -> None:
    secret = base64.b64encode(b"anna:p@ss").decode()
    refusal = b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=c\r\n\r\n"
    with Talker(lambda _: refusal) as thief:
        there = thief.address.rpartition("@")[2]
        moved = f"HTTP/1.1 302 Found\r\nLocation: http://{there}\r\n\r\n".encode()

        def answer(request: str) -> bytes:
            return moved if "Authorization:" in request else refusal

        with Talker(answer) as server:
            with pytest.raises(SourceError):
                open_source(server.address).__enter__()
            assert secret in server.requests[-1]
        assert len(thief.requests) == 1
        assert "Authorization" not in thief.requests[0]


@pytest.mark.parametrize(
    "target", ["/elsewhere", "ftp://127.0.0.1/", "http://", "http://[", "//:0/x"]
)
def test_a_server_that_only_moves_is_an_error(target: str) -> None:
    moved = f"HTTP/1.1 301 Moved\r\nLocation: {target}\r\n\r\n".encode()
    with Talker(lambda _: moved) as server:
        with pytest.raises(SourceError, match="does not answer"):
            open_source(server.address).__enter__()
        assert len(server.requests) <= http._REQUESTS


@pytest.mark.parametrize(
    "endless",
    [b"H", b"HTTP/1.1 100 Continue\r\n\r\n" * 100, OK + b"X: y\r\n"],
    ids=["drip", "continue", "head"],
)
def test_an_answer_without_end_is_given_up(endless: bytes) -> None:
    hung_up = threading.Event()

    class Dripping(Talker):
        def talk(self, connection: socket.socket) -> None:
            connection.recv(4096)
            try:
                connection.sendall(endless)
                while True:
                    connection.sendall(endless[-50:])
                    time.sleep(0.02)
            finally:
                hung_up.set()

    with Dripping(lambda _: b"") as server:
        with pytest.raises(SourceError, match="does not answer"):
            MjpegStream(server.address, open_s=0.1).__enter__()
        assert hung_up.wait(5), "the connection is shut down, and its thread ends"


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: video/x-motion-jpeg\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace\r\n\r\n",
        OK + b"Content-Length: 5\r\n\r\n",
        OK + b"Connection: keep-alive\r\n\r\n",
    ],
    ids=["no type", "video", "no boundary", "a length", "kept alive"],
)
def test_streams_with_odd_heads_are_read(head: bytes) -> None:
    with Talker(lambda _: head) as server, open_source(server.address) as source:
        assert len(take(source, 3)) == 3


@pytest.mark.parametrize("step", [1, 2, 5, 1000])
def test_chunks_are_joined(step: int) -> None:
    stream = b"4\r\nWiki\r\n6;x=y\r\npedia \r\nE\r\nin \r\n\r\nchunks.\r\n0\r\n\r\n"
    chunks = Dechunker()
    body = b"".join(
        chunks.feed(stream[i : i + step]) for i in range(0, len(stream), step)
    )
    assert body == b"Wikipedia in \r\n\r\nchunks."
    assert chunks.ended
    for rubbish in (b"x\r\n", b"-1\r\n", b"1" * 5000):
        with pytest.raises(SourceError, match="damaged"):
            Dechunker().feed(rubbish)


def test_who_takes_pictures_slowly_gets_the_newest() -> None:
    """It takes a picture while ten come; those that it misses are counted."""
    with MjpegServer([PICTURE], 0.01) as server, open_source(server.address) as source:
        frames = []
        for frame in source:
            time.sleep(0.1)
            frames += [frame] if frame else []
            if len(frames) == 6:
                break
    assert frames[-1].index > 20
    assert all(abs(f.captured_s * 1000 - stamp_of(f.image)) < 100 for f in frames), (
        "its age counts from its arrival"
    )


@pytest.mark.slow
def test_what_waited_while_the_program_was_stopped_is_left_out() -> None:
    """A real process is stopped for longer than a frame may be old."""
    code = """if True:
    import sys, time
    from edgecell.edge.sources.address import open_source
    from edgecell.edge.sources.base import now_s
    from edgecell.edge.sources.capture import Capture
    from tests.edge.sources.servers import milliseconds, stamp_of
    with Capture(open_source(sys.argv[1])) as reader:
        while True:
            frame = reader.next(0.2)
            if frame is not None:
                print(milliseconds() - stamp_of(frame.image), flush=True)
    """
    with MjpegServer([np.tile(PICTURE, (8, 2, 1))], 0.01) as server:
        reader = subprocess.Popen(
            [sys.executable, "-c", code, server.address],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.getcwd()},
        )
        assert reader.stdout is not None
        ages = [int(reader.stdout.readline()) for _ in range(10)]
        reader.send_signal(signal.SIGSTOP)
        time.sleep(STALL_S + 0.5)
        reader.send_signal(signal.SIGCONT)
        ages += [int(reader.stdout.readline()) for _ in range(300)]
        reader.kill()
        reader.wait()
        reader.stdout.close()
        assert server.connections == 2, "only a new connection shows the present"
    assert max(ages) < STALL_S * 1000
