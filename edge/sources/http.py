"""A stream over HTTP whose bytes are read as they arrive, with the time of arrival."""

import re
import selectors
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from email.message import Message
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from threading import Event
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from edgecell.edge.sources.base import STALL_S, now_s
from edgecell.edge.sources.secrets import Login, split_login
from edgecell.errors import SourceError

_READ = 1 << 16
_POLL_S = 0.25
_UNSURE_S = 0.5
_HELD_UP_S = 1.0
"""Bytes that may have waited for so long show that this program was stopped, or is too
slow. The camera queues up, too, so only a new connection begins with the present."""

_REQUESTS = 6
"""For one stream: it may be moved, and ask for a password."""

_MOVED = (301, 302, 303, 307, 308)
_SAFE = "%/:=&?~#+!$,;'@()*[]"
_LONGEST_SIZE_LINE = 1 << 12


class HttpStream:
    """The body of an endless HTTP response.

    The socket is read here and not by http.client, which can't tell when bytes came.

    Attributes:
        headers: of the answer.
    """

    def __init__(self, name: str, response: HTTPResponse, sock: socket.socket) -> None:
        """Reads the body that follows the answer's head.

        Args:
            name: the source's, for messages.
            response: the answer.
            sock: its connection.
        """
        self.headers: Message = response.headers
        self._name = name
        self._response = response
        self._socket = sock
        self._chunks = Dechunker() if response.chunked else None

    def close(self) -> None:
        """Hangs up."""
        self._response.close()
        self._socket.close()

    def reads(self, stop: Event) -> Iterator[tuple[float, bytes]]:
        """Yields bytes of the body, each with its time of arrival as `now_s` tells it.

        Yields b"" several times a second while none come.

        Args:
            stop: set to end.

        Raises:
            SourceError: the stream ended, or wasn't read for so long that the waiting
                data are old.
        """
        # When nothing was waiting: later bytes can't have come before.
        quiet_s = stamp_s = now_s()
        self._socket.setblocking(False)
        data = self._read_with_head()
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            while not stop.is_set():
                came_s = now_s()
                if came_s - quiet_s > _HELD_UP_S:
                    raise SourceError(
                        f"{self._name} was not read for {came_s - quiet_s:.1f} s; what "
                        "it sent in the meantime is left out"
                    )
                body = self._chunks.feed(data) if self._chunks else data
                sure = came_s - quiet_s < _UNSURE_S
                stamp_s = max(stamp_s, came_s if sure else quiet_s)
                yield stamp_s, body
                looked_s = now_s()
                if not self._waits(selector, 0):
                    quiet_s = looked_s
                    self._waits(selector, _POLL_S)
                data = self._receive()

    def _waits(self, selector: selectors.BaseSelector, timeout_s: float) -> bool:
        """Whether bytes are there; waits for a limited time."""
        decrypted = isinstance(self._socket, ssl.SSLSocket) and self._socket.pending()
        return bool(decrypted or selector.select(timeout_s))

    def _receive(self) -> bytes:
        """The bytes that are there; b"" if there are none."""
        try:
            data = self._socket.recv(_READ)
        except (BlockingIOError, ssl.SSLWantReadError):
            return b""
        except OSError as e:
            raise SourceError(f"{self._name} stopped sending ({e})") from e
        if not data or (self._chunks is not None and self._chunks.ended):
            raise SourceError(f"{self._name} closed the stream")
        return data

    def _read_with_head(self) -> bytes:
        """The bytes that http.client read beyond the head."""
        with suppress(ssl.SSLWantReadError):
            return self._response.fp.peek()
        return b""


class Dechunker:
    """Strips the chunk sizes from a body (RFC 9112, 7.1)."""

    def __init__(self) -> None:
        self.ended = False
        self._buffer = bytearray()
        self._left = 0

    def feed(self, data: bytes) -> bytes:
        """Processes the next bytes; returns those that belong to the body.

        Raises:
            SourceError: a chunk's size is not a valid number.
        """
        self._buffer += data
        body = bytearray()
        while self._buffer and not self.ended:
            if self._left:
                piece = self._buffer[: self._left]
                del self._buffer[: self._left]
                self._left -= len(piece)
                body += piece
                continue
            line, newline, _ = self._buffer.partition(b"\n")
            if not newline and len(line) < _LONGEST_SIZE_LINE:
                break
            del self._buffer[: len(line) + 1]
            if line.strip():  # and not the end of the chunk before
                self._begin(bytes(line))
        return bytes(body)

    def _begin(self, line: bytes) -> None:
        size = line.partition(b";")[0].strip()
        if not re.fullmatch(rb"[0-9a-fA-F]{1,15}", size):
            raise SourceError("the stream's chunks are damaged")
        self._left = int(size, 16)
        self.ended = self._left == 0


class _KeptOpen(HTTPResponse):
    """An answer that leaves its connection open, whatever its head says."""

    def begin(self) -> None:
        super().begin()
        self.will_close = False


def open_stream(
    name: str, url: str, connected: Callable[[socket.socket], None]
) -> HttpStream:
    """Requests a stream; follows redirects, and logs in if asked.

    Args:
        name: the source's, for messages.
        url: with user and password before the host if need be; they are sent to that
            host only.
        connected: called with a duplicate of each connection's socket. Shutting it down
            ends the opening, which a server could otherwise prolong for ever.

    Raises:
        SourceError: nobody answers, or the answer is not a stream.
    """
    login, url = split_login(url)
    origin = _origin(url)
    authorization: str | None = None
    try:
        for _ in range(_REQUESTS):
            response, sock = _ask(url, authorization, connected)
            if response.status == 200:
                return HttpStream(name, response, sock)
            response.close()
            sock.close()
            moved = response.headers.get("Location")
            if response.status in _MOVED and moved:
                authorization = None
                url = split_login(urljoin(url, moved))[1]
                continue
            wanted = response.headers.get_all("WWW-Authenticate") or []
            if response.status == 401 and login and _origin(url) == origin:
                authorization = login.answer(wanted, _target(url))
                if authorization is not None:
                    continue
            raise SourceError(_refusal(name, response, login))
    except (OSError, HTTPException, ValueError) as e:
        raise _no_answer(name, str(e)) from e
    if login and authorization:
        raise SourceError(f"{name} refuses that user and password")
    raise _no_answer(name, "it redirects too often")


def _no_answer(name: str, why: str) -> SourceError:
    return SourceError(
        f"{name} does not answer ({why}); check the address, the camera's power and "
        "its network"
    )


def _refusal(name: str, response: HTTPResponse, login: Login | None) -> str:
    if response.status != 401:
        why = f"{response.status} {response.reason}".strip()
        return f"{name} refuses ({why}); check the address"
    if login is None:
        return (
            f"{name} wants a user and a password (Unauthorized); give them before the "
            "host: http://USER:PASSWORD@HOST/..."
        )
    return f"{name} asks for a password in a way that is not supported (Unauthorized)"


def _ask(
    url: str, authorization: str | None, connected: Callable[[socket.socket], None]
) -> tuple[HTTPResponse, socket.socket]:
    """Sends one request; returns the answer, with only its head read."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("it redirects to an address that is not that of a stream")
    encrypted = parts.scheme == "https"
    kind = HTTPSConnection if encrypted else HTTPConnection
    connection = kind(parts.hostname, parts.port)
    sock = socket.create_connection((parts.hostname, connection.port), STALL_S)
    try:
        connected(sock.dup())
        if encrypted:
            context = ssl.create_default_context()
            sock = context.wrap_socket(sock, server_hostname=parts.hostname)
        connection.sock = sock
        connection.response_class = _KeptOpen
        headers = {"User-Agent": "edgecell", "Connection": "close"}
        if authorization:
            headers["Authorization"] = authorization
        connection.request("GET", _target(url), headers=headers)
        return connection.getresponse(), sock
    except BaseException:
        sock.close()
        raise


def _target(url: str) -> str:
    """What a request for a URL names: path and query."""
    parts = urlsplit(url)
    return quote(urlunsplit(("", "", parts.path or "/", parts.query, "")), _SAFE)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port
