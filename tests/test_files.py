import csv
import io
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from edgecell.errors import InputError, OutputError
from edgecell.files import (
    Kind,
    check_kind,
    check_writable,
    csv_text,
    printable,
    read_bounded,
    write_atomically,
)


def test_writes_text_and_bytes_and_makes_the_folder(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b.txt", "grüß")
    assert (tmp_path / "a" / "b.txt").read_bytes() == "grüß".encode()
    write_atomically(tmp_path / "a" / "b.txt", b"new")
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b.txt"]


def test_devices_are_written_to_and_stay(tmp_path: Path) -> None:
    device = tmp_path / "null"
    device.symlink_to("/dev/null")
    write_atomically(device, "x")
    assert device.is_char_device()
    if Path("/dev/full").exists():
        full = tmp_path / "full"
        full.symlink_to("/dev/full")
        with pytest.raises(OutputError, match="No space left"):
            write_atomically(full, "x")
        assert full.is_char_device()


def test_the_longest_name_is_written(tmp_path: Path) -> None:
    write_atomically(tmp_path / ("n" * 251 + ".txt"), "x")
    with pytest.raises(OutputError, match="File name too long"):
        write_atomically(tmp_path / ("n" * 252 + ".txt"), "x")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Bänder/é.jpg", "Bänder/é.jpg"),
        ("caf\udce9.jpg", r"caf\udce9.jpg"),  # Latin-1 in a UTF-8 file system
        ("\x1b[2Jx\r\n", r"\x1b[2Jx\r\n"),
        ("\u202egpj", r"\u202egpj"),  # writes from right to left
    ],
)
def test_any_name_can_be_printed(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")
    # A limit on the size of files stands in for a disk that is full.
    code = (
        "import signal, sys; from pathlib import Path\n"
        "from edgecell.errors import OutputError\n"
        "from edgecell.files import write_atomically\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "try: write_atomically(Path(sys.argv[1]), b'x' * 100_000)\n"
        "except OutputError as e: print(e)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )
    assert done.stdout.startswith(f"cannot write {path}")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_check_writable_finds_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        check_writable(tmp_path / "file" / "model.tflite")
    with pytest.raises(OutputError, match="is a folder"):
        check_writable(tmp_path)


def test_check_writable_leaves_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "deep" / "model.tflite")
    assert not list(tmp_path.iterdir())


def test_a_table_as_csv_is_read_back_as_it_was() -> None:
    rows: list[list[object]] = [["a, b", 'say "x"', None], ["line\nbreak", 1.5, "é"]]
    text = csv_text(("one", "two", "three"), rows)
    assert text.startswith("one,two,three\n")
    assert "\r" not in text
    back = list(csv.reader(io.StringIO(text, newline="")))
    assert back[1:] == [["a, b", 'say "x"', ""], ["line\nbreak", "1.5", "é"]]


def test_no_spreadsheet_computes_a_name() -> None:
    computed = ["=1+1", "@anna", "-> LY", "+x", "-inf", "\t=1"]
    plain = ["anna=1", "-", "-0.5", "+1e-5", ""]
    text = csv_text(("name",), [[name] for name in computed + plain])
    back = [row[0] for row in csv.reader(io.StringIO(text)) if row][1:]
    assert back == [f"'{name}" for name in computed] + plain


def test_only_small_regular_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "five").write_bytes(b"12345")
    assert read_bounded(tmp_path / "five", 5) == b"12345"
    for path, most, said in (
        (tmp_path / "five", 4, "is too large: at most 4 bytes"),
        (Path("/dev/zero"), 4, "is not a regular file"),
        (tmp_path, 4, "is not a regular file"),
        (tmp_path / "none", 4, "cannot be read"),
    ):
        with pytest.raises(InputError, match=said):
            read_bounded(path, most)


_HEADS: dict[Kind, bytes] = {
    "CSV": "img_name,größe\na,1\n".encode(),
    "JSON": b'{"a": 1}\n',
    "a .prom file": b"# HELP a b\n",
    "PDF": b"%PDF-1.3\n%\xe9\xeb",
    "PNG": b"\x89PNG\r\n\x1a\n\0\0",
    "JPEG": b"\xff\xd8\xff\xe0\0\x10JFIF",
    "AVI": b"RIFF\0\0\0\0AVI LIST",
    "TFLite": b"\x1c\0\0\0TFL3\x14\0",
    "ONNX": b"\x08\x08\x12\x08edgecell",
    "npz": b"PK\x03\x04\x2d\0",
    "Parquet": b"PAR1\x15\x04",
}
_SESSION = b"SQLite format 3\0\x10\0"


@pytest.mark.parametrize("kind", _HEADS)
def test_only_an_earlier_result_of_the_kind_is_overwritten(
    tmp_path: Path, kind: Kind
) -> None:
    path = tmp_path / "x"
    check_kind(path, kind)
    for replaced in (b"", bytes(9), _HEADS[kind]):
        path.write_bytes(replaced)
        check_kind(path, kind)
    others = [head for other, head in _HEADS.items() if other != kind]
    for kept in (*others, _SESSION, b"GIF89a\1\0", b"RIFF\0\1\0\0WEBPVP8 "):
        path.write_bytes(kept)
        with pytest.raises(OutputError, match="is not overwritten"):
            check_kind(path, kind)
    with pytest.raises(OutputError, match="is for sessions"):
        check_kind(tmp_path / "session.sqlite", kind)


def test_text_may_break_off_within_a_character(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("a" + "ä" * 4096)
    check_kind(tmp_path / "x", "CSV")


def test_a_pipe_is_not_looked_into(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x")
    check_kind(tmp_path / "x", "JSON")
    check_writable(tmp_path / "x")
