"""Files, archives, cameras: what is whole is decoded, all else refused by a line."""

import io
import os
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from edgecell.edge.sources import SAMPLES
from edgecell.errors import InputError
from edgecell.image import decode as decoding
from edgecell.image.decode import decode, page_count, read_file, size_of

FRAME = (SAMPLES / "frames" / "bccd_1.jpg").read_bytes()
PICTURE = np.asarray(cv2.imdecode(np.frombuffer(FRAME, np.uint8), 1))[:96, :128]


def encoded(suffix: str, picture: Any = PICTURE, *options: int) -> bytes:
    ok, data = cv2.imencode(suffix, picture, options)
    assert ok
    return data.tobytes()


def padded(data: bytes, zeros: int = 1) -> bytes:
    """Zeros before each restart marker, as some cameras write them."""
    scan = data.index(b"\xff\xda")
    body = data[scan:]
    for i in range(8):
        marker = bytes([0xFF, 0xD0 + i])
        body = body.replace(marker, bytes(zeros) + marker)
    return data[:scan] + body


def turned(data: bytes, orientation: int) -> bytes:
    """A JPEG with an EXIF record that says how it is to be turned."""
    tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0"
    record = b"Exif\0\0" + tiff + bytes([orientation, 0, 0, 0]) + bytes(4)
    head = b"\xff\xe1" + struct.pack(">H", len(record) + 2)
    return data[:2] + head + record + data[2:]


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def test_jpeg_pixels_are_those_of_opencv() -> None:
    for sampling in (0x111111, 0x211111, 0x221111):
        data = encoded(".jpg", PICTURE, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling)
        expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        away = np.abs(decode(data, "x").astype(int) - np.asarray(expected))
        assert away.max() <= 1


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp"])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_any_depth_and_channels_become_8_bit_bgr(
    suffix: str, depth: Any, channels: int
) -> None:
    if depth is np.uint16 and suffix in (".bmp", ".webp"):
        pytest.skip("the format has 8 bits")
    high = PICTURE.astype(depth) * (257 if depth is np.uint16 else 1)
    picture = {
        1: high[..., 1],
        3: high,
        4: np.dstack([high, np.zeros_like(high[..., 0])]),
    }[channels]
    image = decode(encoded(suffix, picture, cv2.IMWRITE_WEBP_QUALITY, 101), "x")
    assert (image.shape, image.dtype) == (PICTURE.shape, np.dtype(np.uint8))
    expected = PICTURE if channels > 1 else PICTURE[..., [1, 1, 1]]
    if not (suffix == ".webp" and channels == 4):  # WebP blanks what is transparent
        assert np.array_equal(image, expected)


def test_pictures_are_turned_as_their_exif_record_says() -> None:
    data = encoded(".jpg")
    upright = decode(data, "x")
    assert np.array_equal(decode(turned(data, 1), "x"), upright)
    by_quarter = np.rot90(upright, -1)
    assert np.abs(decode(turned(data, 6), "x").astype(int) - by_quarter).max() <= 1


def test_cmyk_is_converted() -> None:
    file = io.BytesIO()
    PillowImage.fromarray(PICTURE[..., ::-1]).convert("CMYK").save(file, "JPEG")
    assert decode(file.getvalue(), "x").shape == PICTURE.shape


@pytest.mark.parametrize("kind", ["plain", "progressive", "restarts"])
def test_half_a_jpeg_is_refused_with_an_end_marker_too(kind: str) -> None:
    options = {
        "plain": (),
        "progressive": (cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        "restarts": (cv2.IMWRITE_JPEG_RST_INTERVAL, 4),
    }[kind]
    data = encoded(".jpg", PICTURE, *options)
    decode(data, "x")
    for harmed in (data[: len(data) // 2], data[: len(data) // 2] + b"\xff\xd9"):
        with pytest.raises(InputError, match=r"x\.jpg is damaged"):
            decode(harmed, "x.jpg")


@pytest.mark.parametrize("zeros", [1, 2, 3])
@pytest.mark.parametrize("sampling", [0x111111, 0x211111, 0x221111])
def test_padding_before_restart_markers_is_no_damage(zeros: int, sampling: int) -> None:
    restarts = (cv2.IMWRITE_JPEG_RST_INTERVAL, 4)
    data = encoded(
        ".jpg", PICTURE, *restarts, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling
    )
    assert np.array_equal(decode(padded(data, zeros), "x"), decode(data, "x"))


def test_damage_between_padded_restart_markers_is_seen() -> None:
    data = padded(encoded(".jpg", PICTURE, cv2.IMWRITE_JPEG_RST_INTERVAL, 4))
    second, fourth = data.index(b"\xff\xd1"), data.index(b"\xff\xd3")
    lost = data[:second] + data[fourth:]
    for harmed in (lost, data[: len(data) // 2] + b"\xff\xd9"):
        with pytest.raises(InputError, match="damaged"):
            decode(harmed, "x")


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp"])
def test_what_is_cut_short_is_refused(suffix: str) -> None:
    data = encoded(suffix)
    with pytest.raises(InputError, match=r"x is .*damaged"):
        decode(data[: len(data) // 2], "x")


@pytest.mark.parametrize("data", [b"", b"text", b"\xff\xd8", b"GIF89a" + bytes(9)])
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(InputError, match=r"x\.png is"):
        decode(data, "x.png")


def test_other_formats_are_named() -> None:
    file = io.BytesIO()
    PillowImage.fromarray(PICTURE).save(file, "GIF")
    with pytest.raises(InputError, match="x is a GIF, which is not supported"):
        decode(file.getvalue(), "x")


def test_pixels_are_counted_before_they_are_decoded() -> None:
    jpeg = bytearray(encoded(".jpg"))
    start = jpeg.index(b"\xff\xc0")
    jpeg[start + 5 : start + 9] = struct.pack(">HH", 65500, 65500)
    bmp = bytearray(encoded(".bmp"))
    bmp[18:26] = struct.pack("<ii", 30000, 30000)
    for data in (bytes(jpeg), bytes(bmp), png_header(30000, 30000)):
        with pytest.raises(InputError, match="more than 67 million pixels"):
            decode(data, "x")


def test_a_jpeg_of_countless_scans_is_refused() -> None:
    data = encoded(".jpg", PICTURE, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    last = data.rindex(b"\xff\xda")
    bomb = data[:-2] + data[last:-2] * 5000 + data[-2:]
    with pytest.raises(InputError, match="too many scans"):
        decode(bomb, "x")


def test_pages_of_a_tiff_are_counted() -> None:
    file = io.BytesIO()
    pages = [PillowImage.fromarray(PICTURE) for _ in range(3)]
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
    assert page_count(file.getvalue()) == 3
    assert decode(file.getvalue(), "x").shape == PICTURE.shape
    assert page_count(encoded(".tif")) == 1
    assert page_count(encoded(".png")) == page_count(b"II*\0") == 1


def test_only_regular_files_of_bounded_size_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "x.jpg"
    file.write_bytes(FRAME)
    assert read_file(file) == FRAME
    monkeypatch.setattr(decoding, "LARGEST_BYTES", len(FRAME) - 1)
    with pytest.raises(InputError, match=r"x\.jpg is larger than"):
        read_file(file)
    os.mkfifo(tmp_path / "pipe.jpg")
    for name, message in [("pipe.jpg", "regular file"), ("none.jpg", "No such file")]:
        with pytest.raises(InputError, match=message):
            read_file(tmp_path / name)


FILES = {
    suffix: encoded(suffix, PICTURE[:40, :40])
    for suffix in (".jpg", ".png", ".bmp", ".tif", ".webp")
} | {
    "restarts": padded(encoded(".jpg", PICTURE, cv2.IMWRITE_JPEG_RST_INTERVAL, 4)),
    "turned": turned(encoded(".jpg", PICTURE[:40, :40]), 6),
}


@settings(max_examples=400, deadline=None)
@given(
    kind=st.sampled_from(sorted(FILES)),
    changes=st.lists(
        st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=4)), max_size=4
    ),
    kept=st.floats(0, 1) | st.just(1.0),
)
def test_any_bytes_are_an_image_or_one_error(
    kind: str, changes: list[tuple[float, bytes]], kept: float
) -> None:
    data = bytearray(FILES[kind])
    for place, new in changes:
        at = int(place * (len(data) - len(new)))
        data[at : at + len(new)] = new
    harmed = bytes(data[: int(kept * len(data))])
    with suppress(InputError):
        image = decode(harmed, "x")
        assert (image.dtype, image.shape[2:]) == (np.dtype(np.uint8), (3,))
        assert image.size <= 3 * decoding.LARGEST_PIXELS
    assert page_count(harmed) >= 1


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_of_16_bits_the_upper_8_are_kept(suffix: str) -> None:
    eight = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    low = np.random.default_rng(1).integers(0, 256, eight.shape).astype(np.uint16)
    data = cv2.imencode(suffix, eight.astype(np.uint16) * 256 + low)[1].tobytes()
    assert np.array_equal(decode(data, f"x{suffix}"), eight)


def test_the_size_is_read_from_the_header_alone() -> None:
    height, width = decode(FRAME, "x").shape[:2]
    assert size_of(FRAME, "x") == (width, height)
    assert size_of(png_header(3000, 2000), "x") == (3000, 2000), (
        "its pixels are rubbish"
    )
    with pytest.raises(InputError, match="more than 67 million pixels"):
        size_of(png_header(200_000, 200_000), "x")
    with pytest.raises(InputError, match="not an image"):
        size_of(b"text", "x")


def by_pillow(kind: str, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    picture = PillowImage.fromarray(PICTURE)
    picture.save(buffer, kind, **settings)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_all_but_the_first_picture_of_several_are_counted(kind: str) -> None:
    more = [PillowImage.fromarray(each) for each in (255 - PICTURE, PICTURE[::-1])]
    several = by_pillow(kind, save_all=True, append_images=more, lossless=True)
    assert page_count(several) == 3
    assert page_count(by_pillow(kind)) == 1
    assert np.array_equal(decode(several, "x"), PICTURE[..., ::-1])


def zeroed(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(200) + data[middle + 200 :]


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate"])
def test_a_damaged_tiff_is_not_patched_up(compression: str) -> None:
    data = by_pillow("TIFF", compression=compression)
    assert np.array_equal(decode(data, "x"), PICTURE[..., ::-1])
    patched = cv2.imdecode(np.frombuffer(zeroed(data), np.uint8), 1)
    assert patched is not None, "OpenCV makes a picture of it"
    with pytest.raises(InputError, match="damaged"):
        decode(zeroed(data), "x")


def test_damage_in_an_animated_png_is_found() -> None:
    other = [PillowImage.fromarray(255 - PICTURE)]
    data = by_pillow("PNG", save_all=True, append_images=other)
    first = data.index(b"IDAT") + 50
    damaged = data[:first] + bytes([data[first] ^ 1]) + data[first + 1 :]
    with pytest.raises(InputError, match="damaged"):
        decode(damaged, "x")
