"""Motion JPEG over HTTP, as network cameras and mjpg-streamer send it."""

import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from email.message import Message
from threading import Condition, Event, Thread

from edgecell.edge.sources.base import (
    STALL_S,
    LiveSource,
    Read,
    Skipped,
    now_s,
)
from edgecell.edge.sources.http import HttpStream, open_stream
from edgecell.edge.sources.multipart import MultipartSplitter, holds_picture
from edgecell.edge.sources.secrets import stream_name
from edgecell.errors import InputError, SourceError
from edgecell.image.decode import decode

_OPEN_S = 2 * STALL_S
_WAIT_S = 0.25
_CUT = "a picture is cut short"


class MjpegStream(LiveSource):
    """A Motion JPEG stream; broken pictures are skipped and counted."""

    def __init__(self, url: str, open_s: float = _OPEN_S) -> None:
        """Prepares to read; entering it connects.

        Args:
            url: with user and password before the host if need be.
            open_s: how long the stream may take to begin, seconds.
        """
        self.name = stream_name(url)
        self.skipped = Skipped()
        self._url = url
        self._open_s = open_s
        self._drain: _Drain | None = None

    def __enter__(self) -> "MjpegStream":
        """Asks for the stream.

        Raises:
            SourceError: nobody answers, or the answer is not a stream.
        """
        self._drain = _Drain(self.name, self._url)
        try:
            self._drain.open(self._open_s)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._drain is not None:
            self._drain.close()
            self._drain = None

    def _reads(self) -> Iterator[Read]:
        while True:
            assert self._drain is not None, "enter the source first"
            yield self._drain.take()


class _Drain:
    """Reads a stream on a thread of its own, and keeps its newest picture.

    It never waits for the decoder, so that nothing queues up in the connection.
    """

    def __init__(self, name: str, url: str) -> None:
        """Prepares the thread; `open` starts it."""
        self._name, self._url = name, url
        self._changed = Condition()
        self._stop = Event()
        self._opened = False
        self._error: Exception | None = None
        self._newest: tuple[float, bytes] | None = None
        self._missed = self._broken = 0
        self._socket: socket.socket | None = None
        self._thread = Thread(target=self._work, name="edgecell-drain", daemon=True)

    def open(self, within_s: float) -> None:
        """Waits until the stream begins.

        Raises:
            SourceError: it doesn't.
        """
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._opened or self._error, within_s)
            if self._error is not None:
                raise self._error
            if not self._opened:
                raise SourceError(
                    f"{self._name} does not answer within {within_s:g} s; check the "
                    "address, the camera's power and its network"
                )

    def close(self) -> None:
        """Hangs up, even while the stream is being opened."""
        self._stop.set()
        self._shut_down()

    def take(self) -> Read:
        """Waits a moment for a picture, and decodes it.

        Raises:
            SourceError: the stream ended.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._newest or self._error, _WAIT_S)
            newest, self._newest = self._newest, None
            missed, self._missed = self._missed, 0
            broken, self._broken = self._broken, 0
            if newest is None and self._error is not None:
                raise self._error
        if newest is None:
            return Read(now_s(), None, missed, broken, _CUT)
        came_s, part = newest
        try:
            return Read(came_s, decode(part, "a picture"), missed, broken, _CUT)
        except InputError as e:
            return Read(came_s, None, missed, broken + 1, str(e))

    def _work(self) -> None:
        try:
            stream = open_stream(self._name, self._url, self._connected)
            with closing(stream):
                splitter = MultipartSplitter(_boundary(stream, self._name))
                with self._changed:
                    self._opened = True
                    self._changed.notify_all()
                for came_s, data in stream.reads(self._stop):
                    for part in splitter.feed(data):
                        self._put(came_s, part)
        except Exception as e:  # whoever waits for this thread must learn of it
            with self._changed:
                self._error = e
                self._changed.notify_all()
        finally:
            self._shut_down()

    def _put(self, came_s: float, part: bytes) -> None:
        with self._changed:
            if holds_picture(part):
                self._missed += self._newest is not None
                self._newest = (came_s, part)
            else:
                self._broken += 1
            self._changed.notify_all()

    def _connected(self, sock: socket.socket) -> None:
        with self._changed:
            before, self._socket = self._socket, sock
        if before is not None:
            before.close()
        if self._stop.is_set():
            self._shut_down()

    def _shut_down(self) -> None:
        with self._changed:
            sock, self._socket = self._socket, None
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


def _boundary(stream: HttpStream, name: str) -> str | None:
    """What separates the stream's pictures; None if its head doesn't say.

    Raises:
        SourceError: it is something other than a stream of pictures.
    """
    headers: Message = stream.headers
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    main = kind.partition("/")[0]
    if main in ("multipart", "video", "") or kind == "application/octet-stream":
        return headers.get_boundary()
    raise SourceError(
        f"{name} sends {kind}, not a Motion JPEG stream (multipart/x-mixed-replace); "
        "name the address of its stream"
    )
