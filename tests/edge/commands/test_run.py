import json
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from edgecell import RESEARCH_USE
from edgecell.cli import cli
from edgecell.edge.record.sessions import open_session
from edgecell.edge.sources import SAMPLES
from edgecell.image.preprocess import Bgr
from edgecell.model.modelfile import bundled_model
from tests.edge.commands.processes import NO_TENSORFLOW, environment, recorded, script
from tests.factories import rows

ROOT = Path(__file__).parents[3]
FRAMES = SAMPLES / "frames"
BLANK = Bgr(np.full((60, 80, 3), 200, np.uint8))


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["run", *map(str, arguments)])


def test_the_demo_needs_no_tensorflow(tmp_path: Path) -> None:
    done = subprocess.run(
        script(NO_TENSORFLOW, "run", "demo", "--out", "out", "--json", "s.json"),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "s.json").read_text())
    out = tmp_path / "out"
    assert recorded(out) == list(range(summary["frames"])), "a file loses no frame"
    assert summary["health"]["dropped"] == summary["health"]["overflowed"] == 0
    differential = json.loads((out / "differential.json").read_text())
    assert summary["differential"] == differential
    accepted = rows(out, "SELECT count(*) FROM decisions WHERE reasons = '[]'")[0][0]
    counted = sum(
        row["count"] for row in differential["classes"] if "+" not in row["class"]
    )
    assert 0 < counted <= accepted < summary["classified"], "each cell once"
    assert (out / "differential.csv").read_text().startswith("class,")
    assert rows(out, "SELECT end_reason FROM session") == [("end of source",)]
    pictures = {int(p.stem) for p in (out / "frames").glob("??????.jpg")}
    stills = {n for (n,) in rows(out, "SELECT frame FROM frames WHERE time_s IS NULL")}
    assert stills <= pictures
    assert len(pictures) == summary["pictures"]
    assert summary["frames"] > len(pictures), "not every frame of the clip"
    assert done.stdout.splitlines()[-1] == RESEARCH_USE
    assert "Results: out" in done.stdout
    assert len(done.stdout.splitlines()) < 100


def test_json_to_standard_output_comes_alone(tmp_path: Path) -> None:
    result = invoke(FRAMES / "pbc_1.jpg", "--out", tmp_path / "o", "--json", "-")
    assert result.exit_code == 0
    summary = json.loads(result.stdout)
    assert summary["source"].endswith("pbc_1.jpg")
    assert summary["frames"] == 1
    assert summary["skipped"] == []
    with open_session(tmp_path / "o") as session:
        decisions, places = session.decisions(), session.places()
    assert decisions
    for cell, decision in zip(summary["cells"], decisions, strict=True):
        assert (cell["cell"], cell["class"]) == (decision.cell, decision.code)
        assert cell["probability"] == decision.probability
        assert 0 <= cell["runner_up_probability"] <= cell["probability"]
        assert cell["runner_up"] != cell["class"]
        assert cell["review"] == list(decision.reasons)
        box = places[decision.cell].box
        assert box is not None
        assert [cell["x"], cell["y"]] == list(box.centre)
        assert (cell["frame"], cell["name"]) == (0, "pbc_1.jpg")


def test_the_table_names_cells_as_the_record_does(tmp_path: Path) -> None:
    result = invoke(FRAMES / "bccd_1.jpg", "--out", tmp_path / "o")
    assert result.exit_code == 0
    found = rows(
        tmp_path / "o",
        "SELECT x0 + x1, code, probability FROM sightings JOIN decisions USING (cell)",
    )
    assert found
    for twice_x, code, probability in found:
        (line,) = [
            line
            for line in result.stdout.splitlines()
            if f" {twice_x / 2:.0f}," in line and "bccd_1.jpg" in line
        ]
        assert f" {code}" in line
        assert f"{probability:.0%}" in line


def test_a_folder_with_a_broken_image_is_done_and_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jpg").write_bytes((FRAMES / "pbc_1.jpg").read_bytes())
    (folder / "b.jpg").write_bytes(b"no image")
    result = invoke(folder, "--out", tmp_path / "o")
    assert result.exit_code == 0
    assert "1 could not be read and were left out: b.jpg" in result.stdout
    assert recorded(tmp_path / "o") == [0]


def test_a_frame_that_is_not_fit_is_recorded_with_its_reason(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "blank.png"), BLANK)
    result = invoke(tmp_path / "blank.png", "--out", tmp_path / "o")
    assert result.exit_code == 0
    assert "Frames not judged: empty field 1" in result.stdout
    assert rows(tmp_path / "o", "SELECT gate, found FROM frames") == [
        ("empty field", 0)
    ]
    assert (tmp_path / "o" / "frames" / "000000.jpg").exists()


def test_max_frames_ends_early(tmp_path: Path) -> None:
    out = tmp_path / "o"
    result = invoke("demo", "--out", out, "--max-frames", "2", "--json", "-")
    assert json.loads(result.stdout)["frames"] == 2
    assert recorded(out) == [0, 1]


def test_a_target_ends_the_count(tmp_path: Path) -> None:
    out = tmp_path / "o"
    cells = bundled_model().parent / "cells"
    result = invoke(cells, "--out", out, "--target", "3", "--json", "-")
    summary = json.loads(result.stdout)
    assert summary["microscope"] == "known (pbc)"
    assert summary["ended"] == "target reached"
    assert summary["differential"]["white_cells"] >= 3
    assert summary["frames"] < 24


def test_the_demo_tells_which_microscopes_the_model_knows(tmp_path: Path) -> None:
    """PBC and Raabin are known; BCCD had too few cells to be, and BCD none."""
    out = tmp_path / "o"
    assert "Microscope: " in invoke("demo", "--out", out).stdout
    with open_session(out) as session:
        told, decisions = session.told(), session.decisions()
        (accepted,) = ({d.cell for d in decisions if not d.reasons},)
        sizes = {
            d.cell: {s.name.partition("_")[0] for s in session.sightings(d.cell)}
            for d in decisions
        }
    kinds = {size: verdict.kind for size, verdict in told.items()}
    assert kinds.pop((360, 363), "known") == "known"
    assert accepted
    assert all(sizes[cell] <= {"pbc", "raabin"} for cell in accepted)
    assert {"unknown"} <= set(kinds.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.jpg"], "does not exist"),
        (["96"], "camera-96 does not answer"),
        (["empty"], "holds no image"),
        (["broken"], "none of the 2 images"),
        (["text.jpg"], "not an image"),
        (["demo", "--model", "text.jpg"], "not a TFLite model"),
        (["demo", "--model", "missing.tflite"], "does not exist"),
        (["demo", "--out", "/dev/full"], "cannot write"),
        (["demo", "--out", "empty/.."], "not empty"),
        (["demo", "--red-cell-px", "1e9"], "red cell"),
        (["demo", "--json", "text.jpg/s.json"], "cannot write"),
        (["demo", "--video", "text.mp4"], "must end in .avi"),
        (["demo", "--keep", "much"], "much"),
        (["rtsp://"], "followed by a host"),
        (["demo", "--watch"], "only a folder or a glob"),
        (["http://127.0.0.1:9/x"], "does not answer"),
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


def test_a_bound_on_disk_use_and_a_film_without_end_are_refused() -> None:
    bound, film = ("--keep", "5GB"), ("--video", "f.avi")
    for options in ((*bound, *film), (*film, *bound)):
        result = invoke("demo", *options)
        assert result.exit_code == 1
        assert "leave out one" in result.output


def test_a_full_disk_stops_the_recording_and_not_the_loop(tmp_path: Path) -> None:
    limited = "import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (400_000, -1))\n"
    done = subprocess.run(
        script(
            limited + NO_TENSORFLOW,
            *("run", "demo", "--out", tmp_path / "o", "--json", "-"),
        ),
        capture_output=True,
        text=True,
        env=environment(),
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 1
    assert "recording is held up: " in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: cannot write")
    assert "Traceback" not in done.stderr
    summary = json.loads(done.stdout)
    assert summary["ended"] == "end of source"
    assert summary["health"]["recording"].startswith("cannot write")
    written = recorded(tmp_path / "o")
    assert len(written) == summary["health"]["recorded"] < summary["frames"]
    assert written == list(range(len(written)))
