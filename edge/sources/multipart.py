"""Cuts a Motion JPEG stream into its pictures, however odd the camera's format."""

import re

LARGEST_PART = 16 << 20
"""Bytes; what goes on for longer without a boundary is rubbish."""

_SEARCHED = 1 << 16
"""Bytes at a stream's beginning that may hold its boundary, if the head gives none."""

_START, _END = b"\xff\xd8", b"\xff\xd9"
_NEXT_PICTURE = re.compile(rb"\xff\xd9[\r\n]*(?=\xff\xd8\xff)")
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_PADDING = b"\0\r\n "

_TAIL = 4096
_LONGEST_HEAD = 1 << 16

_LINE_BEFORE_HEAD = re.compile(
    rb"(?:\A|\n)([^\s:]{1,200})\r?\n"
    rb"(?=(?:[\w-]+[ \t]*:[^\n]*\n)*(?:content-(?:type|length)[ \t]*:|\r?\n\xff\xd8))",
    re.IGNORECASE,
)


class MultipartSplitter:
    """Cuts a multipart/x-mixed-replace stream (RFC 2046, 5.1) into its parts.

    A part is given as soon as its last byte is there. The splitter finds its way back
    after rubbish, and does without what cameras leave out or get wrong: lengths, the
    boundary's dashes, the boundary in the answer's head, carriage returns. Without any
    boundary, pictures are cut where one's end marker is followed by another's start.
    """

    def __init__(self, boundary: str | None) -> None:
        """Starts at the first byte of a stream.

        Args:
            boundary: the one in the Content-Type; None if it has none.
        """
        # Some cameras include the dashes, which only the body should have.
        told = (boundary or "").lstrip("-").encode("latin-1", "replace")
        self._told = b"--" + told if told else None
        self._boundary: bytes | None = None
        self._buffer = bytearray()
        self._passed = 0
        """Bytes of the buffer, after the part's head, that hold no boundary."""

    def feed(self, data: bytes) -> list[bytes]:
        """Processes the next bytes of the stream; returns the completed parts."""
        self._buffer += data
        if self._boundary is None:
            self._boundary = self._find_boundary()
        next_part = self._next_part if self._boundary else self._next_bare_picture
        parts = []
        while (part := next_part()) is not None:
            if part:
                parts.append(part)
        if len(self._buffer) > LARGEST_PART:
            parts.append(bytes(self._buffer))
            self._drop(len(self._buffer))
        return parts

    def _find_boundary(self) -> bytes | None:
        """The boundary in the body; the head may give a wrong one or none."""
        if self._told and self._told in self._buffer:
            return self._told
        match = _LINE_BEFORE_HEAD.search(self._buffer, 0, _SEARCHED)
        return match[1] if match else None

    def _next_bare_picture(self) -> bytes | None:
        start = self._buffer.find(_START)
        if self._told or start < 0:
            return None
        self._drop(start)
        end = _NEXT_PICTURE.search(self._buffer)
        if end is not None:
            return self._take(0, end.end())
        if holds_picture(self._buffer):
            return self._take(0, len(self._buffer))
        return None

    def _next_part(self) -> bytes | None:
        """The next part; empty if it isn't a picture, None if no part is complete."""
        boundary = self._boundary
        assert boundary is not None
        start = self._buffer.find(boundary)
        if start < 0:
            return None
        self._drop(start)
        head = _BLANK_LINE.search(self._buffer, len(boundary), _LONGEST_HEAD)
        if head is None:
            rubbish = _LONGEST_HEAD - len(boundary)
            too_long = len(self._buffer) >= _LONGEST_HEAD
            return self._take(rubbish, rubbish) if too_long else None
        last = self._buffer.rfind(boundary, len(boundary), head.end())
        if last > 0:  # heads that are cut off by the next part
            return self._take(last, last)
        body = head.end()
        following = self._buffer.find(boundary, max(body, self._passed - len(boundary)))
        if following < 0:
            self._passed = len(self._buffer)
        length, is_picture = _read_head(bytes(self._buffer[: head.start()]))
        end = self._end_of_part(body, length, following)
        if end is None:
            return None
        part = self._take(body, end)
        return part if is_picture else b""

    def _end_of_part(self, body: int, length: int | None, following: int) -> int | None:
        """Where the part ends, if that is known yet.

        Args:
            body: where its content begins.
            length: the length that its head gives.
            following: where the next boundary is; -1 if there is none yet.
        """
        told = None if length is None else body + length
        if told is not None and told <= len(self._buffer):
            if holds_picture(self._buffer, body, told) and not 0 <= following < told:
                return told
        if following >= 0:
            return following
        if length is None and holds_picture(self._buffer, body):
            return len(self._buffer)
        return None

    def _take(self, start: int, end: int) -> bytes:
        """Cuts bytes out, and forgets all before them."""
        part = bytes(self._buffer[start:end])
        self._drop(end)
        return part

    def _drop(self, count: int) -> None:
        if count:
            del self._buffer[:count]
            self._passed = 0


def holds_picture(
    data: bytes | bytearray, start: int = 0, end: int | None = None
) -> bool:
    """Whether a JPEG is there from its first byte to its last, maybe with padding.

    Args:
        data: bytes among others.
        start: where it should begin.
        end: where it should end; None for the data's end.
    """
    end = len(data) if end is None else end
    if data[start : start + 2] != _START:
        return False
    return data[max(start, end - _TAIL) : end].rstrip(_PADDING).endswith(_END)


def _read_head(head: bytes) -> tuple[int | None, bool]:
    """Reads a part's head: its length, and whether it may be a picture."""
    length, is_picture = None, True
    for line in head.splitlines():
        name, _, value = line.partition(b":")
        # A boundary may stand before the first name without a line break.
        if name.lower().endswith(b"content-length") and value.strip().isdigit():
            length = int(value)
        if name.lower().endswith(b"content-type"):
            is_picture = b"image" in value.lower() or b"octet" in value.lower()
    return length, is_picture
