"""Motion JPEG over HTTP, as network cameras and mjpg-streamer send it."""

import time
from collections.abc import Iterator
from email.message import Message
from http.client import HTTPException, HTTPResponse
from typing import cast
from urllib.error import URLError
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import (
    HTTPBasicAuthHandler,
    HTTPDigestAuthHandler,
    HTTPPasswordMgrWithDefaultRealm,
    ProxyHandler,
    build_opener,
)

from edgecell.edge.sources.base import STALL_S, Frame, Skipped, live_frames
from edgecell.edge.sources.secrets import stream_name
from edgecell.errors import InputError, SourceError
from edgecell.image.decode import decode
from edgecell.image.preprocess import Bgr

LARGEST_PART = 16 << 20
"""Bytes; what goes on for longer without a boundary is rubbish."""

_READ = 1 << 16


class MultipartSplitter:
    """Cuts a multipart/x-mixed-replace stream (RFC 2046, 5.1) into its parts.

    Finds its way back after rubbish: a part ends at its Content-Length or at the
    next boundary, whichever comes first.
    """

    def __init__(self, boundary: str) -> None:
        """Takes the Content-Type's boundary; some cameras put its dashes in."""
        self._boundary = b"--" + boundary.lstrip("-").encode()
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Takes the next bytes of the stream; returns the parts they complete."""
        self._buffer += data
        parts = []
        while (part := self._next_part()) is not None:
            parts.append(part)
        if len(self._buffer) > LARGEST_PART:
            parts.append(bytes(self._buffer))
            self._buffer.clear()
        return parts

    def _next_part(self) -> bytes | None:
        start = self._buffer.find(self._boundary)
        head_end = self._buffer.find(b"\r\n\r\n", max(start, 0))
        if start < 0 or head_end < 0:
            return None
        body = head_end + 4
        next_boundary = self._buffer.find(self._boundary, start + len(self._boundary))
        if 0 <= next_boundary < head_end:  # headers cut off by the next part
            del self._buffer[:next_boundary]
            return b""
        length = _content_length(bytes(self._buffer[start:head_end]))
        if length is not None and length <= len(self._buffer) - body:
            end = body + length
        elif next_boundary >= 0:
            end = next_boundary
        else:
            return None
        if 0 <= next_boundary < end:
            end = next_boundary
        part = bytes(self._buffer[body:end])
        del self._buffer[:end]
        return part


def _content_length(head: bytes) -> int | None:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            return int(value)
    return None


class MjpegStream:
    """A Motion JPEG stream; broken pictures are skipped and counted."""

    live = True
    total: int | None = None

    def __init__(self, url: str) -> None:
        """Takes the URL, with user and password before the host if need be."""
        parts = urlsplit(url)
        self.name = stream_name(url)
        self.skipped = Skipped()
        host = parts.netloc.rpartition("@")[2]
        self._url = urlunsplit(parts._replace(netloc=host))
        passwords = HTTPPasswordMgrWithDefaultRealm()
        if parts.username is not None:
            secret = unquote(parts.password or "")
            passwords.add_password(None, self._url, unquote(parts.username), secret)
        self._opener = build_opener(
            ProxyHandler({}),  # a camera is near
            HTTPBasicAuthHandler(passwords),
            HTTPDigestAuthHandler(passwords),
        )
        self._response: HTTPResponse | None = None

    def __enter__(self) -> "MjpegStream":
        """Asks for the stream.

        Raises:
            SourceError: nobody answers, or with something else.
        """
        try:
            response = self._opener.open(self._url, timeout=STALL_S)
        except (OSError, HTTPException, ValueError) as e:
            reason = e.reason if isinstance(e, URLError) else e
            raise SourceError(
                f"{self.name} does not answer ({reason}); check the address, the "
                "camera's power and its network"
            ) from e
        self._response = cast(HTTPResponse, response)
        if self._boundary() is None:
            kind = response.headers.get_content_type()
            response.close()
            raise SourceError(
                f"{self.name} sends {kind}, not a Motion JPEG stream "
                "(multipart/x-mixed-replace); name the address of its stream"
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None

    def _boundary(self) -> str | None:
        assert self._response is not None
        headers: Message = self._response.headers
        if headers.get_content_maintype() != "multipart":
            return None
        return headers.get_boundary()

    def __iter__(self) -> Iterator[Frame | None]:
        """Yields frames; None for each broken one.

        Raises:
            SourceError: no whole frame came for `STALL_S`, or the stream ended.
        """
        assert self._response is not None, "enter the source first"
        return live_frames(self.name, self.skipped, self._reads(self._response))

    def _reads(
        self, response: HTTPResponse
    ) -> Iterator[tuple[float, list[Bgr | None]]]:
        splitter = MultipartSplitter(self._boundary() or "")
        while True:
            try:
                data = response.read1(_READ)
            except (OSError, HTTPException, ValueError) as e:
                raise SourceError(f"{self.name} stopped sending ({e})") from e
            if not data:
                raise SourceError(f"{self.name} closed the stream")
            yield time.monotonic(), [_picture(p) for p in splitter.feed(data)]


def _picture(part: bytes) -> Bgr | None:
    try:
        return decode(part, "a picture")
    except InputError:
        return None
