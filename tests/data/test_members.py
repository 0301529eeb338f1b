import os
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from edgecell.data.members import open_files
from edgecell.errors import InputError

HIDDEN = (
    ".Trash-1000/files/BA/1.jpg",
    "set/EO/.ipynb_checkpoints/1.jpg",
    "set/EO/._1.jpg",
    "set/.DS_Store",
    "__MACOSX/set/EO/._1.jpg",
    "$RECYCLE.BIN/BA/1.jpg",
    "set/@eaDir/1.jpg/SYNOPHOTO_THUMB_XL.jpg",
)
SHOWN = ("set/BA/2.jpg", "set/EO/1.jpg", "set/notes.txt")


def fill(root: Path) -> Path:
    for name in (*HIDDEN, *SHOWN):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def packed(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, name)
    return path


def contents(root: Path) -> dict[str, bytes]:
    with open_files(root) as files:
        return {str(path): read() for path, read in files.items()}


def test_what_is_hidden_is_no_data(tmp_path: Path) -> None:
    expected = {name: name.encode() for name in SHOWN}
    assert contents(fill(tmp_path / "in")) == expected
    assert contents(packed(tmp_path / "in.zip", *HIDDEN, *SHOWN)) == expected
    assert contents(fill(tmp_path / ".hidden")) == expected  # since it was named


def test_archives_packed_with_the_wrong_slash(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", "set\\", "set\\BA\\2.jpg")
    assert contents(path) == {"set/BA/2.jpg": b"set\\BA\\2.jpg"}


def test_links_are_followed_once(tmp_path: Path) -> None:
    fill(tmp_path / "in")
    data = tmp_path / "data"
    data.mkdir()
    (data / "BA").symlink_to(tmp_path / "in" / "set" / "BA")
    (data / "loop").symlink_to(data)
    (data / "gone.jpg").symlink_to(tmp_path / "nowhere")
    assert set(contents(data)) == {"BA/2.jpg"}


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    os.mkfifo(tmp_path / "in" / "a.jpg")
    assert contents(tmp_path / "in") == {}


def test_a_file_that_vanishes_is_told(tmp_path: Path) -> None:
    with open_files(fill(tmp_path / "in")) as files:
        (tmp_path / "in" / "set" / "EO" / "1.jpg").unlink()
        with pytest.raises(InputError, match=r"1\.jpg"):
            files[PurePosixPath("set/EO/1.jpg")]()


def test_what_is_no_data_set(tmp_path: Path) -> None:
    for name in ("none", "none.zip"):
        with pytest.raises(InputError, match="does not exist"):
            contents(tmp_path / name)
    (tmp_path / "x.zip").write_text("x")
    with pytest.raises(InputError, match=r"x\.zip is damaged or not a ZIP file"):
        contents(tmp_path / "x.zip")
