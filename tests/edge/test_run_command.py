import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from edgecell import RESEARCH_USE
from edgecell.cli import cli
from edgecell.edge.pipeline import FoundCell, FrameResult
from edgecell.edge.run_command import rows_table
from edgecell.edge.run_loop import PictureRule, Tally, caption
from edgecell.edge.sources import SAMPLES, Frame
from edgecell.records import Box
from tests.edge.test_overlay import cell

ROOT = Path(__file__).parent.parent.parent
FRAMES = SAMPLES / "frames"
BLANK = np.full((60, 80, 3), 200, np.uint8)

NO_TENSORFLOW = """
import sys
class Ban:
    def find_spec(self, name, path=None, target=None):
        assert name.split(".")[0] not in ("tensorflow", "keras"), name
sys.meta_path.insert(0, Ban())
from edgecell.cli import cli
cli(sys.argv[1:])
"""

FAKE_CAMERA = """
import sys, time, cv2
from edgecell.edge import sources_camera
from edgecell.edge.sources import SAMPLES
images = [cv2.imread(str(p)) for p in sorted((SAMPLES / "frames").glob("bccd*"))]
class Capture:
    n = 0
    def read(self):
        time.sleep(0.01)
        self.n += 1
        return True, images[self.n % len(images)].copy()
    def get(self, key):
        return {cv2.CAP_PROP_FRAME_WIDTH: 640, cv2.CAP_PROP_FRAME_HEIGHT: 480}[key]
    def release(self): pass
sources_camera.open_camera = lambda number: Capture()
from edgecell.cli import cli
cli(["run", "0", *sys.argv[1:]])
"""


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["run", *map(str, arguments)])


def script(code: str, *arguments: str | Path) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


def records(folder: Path) -> list[dict[str, Any]]:
    """All records; each line has to be whole."""
    text = (folder / "cells.jsonl").read_text()
    assert not text or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def test_the_demo_needs_no_tensorflow_and_little_time(tmp_path: Path) -> None:
    start = time.monotonic()
    done = subprocess.run(
        script(NO_TENSORFLOW, "run", "demo", "--out", "out", "--json", "s.json"),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - start < 30, "10 s on a machine that is not testing"
    summary = json.loads((tmp_path / "s.json").read_text())
    cells = records(tmp_path / "out")
    assert len(cells) == summary["cells"]
    cut = sum(r["cut_by_border"] for r in cells)
    counted = sum(summary["counts"].values()) + sum(summary["sightings"].values())
    assert summary["cut_by_border"] == cut
    assert counted == len(cells) - cut
    assert {r["model_sha256"] for r in cells} == {summary["model_sha256"]}
    stills = {r["frame"] for r in cells if r["time_s"] is None}
    pictures = {int(p.stem) for p in (tmp_path / "out" / "frames").iterdir()}
    assert stills <= pictures
    assert len(pictures) == summary["pictures"]
    assert summary["frames"] > len(pictures), "not every frame of the clip"
    assert done.stdout.splitlines()[-1] == RESEARCH_USE
    assert "Results: out" in done.stdout
    assert len(done.stdout.splitlines()) < 80


def test_json_to_standard_output_comes_alone(tmp_path: Path) -> None:
    result = invoke(FRAMES / "pbc_1.jpg", "--out", tmp_path / "o", "--json", "-")
    assert result.exit_code == 0
    summary = json.loads(result.stdout)
    assert summary["source"].endswith("pbc_1.jpg")
    assert summary["frames"] == 1
    assert summary["skipped"] == []


def test_the_table_names_cells_as_the_records_do(tmp_path: Path) -> None:
    result = invoke(FRAMES / "bccd_1.jpg", "--out", tmp_path / "o")
    cells = records(tmp_path / "o")
    assert result.exit_code == 0
    for record in cells:
        x = (record["box"][0] + record["box"][2]) / 2
        best, second, _ = record["top"]
        (line,) = [
            line
            for line in result.stdout.splitlines()
            if f" {x:.0f}," in line and "bccd_1.jpg" in line
        ]
        assert f" {best['code']}" in line
        assert f"{best['probability']:.0%}" in line
        assert f"{second['code']} {second['probability']:.0%}" in line


def test_a_folder_with_a_broken_image_is_done_and_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jpg").write_bytes((FRAMES / "pbc_1.jpg").read_bytes())
    (folder / "b.jpg").write_bytes(b"no image")
    result = invoke(folder, "--out", tmp_path / "o")
    assert result.exit_code == 0
    assert "left out: b.jpg" in result.stdout
    assert {r["name"] for r in records(tmp_path / "o")} == {"a.jpg"}


def test_a_frame_without_cells_is_no_error(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "blank.png"), BLANK)
    result = invoke(tmp_path / "blank.png", "--out", tmp_path / "o")
    assert result.exit_code == 0
    assert "No white cells" in result.stdout
    assert records(tmp_path / "o") == []
    assert (tmp_path / "o" / "frames" / "000000.jpg").exists()


def test_max_frames_ends_early(tmp_path: Path) -> None:
    out = tmp_path / "o"
    result = invoke("demo", "--out", out, "--max-frames", "2", "--json", "-")
    assert json.loads(result.stdout)["frames"] == 2
    assert {r["frame"] for r in records(out)} == {0, 1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.jpg"], "does not exist"),
        (["96"], "camera 96 does not answer"),
        (["empty"], "holds no image"),
        (["broken"], "none of the 2 images"),
        (["text.jpg"], "not an image"),
        (["demo", "--model", "text.jpg"], "not a TFLite model"),
        (["demo", "--model", "missing.tflite"], "does not exist"),
        (["demo", "--out", "/dev/full"], "cannot write"),
        (["demo", "--out", "empty/.."], "not empty"),
        (["demo", "--red-cell-px", "nan"], "red cell"),
        (["demo", "--json", "text.jpg/s.json"], "cannot write"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    for name in ("text.jpg", "broken/a.jpg", "broken/b.png"):
        (tmp_path / name).write_text("text")
    before = sorted(tmp_path.rglob("*"))
    out = [] if "--out" in arguments else ["--out", "out"]
    result = invoke(*arguments, *out)
    assert result.exit_code == 1
    errors = [x for x in result.output.splitlines() if x.startswith("Error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in result.output
    assert sorted(tmp_path.rglob("*")) == before


def test_a_full_disk_keeps_what_is_whole(tmp_path: Path) -> None:
    limited = "import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (20000, -1))\n"
    done = subprocess.run(
        script(limited + NO_TENSORFLOW, "run", "demo", "--out", tmp_path / "o"),
        capture_output=True,
        text=True,
        env=environment(),
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Error: cannot write")
    assert "Traceback" not in done.stderr
    assert records(tmp_path / "o")
    left = list((tmp_path / "o").rglob("*.*"))
    assert all(p.suffix in (".jsonl", ".jpg") and p.name[0] != "." for p in left)


def start_camera(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    """Starts a run on a camera that never ends; returns once it has seen cells."""
    process = subprocess.Popen(
        script(FAKE_CAMERA, "--out", tmp_path / "o", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    cells = tmp_path / "o" / "cells.jsonl"
    deadline = time.monotonic() + 60
    while not (cells.exists() and cells.stat().st_size > 2000):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


@pytest.mark.parametrize("arguments", [[], ["--json", "-"]], ids=["table", "json"])
def test_ctrl_c_ends_a_camera_cleanly(tmp_path: Path, arguments: list[str]) -> None:
    process = start_camera(tmp_path, *arguments)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    cells = records(tmp_path / "o")
    if arguments:
        assert json.loads(out)["cells"] == len(cells)
    else:
        assert "camera 0" in out
        assert f"cells.jsonl: {len(cells)}" in out
        assert out.splitlines()[-1] == RESEARCH_USE


def test_a_killed_run_leaves_whole_lines_and_pictures(tmp_path: Path) -> None:
    process = start_camera(tmp_path)
    process.kill()
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    assert records(tmp_path / "o")
    pictures = list((tmp_path / "o" / "frames").glob("*.jpg"))
    assert pictures
    for path in pictures:
        if not path.name.startswith("."):
            assert path.read_bytes().endswith(b"\xff\xd9")


def result_at(
    time_s: float | None, cells: int = 1, index: int = 0, name: str = "v"
) -> FrameResult:
    found: list[FoundCell] = [cell(Box(0, 0, 9, 9)) for _ in range(cells)]
    return FrameResult(Frame(index, time_s, BLANK, name), tuple(found))


def test_pictures_are_at_most_one_a_second_of_a_moving_picture() -> None:
    rule = PictureRule()
    taken = [i for i in range(35) if rule.takes(result_at(i / 10))]
    assert taken == [0, 10, 20, 30]
    assert rule.takes(result_at(0.0, name="w")), "another video starts anew"
    assert not rule.takes(result_at(9.0, cells=0))
    assert all(rule.takes(result_at(None, cells=0)) for _ in range(3)), "stills"


def test_the_tally_counts_stills_and_only_sights_in_videos() -> None:
    tally = Tally()
    box = Box(0, 0, 9, 9)
    still = [cell(box), cell(box), cell(box, cut_by_border=True)]
    tally.add(FrameResult(Frame(0, None, BLANK, "a"), tuple(still)))
    tally.add(FrameResult(Frame(1, 0.1, BLANK, "v"), (cell(box),)))
    tally.add(FrameResult(Frame(2, 0.2, BLANK, "v"), ()))
    d = tally.to_dict()
    assert (d["frames"], d["cells"], d["cut_by_border"]) == (3, 4, 1)
    assert d["counts"] == {"SNE": 2}
    assert d["sightings"] == {"SNE": 1}
    json.dumps(d)


def test_a_long_table_is_cut_off() -> None:
    record = cell(Box(0, 0, 9, 9), name="a-very-long-name-indeed.jpg").record
    lines = rows_table([record] * 100)
    assert len(lines) == 63
    assert "40 more" in lines[-2]
    assert max(map(len, lines)) < 100
    assert rows_table([]) == []


def test_captions_are_ascii() -> None:
    frame = Frame(3, 1.25, BLANK, "Präparat.avi")
    assert caption(frame) == "Pr?parat.avi, frame 3, 1.2 s"
