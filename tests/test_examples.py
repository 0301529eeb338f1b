"""The examples do what they say, as their reader runs them."""

import csv
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

from tests.factories import SAMPLES

ROOT = Path(__file__).parent.parent


def run(
    script: str, *words: str, check: bool = True
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "examples" / script), *words],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=check,
    )


def test_without_arguments_they_print_their_usage() -> None:
    for script in ("folder_to_table.py", "annotate_frame.py"):
        done = run(script, check=False)
        assert done.returncode == 1
        assert f"python examples/{script}" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_folder_of_cells_becomes_a_table(tmp_path: Path) -> None:
    for name in ("EO_1.jpg", "LY_1.jpg"):
        (tmp_path / name).write_bytes((SAMPLES / "cells" / name).read_bytes())
    (tmp_path / "notes.txt").write_text("not an image")
    done = run("folder_to_table.py", str(tmp_path))
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert [row["file"] for row in rows] == ["EO_1.jpg", "LY_1.jpg"]
    assert [row["class"] for row in rows] == ["EO", "LY"]
    assert "notes.txt" in done.stderr


def test_a_frame_becomes_an_annotated_picture(tmp_path: Path) -> None:
    frame, picture = SAMPLES / "frames" / "bccd_1.jpg", tmp_path / "drawn.png"
    done = run("annotate_frame.py", str(frame), str(picture))
    before, after = cv2.imread(str(frame)), cv2.imread(str(picture))
    assert before is not None
    assert after is not None
    assert after.shape == before.shape
    assert np.any(after != before)
    assert "For research use only" in done.stdout
