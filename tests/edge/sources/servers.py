"""Camera servers on the loopback interface, well and badly behaved."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from typing import TypeVar

import cv2
import numpy as np

from edgecell.edge.sources.base import now_s

BLOCK = 8
BITS = 32

Picture = np.ndarray
S = TypeVar("S", bound="Server")


def stamp(picture: Picture, value: int) -> Picture:
    """Writes a number into a picture's first rows, so that JPEG keeps it."""
    stamped = picture.copy()
    for bit in range(BITS):
        x = bit * BLOCK
        stamped[:BLOCK, x : x + BLOCK] = 255 if value >> bit & 1 else 0
    return stamped


def stamp_of(picture: Picture) -> int:
    """Reads the number."""
    middle = picture[BLOCK // 2, BLOCK // 2 : BITS * BLOCK : BLOCK].mean(axis=1)
    return sum(1 << bit for bit in range(BITS) if middle[bit] > 127)


def milliseconds() -> int:
    """The clock that pictures are stamped with, and frames as well."""
    return round(now_s() * 1000) % (1 << BITS)


def jpeg(picture: Picture) -> bytes:
    ok, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 85])
    assert ok
    return data.tobytes()


class Server:
    """Accepts connections on 127.0.0.1 until it is stopped; can be started again.

    Attributes:
        connections: how many there were.
        period_s: time between pictures.
        send: what becomes of each picture before it is sent; b"" sends nothing.
    """

    def __init__(self, pictures: list[Picture], period_s: float = 0.03) -> None:
        self.period_s = period_s
        self.connections = 0
        self.send: Callable[[bytes], bytes] = lambda data: data
        self._pictures = pictures
        self._port = 0
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    def __enter__(self: S) -> S:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def address(self) -> str:
        raise NotImplementedError

    def talk(self, connection: socket.socket) -> None:
        raise NotImplementedError

    def start(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._port = self._listener.getsockname()[1]
        self._spawn(self._accept, self._listener)

    def stop(self) -> None:
        if self._listener is None:
            return
        self._shut(self._listener)
        self._listener = None
        for connection in list(self._open):
            self._shut(connection)
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()
        self._threads.clear()

    def _shut(self, one: socket.socket) -> None:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()

    def _spawn(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                self.connections += 1
                self._open.add(connection)
                self._spawn(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            self.talk(connection)
        except OSError:
            pass
        finally:
            self._open.discard(connection)
            connection.close()

    def _stream(self) -> Iterator[Picture]:
        """Pictures, each with the time at which it was taken."""
        for n in count():
            yield stamp(self._pictures[n % len(self._pictures)], milliseconds())
            time.sleep(self.period_s)
            if self._listener is None:
                return


class MjpegServer(Server):
    """Motion JPEG over HTTP.

    Attributes:
        sizes: whether parts tell their length.
        status: the answer's first line.
        kind: its Content-Type.
    """

    sizes = True
    status = "200 OK"
    kind = "multipart/x-mixed-replace; boundary=frame"

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._port}/stream.mjpg"

    def talk(self, connection: socket.socket) -> None:
        connection.recv(4096)
        head = f"HTTP/1.0 {self.status}\r\nContent-Type: {self.kind}\r\n\r\n"
        connection.sendall(head.encode())
        self.stream(connection, self.sizes)

    def stream(self: Server, connection: socket.socket, sizes: bool = True) -> None:
        """Sends pictures without end, behind the answer's head."""
        for picture in self._stream():
            data = self.send(jpeg(picture))
            if not data:
                continue
            size = f"Content-Length: {len(data)}\r\n" if sizes else ""
            part = f"--frame\r\nContent-Type: image/jpeg\r\n{size}\r\n".encode()
            connection.sendall(part + data + b"\r\n")


class RtspServer(Server):
    """RTSP (RFC 2326) with JPEG in RTP (RFC 2435), interleaved on its connection."""

    @property
    def address(self) -> str:
        return f"rtsp://127.0.0.1:{self._port}/camera"

    def talk(self, connection: socket.socket) -> None:
        buffer = b""
        while True:
            while b"\r\n\r\n" not in buffer:
                received = connection.recv(4096)
                if not received:
                    return
                buffer += received
            request, _, buffer = buffer.partition(b"\r\n\r\n")
            lines = request.decode().split("\r\n")
            method = lines[0].split()[0]
            sequence = next(x for x in lines if x.lower().startswith("cseq"))
            extra, body = self._answer(method)
            head = ["RTSP/1.0 200 OK", sequence, *extra]
            if body:
                head.append(f"Content-Length: {len(body)}")
            connection.sendall(("\r\n".join(head) + "\r\n\r\n" + body).encode())
            if method == "PLAY":
                self._play(connection)
                return

    def _answer(self, method: str) -> tuple[list[str], str]:
        if method == "OPTIONS":
            return ["Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN"], ""
        if method == "DESCRIBE":
            body = (
                "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=test\r\n"
                "c=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\n"
                "a=control:track0\r\n"
            )
            return ["Content-Type: application/sdp"], body
        if method == "SETUP":
            transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1"
            return [transport, "Session: 1"], ""
        return ["Session: 1"], ""

    def _play(self, connection: socket.socket) -> None:
        sequence = count()
        for picture in self._stream():
            data = self.send(jpeg(picture))
            if not data:
                continue
            now = time.monotonic_ns() * 9 // 100_000 & 0xFFFFFFFF
            for payload, last in _rtp_jpeg(data, picture.shape):
                head = struct.pack(
                    "!BBHII", 0x80, last << 7 | 26, next(sequence) & 0xFFFF, now, 1
                )
                packet = head + payload
                connection.sendall(b"$\0" + struct.pack("!H", len(packet)) + packet)


def _rtp_jpeg(data: bytes, shape: tuple[int, ...]) -> Iterator[tuple[bytes, bool]]:
    """Payloads of a JPEG of 4:2:0 with standard Huffman tables."""
    tables, at = b"", 2
    while data[at + 1] != 0xDA:  # up to the start of scan
        length = struct.unpack("!H", data[at + 2 : at + 4])[0]
        if data[at + 1] == 0xDB:
            segment = data[at + 4 : at + 2 + length]
            for start in range(0, len(segment), 65):
                tables += segment[start + 1 : start + 65]
        at += 2 + length
    scan = data[at + 2 + struct.unpack("!H", data[at + 2 : at + 4])[0] : -2]
    for offset in range(0, len(scan), 1400):
        head = struct.pack("!I", offset)
        head += struct.pack("!BBBB", 1, 255, shape[1] // 8, shape[0] // 8)
        if offset == 0:
            head += struct.pack("!BBH", 0, 0, len(tables)) + tables
        piece = scan[offset : offset + 1400]
        yield head + piece, offset + 1400 >= len(scan)
