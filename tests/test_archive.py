import io
import os
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecell.archive import open_archive, read_member
from edgecell.errors import InputError

TEXT = bytes(range(256)) * 8


def packed(method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("a.txt", TEXT)
    return buffer.getvalue()


def patched(content: bytes, local: int, central: int, value: bytes) -> bytes:
    """Writes ``value`` at two offsets: in the local and in the central header."""
    changed = bytearray(content)
    for start, offset in ((0, local), (content.index(b"PK\x01\x02"), central)):
        changed[start + offset : start + offset + len(value)] = value
    return bytes(changed)


def unpack(content: bytes, limit: int = 10_000) -> bytes:
    with open_archive(content, "x.zip") as archive:
        return read_member(archive, archive.getinfo("a.txt"), "x.zip", limit)


@pytest.mark.parametrize(
    "method",
    [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA],
)
def test_what_python_unpacks_is_read(method: int) -> None:
    assert unpack(packed(method)) == TEXT


def test_encrypted_archives_say_so() -> None:
    with pytest.raises(InputError, match=r"x\.zip is encrypted.*name the folder"):
        unpack(patched(packed(), 6, 8, b"\x01"))


@pytest.mark.parametrize("method", [9, 93, 99])  # deflate64, zstandard, AES
def test_unknown_compressions_say_so(method: int) -> None:
    with pytest.raises(InputError, match=r"x\.zip is packed in a way"):
        unpack(patched(packed(), 8, 10, method.to_bytes(2, "little")))


def test_what_unpacks_to_more_than_allowed_is_refused() -> None:
    assert unpack(packed(), len(TEXT)) == TEXT
    with pytest.raises(InputError, match="the most that is read"):
        unpack(packed(), len(TEXT) - 1)


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read x\.zip: No such file"):
        open_archive(tmp_path / "none.zip", "x.zip")
    for content in (b"", b"hello", packed()[:-30]):
        with pytest.raises(InputError, match="damaged or not a ZIP file"):
            open_archive(content, "x.zip")


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.zip")
    with pytest.raises(InputError, match="is not a file"):
        open_archive(tmp_path / "p.zip", "p.zip")


@given(
    method=st.sampled_from(
        [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA]
    ),
    changes=st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=4),
    cut=st.integers(0, 50),
)
def test_no_damage_raises_anything_else(
    method: int, changes: list[tuple[int, int]], cut: int
) -> None:
    content = bytearray(packed(method))
    for at, value in changes:
        content[at % len(content)] = value
    with suppress(InputError), open_archive(content[: len(content) - cut], "x") as z:
        for info in z.infolist():
            read_member(z, info, "x", 10_000)
