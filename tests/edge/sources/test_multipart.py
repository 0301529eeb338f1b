"""A Motion JPEG stream is cut into its pictures, however odd it is."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecell.edge.sources.multipart import LARGEST_PART, MultipartSplitter
from tests.edge.sources.servers import jpeg

PICTURE = jpeg(np.full((16, 16, 3), 200, np.uint8))
OTHER = jpeg(np.full((16, 24, 3), 90, np.uint8))


def cut(
    stream: bytes, seed: int, boundary: str | None = "--b", step: int = 40
) -> list[bytes]:
    """Feeds a stream in pieces of random length."""
    rng, parts = np.random.default_rng(seed), []
    splitter = MultipartSplitter(boundary)
    while stream:
        n = int(rng.integers(1, step))
        parts += splitter.feed(stream[:n])
        stream = stream[n:]
    return [part.rstrip(b"\r\n") for part in parts]


def test_parts_are_found_however_the_bytes_come() -> None:
    rng = np.random.default_rng(0)
    bodies = [rng.bytes(int(rng.integers(1, 200))) for _ in range(50)]
    stream = b"preamble"
    for body in bodies:
        size = rng.choice([b"", b"content-length: %d\r\n" % len(body)])
        stream += b"\r\n--b\r\nContent-Type: image/jpeg\r\n%s\r\n%s" % (size, body)
    stream += b"\r\n--b\r\n\r\n"
    for seed in range(20):
        assert cut(stream, seed) == [body.rstrip(b"\r\n") for body in bodies]


@pytest.mark.parametrize(
    ("stream", "parts"),
    [
        (b"--b\r\nContent-Length: 9\r\n\r\nabc\r\n--b\r\n\r\nd\r\n--b", [b"abc", b"d"]),
        (b"--b\r\nContent-Length: x\r\n\r\nabc\r\n--b", [b"abc"]),
        (b"--b\r\nhead--b\r\n\r\nd\r\n--b", [b"d"]),
        (
            b"--b\r\nContent-Length: 2\r\n\r\nabcd\r\n--b\r\n\r\ne\r\n--b",
            [b"abcd", b"e"],
        ),
        (b"--b\r\nContent-Length: 0\r\n\r\nabcd\r\n--b", [b"abcd"]),
        (b"--b\nContent-Length: 3\n\nabc\n--b\n\nd\n--b", [b"abc", b"d"]),
        (b"--b\r\nContent-Type: text/xml\r\n\r\n<a/>\r\n--b\r\n\r\nd\r\n--b", [b"d"]),
    ],
    ids=["too long", "no number", "cut head", "too short", "zero", "LF", "no picture"],
)
def test_the_splitter_finds_its_way_back(stream: bytes, parts: list[bytes]) -> None:
    for seed in range(5):
        assert cut(stream, seed) == parts


def part(boundary: bytes, body: bytes, newline: bytes, length: bool) -> bytes:
    size = b"Content-Length: %d" % len(body) + newline if length else b""
    head = boundary + newline + b"X-Tag: 1" + newline
    head += b"Content-Type: image/jpeg" + newline + size + newline
    return head + body + newline


@pytest.mark.parametrize("length", [True, False], ids=["length", "no length"])
@pytest.mark.parametrize("newline", [b"\r\n", b"\n"], ids=["CRLF", "LF"])
@pytest.mark.parametrize(
    ("told", "sent"),
    [
        ("frame", b"--frame"),
        ("--frame", b"--frame"),
        ("--frame", b"----frame"),
        ("frame", b"frame"),
        ("frame", b"--other"),
        (None, b"--ffmpeg"),
    ],
)
def test_each_picture_is_given_as_soon_as_it_is_there(
    told: str | None, sent: bytes, newline: bytes, length: bool
) -> None:
    splitter = MultipartSplitter(told)
    for body in (PICTURE, OTHER, PICTURE + bytes(64), OTHER):
        found = splitter.feed(part(sent, body, newline, length))
        assert [f.rstrip(b"\r\n\0") for f in found] == [body.rstrip(b"\0")]


def test_pictures_without_any_boundary_are_cut_at_their_ends() -> None:
    stream = (PICTURE + OTHER) * 5
    for seed in range(5):
        assert cut(stream, seed, None) == [PICTURE, OTHER] * 5


def test_endless_rubbish_takes_no_endless_memory() -> None:
    for rubbish in (bytes(1000), b"--b" * 300, b"--b\r\nx: " + b"y" * 1000):
        splitter = MultipartSplitter("b")
        data = rubbish * 1000
        tracemalloc.start()
        try:
            parts = sum(len(splitter.feed(data)) for _ in range(40))
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert parts <= 3
        assert held < 1.5 * LARGEST_PART


PIECES = st.sampled_from(
    [
        *(b"--b", b"b", b"\r\n", b"\n", b"\r\n\r\n", b"Content-Length: 3", b"-"),
        *(b"Content-Type: image/jpeg", b"content-length:99999", b": ", PICTURE, OTHER),
        *(PICTURE[:50], PICTURE[50:], b"\xff\xd8", b"\xff\xd9", b"\0\0"),
    ]
)


@settings(max_examples=150, deadline=None)
@given(
    pieces=st.lists(PIECES | st.binary(max_size=6), max_size=60),
    told=st.sampled_from(["b", "--b", "", None]),
    seed=st.integers(0, 9),
)
def test_any_stream_is_cut_into_parts_of_itself(
    pieces: list[bytes], told: str | None, seed: int
) -> None:
    stream = b"".join(pieces)
    parts = cut(stream, seed, told, 4000)
    assert all(p in stream for p in parts)
    assert sum(map(len, parts)) <= len(stream)


@settings(max_examples=100, deadline=None)
@given(rubbish=st.binary(max_size=300), seed=st.integers(0, 9))
def test_whole_pictures_follow_any_rubbish(rubbish: bytes, seed: int) -> None:
    whole = part(b"--b", PICTURE, b"\r\n", True)
    assert cut(rubbish + whole * 5, seed)[-3:] == [PICTURE] * 3
