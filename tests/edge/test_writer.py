import json
import subprocess
import sys
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgecell.edge.writer import ResultFolder, default_folder
from edgecell.errors import OutputError, SourceError
from edgecell.records import Box
from tests.edge.test_overlay import cell

PICTURE = np.full((60, 80, 3), 120, np.uint8)
ROOT = Path(__file__).parent.parent.parent
RECORD = cell(Box(1, 2, 30, 40)).record


def test_lines_and_pictures_are_there_at_once(tmp_path: Path) -> None:
    with ResultFolder(tmp_path / "a" / "b") as folder:
        folder.write_cells([RECORD, RECORD])
        folder.write_cells([])
        folder.write_picture(7, PICTURE)
        # Before the folder is closed: a crash now would lose nothing.
        lines = (folder.path / "cells.jsonl").read_text().splitlines()
        assert [json.loads(line)["box"] for line in lines] == [[1, 2, 30, 40]] * 2
        image = cv2.imread(str(folder.path / "frames" / "000007.jpg"))
        assert image is not None
        assert image.shape == PICTURE.shape


def test_no_result_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "theirs.txt").write_text("x")
    with pytest.raises(OutputError, match="not empty"), ResultFolder(tmp_path):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["theirs.txt"]


def test_default_folders_are_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    now = datetime(2025, 3, 4, 5, 6, 7)
    first = default_folder("clip", now)
    assert first == Path("edgecell-out/clip-20250304-050607")
    first.mkdir(parents=True)
    second = default_folder("clip", now)
    second.mkdir()
    assert len({first, second, default_folder("clip", now)}) == 3


def test_a_failure_before_the_first_record_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(SourceError), ResultFolder(tmp_path / "out"):
        raise SourceError("all broken")
    assert not (tmp_path / "out").exists()
    (tmp_path / "given").mkdir()
    with pytest.raises(SourceError), ResultFolder(tmp_path / "given"):
        raise SourceError("all broken")
    assert list((tmp_path / "given").iterdir()) == []


def test_a_later_failure_keeps_what_was_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ExitStack() as stack:
        folder = stack.enter_context(ResultFolder(tmp_path / "out"))
        folder.write_cells([RECORD])
        stack.pop_all().__exit__(SourceError, SourceError("cable"), None)
    assert len((tmp_path / "out" / "cells.jsonl").read_text().splitlines()) == 1
    assert str(tmp_path / "out") in caplog.text


@pytest.mark.parametrize("place", ["/dev/full", "/proc/nowhere", "{}/file/out"])
def test_a_place_that_takes_no_folder_is_an_error(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(OutputError, match=r"cannot write to .*; make room or name"),
        ResultFolder(Path(place.format(tmp_path))),
    ):
        pass


def test_a_picture_that_no_jpeg_can_be_is_an_error(tmp_path: Path) -> None:
    wide = np.zeros((1, 70_000, 3), np.uint8)
    with (
        ResultFolder(tmp_path / "out") as folder,
        pytest.raises(OutputError, match="70000x1"),
    ):
        folder.write_picture(0, wide)


FILL = """
import resource, sys
from pathlib import Path
from edgecell.edge.writer import ResultFolder
from edgecell.errors import OutputError
from tests.edge.test_writer import RECORD
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
with ResultFolder(Path(sys.argv[1])) as folder:
    for n in range(100):
        try:
            folder.write_cells([RECORD] * 3)
        except OutputError as e:
            print(n, e)
            break
"""


@pytest.mark.parametrize("limit", [100, 3000, 5555])
def test_a_full_disk_leaves_whole_frames(tmp_path: Path, limit: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(tmp_path / "out"), str(limit)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    written, message = done.stdout.split(" ", 1)
    assert "File too large" in message
    lines = (tmp_path / "out" / "cells.jsonl").read_text().splitlines()
    assert len(lines) == 3 * int(written)
    assert all(json.loads(line)["box"] == [1, 2, 30, 40] for line in lines)
