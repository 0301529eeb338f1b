"""ZIP archives from anywhere: read within bounds, each fault reported in one line."""

import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgecell.errors import InputError

# What zipfile raises for damage, whichever part of the archive has it.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    IndexError,
    OverflowError,
    RuntimeError,
    ValueError,
)
_ENCRYPTED = 0x1


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Turns what zipfile raises into an `InputError` that names the archive."""
    try:
        yield
    except OSError as e:
        raise InputError(f"cannot read {name}: {e.strerror or e}") from e
    except NotImplementedError as e:
        raise InputError(
            f"{name} is packed in a way that is not supported ({e}); unpack it, or "
            "pack it again as a plain ZIP file"
        ) from e
    except _DAMAGE as e:
        why = (str(e) or type(e).__name__).splitlines()[0]
        raise InputError(f"{name} is damaged or not a ZIP file ({why})") from e


def open_archive(source: Path | bytes | bytearray, name: str) -> zipfile.ZipFile:
    """Opens a ZIP archive for reading.

    Args:
        source: the file, or its content.
        name: its name, for messages.

    Raises:
        InputError: it is missing, damaged, or no ZIP archive.
    """
    if isinstance(source, Path) and source.exists() and not source.is_file():
        raise InputError(f"{name} is not a file")  # a pipe would be waited for
    with _told(name):
        return zipfile.ZipFile(
            io.BytesIO(source) if isinstance(source, bytes | bytearray) else source
        )


def read_member(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, limit: int
) -> bytes:
    """Reads one file of an archive and checks its CRC.

    Args:
        archive: the archive.
        info: the file in it.
        name: the archive's name, for messages.
        limit: the most bytes that the file may have when it is unpacked.

    Raises:
        InputError: the file is damaged, encrypted, larger, or packed in a way that
            Python's zipfile does not know.
    """
    if info.flag_bits & _ENCRYPTED:
        raise InputError(
            f"{name} is encrypted ({info.filename} needs a password); unpack it and "
            "name the folder instead"
        )
    with _told(name), archive.open(info) as f:
        content = f.read(limit + 1)
    if len(content) > limit:
        raise InputError(
            f"{info.filename} in {name} has more than {limit // 2**20} MiB when it is "
            "unpacked, the most that is read"
        )
    return content
