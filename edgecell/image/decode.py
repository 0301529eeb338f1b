"""Image files to pixels, within bounds: the one decoder for files, archives, cameras.

Whatever the bytes are, decoding them takes bounded memory and time and ends in an image
or in an `InputError` that says why there is none.
"""

import io
import os
import re
import stat
import warnings
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from PIL import Image as PillowImage

from edgecell.errors import InputError
from edgecell.image.preprocess import Bgr
from edgecell.quiet import quiet_opencv

LARGEST_BYTES = 256 << 20
"""A 16-bit TIFF of 40 megapixels, not compressed, is smaller."""

LARGEST_PIXELS = 1 << 26
"""67 million, 200 MB once decoded; the largest sensors for a Pi have 64 million."""

_MOST_SCANS = 64
"""A progressive JPEG has about ten scans. Each one passes over the whole picture, so a
small file with thousands would keep the decoder busy for minutes."""

_MOST_PAGES = 10_000

_FORMATS = ("JPEG", "MPO", "PNG", "BMP", "DIB", "TIFF", "WEBP")
_OF_SEVERAL = (b"II", b"MM", b"\x89PNG", b"RIFF")
"""What files begin with that may hold several pictures: TIFF, PNG, WebP."""

_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_TAIL = 4096
"""Some cameras pad behind a JPEG's end, so it is looked for in so many bytes."""

_EXIF = b"Exif\0\0"
_EXIF_WITHIN = 1 << 17

_EXTRANEOUS = re.compile(
    r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd."
)
_RESTART = re.compile(rb"(?:(?<=[^\xff])(\x00+))?\xff([\xd0-\xd7])")
"""A restart marker with the zeros before it, of which one behind 0xff is data."""

_RESTART_INTERVAL = re.compile(rb"\xff\xdd\x00\x04(..)", re.DOTALL)
_BLOCK = {"422": (16, 8), "420": (16, 16), "440": (8, 16), "411": (32, 8)}
"""Width and height of what a restart interval counts, by chroma subsampling."""

quiet_opencv()
# Damaged metadata is no reason to bother the user, and pixels are counted here.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
warnings.filterwarnings("ignore", category=PillowImage.DecompressionBombWarning)


def read_file(path: Path) -> bytes:
    """Reads a file of bounded size.

    Args:
        path: a regular file. A pipe or device is refused, not waited for.

    Raises:
        InputError: it can't be read, isn't a regular file, or exceeds `LARGEST_BYTES`.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise InputError(f"{path} is not a regular file; remove it")
            # A file may grow while it is read.
            data = file.read(min(status.st_size, LARGEST_BYTES) + 1)
    except OSError as e:
        raise InputError(f"{path} cannot be read ({e.strerror})") from e
    check_size(len(data), str(path))
    return data


def check_size(size: int, name: str) -> None:
    """Refuses a file that is too large to be decoded, before it is read.

    Args:
        size: of the encoded file, bytes.
        name: for the message.

    Raises:
        InputError: it exceeds `LARGEST_BYTES`.
    """
    if size > LARGEST_BYTES:
        raise InputError(
            f"{name} is larger than {LARGEST_BYTES >> 20} MB; save it in a smaller "
            "format, or cut it into tiles"
        )


def decode(data: bytes, name: str) -> Bgr:
    """Decodes an image file.

    JPEG (also with EXIF rotation), PNG, BMP, TIFF and WebP are supported. If a file has
    several pages or pictures, the first is read. Grey images get three equal channels,
    16 bits become 8, transparency is dropped.

    Args:
        data: the encoded file.
        name: for the message.

    Returns:
        uint8 BGR (H, W, 3).

    Raises:
        InputError: it is not such an image, is damaged or cut short, or has more than
            `LARGEST_PIXELS`.
    """
    check_size(len(data), name)
    try:
        is_jpeg = data.startswith(_JPEG_START)
        return _decode_jpeg(data, name) if is_jpeg else _decode_other(data, name)
    except MemoryError as e:
        raise InputError(
            f"{name} needs more memory than there is; scale it down"
        ) from e


def page_count(data: bytes) -> int:
    """Pages of a TIFF, or pictures of an animated PNG or WebP; 1 for other formats.

    `decode` reads the first one.
    """
    if not data.startswith(_OF_SEVERAL):
        return 1
    pages = 1
    try:
        with PillowImage.open(io.BytesIO(data)) as image:
            if image.format != "TIFF":
                return max(1, int(getattr(image, "n_frames", 1)))
            while pages < _MOST_PAGES:
                image.seek(pages)
                pages += 1
    except Exception:  # see `_header`; an EOFError after the last page
        return pages
    return pages


def _decode_other(data: bytes, name: str) -> Bgr:
    """Decodes whatever OpenCV reads, once its header is known to be harmless."""
    kind, size = _header(data, name)
    if kind not in _FORMATS:
        raise InputError(f"{name} is a {kind}, which is not supported; save it as PNG")
    _check_pixels(*size, name)
    if kind == "TIFF" or (kind == "PNG" and page_count(data) > 1):
        _check_whole(data, name)
    return _decode_by_opencv(data, name)


def _check_whole(data: bytes, name: str) -> None:
    """Decodes an image once more, by Pillow, where OpenCV would patch it up."""
    try:
        with PillowImage.open(io.BytesIO(data)) as image:
            image.load()
    except MemoryError:
        raise
    except Exception as e:  # see `_header`
        raise _unreadable(name) from e


def size_of(data: bytes, name: str) -> tuple[int, int]:
    """Width and height of an image file, pixels, from its header alone.

    Args:
        data: the encoded file.
        name: for the message.

    Raises:
        InputError: it is no image.
    """
    return _header(data, name)[1]


def _header(data: bytes, name: str) -> tuple[str | None, tuple[int, int]]:
    """Format and (width, height) of an image file."""
    if not data:
        raise InputError(f"{name} is empty; remove or replace it")
    try:
        with PillowImage.open(io.BytesIO(data)) as image:
            return image.format, image.size
    except (
        PillowImage.DecompressionBombError,
        PillowImage.DecompressionBombWarning,
    ) as e:
        raise _too_many_pixels(name) from e
    except Exception as e:  # Pillow raises nine kinds of them for damaged headers
        raise InputError(
            f"{name} is not an image in a supported format, or is damaged; save it as "
            "PNG, or remove it"
        ) from e


def _check_pixels(width: int, height: int, name: str) -> None:
    if width < 1 or height < 1:
        raise InputError(f"{name} has no pixels; remove or replace it")
    if width * height > LARGEST_PIXELS:
        raise _too_many_pixels(name)


def _too_many_pixels(name: str) -> InputError:
    return InputError(
        f"{name} has more than {LARGEST_PIXELS // 1_000_000} million pixels; scale it "
        "down or cut it into tiles"
    )


def _unreadable(name: str) -> InputError:
    return InputError(
        f"{name} is damaged, cut short, or compressed in a way that is not supported; "
        "save it as PNG, or remove it"
    )


def _decode_by_opencv(data: bytes, name: str) -> Bgr:
    encoded = np.frombuffer(data, np.uint8)
    try:
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
        if image is not None and image.dtype == np.uint16:
            # OpenCV rounds a TIFF's 16 bits and cuts off a PNG's: cut off both.
            image = np.asarray(image, np.uint16) >> 8
        elif image is not None and image.dtype != np.uint8:
            image = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    except cv2.error:
        image = None
    if image is None:
        raise _unreadable(name)
    return Bgr(np.asarray(image, np.uint8))


def _decode_jpeg(data: bytes, name: str) -> Bgr:
    """Decodes a JPEG; refuses one that libjpeg would patch up.

    OpenCV fills what is missing or damaged with whatever comes out. libjpeg's warnings,
    which simplejpeg turns into errors, reveal most damage. The pixels are the same.
    """
    try:
        height, width, colours, sampling = simplejpeg.decode_jpeg_header(data)
    except ValueError as e:
        if "subsampling" in str(e) and _JPEG_END in data[-_TAIL:]:
            return _decode_other(data, name)  # a rare one, or damage
        raise _damaged(name, e) from e
    try:
        _check_pixels(width, height, name)
        if data.count(b"\xff\xda") > _MOST_SCANS:
            raise InputError(f"{name} has too many scans to be a photograph")
        has_bgr = colours not in ("CMYK", "YCCK")
        layout = "BGR" if has_bgr else "CMYK"
        try:
            image = simplejpeg.decode_jpeg(data, layout)
        except ValueError as e:
            if not _only_padded(data, str(e), width, height, sampling):
                raise
            image = simplejpeg.decode_jpeg(data, layout, strict=False)
    except ValueError as e:
        raise _damaged(name, e) from e
    # OpenCV knows how to turn pictures by their EXIF record, and how to convert CMYK.
    if not has_bgr or _EXIF in data[:_EXIF_WITHIN]:
        del image
        return _decode_by_opencv(data, name)
    return Bgr(np.asarray(image, np.uint8))


def _damaged(name: str, why: Exception) -> InputError:
    return InputError(f"{name} is damaged ({why}); remove or replace it")


def _only_padded(
    data: bytes, warning: str, width: int, height: int, sampling: str
) -> bool:
    """Whether a JPEG is whole except for zeros that its camera put before markers.

    Some encoders (Logitech's C270 and C910, some by Axis) align restart markers with
    zeros. libjpeg warns of them and passes over them. Its last warning alone is known,
    so the markers are counted, too: lost data takes markers along.
    """
    extraneous = _EXTRANEOUS.fullmatch(warning)
    interval = _RESTART_INTERVAL.search(data)
    if extraneous is None or interval is None or data.count(b"\xff\xda") != 1:
        return False
    block_width, block_height = _BLOCK.get(sampling, (8, 8))
    blocks = -(-width // block_width) * -(-height // block_height)
    expected = -(-blocks // max(1, int.from_bytes(interval[1], "big"))) - 1
    found = _RESTART.findall(data, data.index(b"\xff\xda"))
    in_order = [marker[0] % 8 for _, marker in found] == [
        i % 8 for i in range(expected)
    ]
    return in_order and int(extraneous[1]) <= sum(len(zeros) for zeros, _ in found)
