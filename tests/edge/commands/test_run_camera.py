"""`edgecell run` at a network camera, in real processes."""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgecell import RESEARCH_USE
from edgecell.edge.sources import SAMPLES
from edgecell.edge.sources.still import read_image
from tests.edge.commands.processes import NO_TENSORFLOW, environment, recorded, script
from tests.edge.sources.servers import MjpegServer
from tests.factories import rows

FRAMES = SAMPLES / "frames"


@pytest.fixture
def camera() -> Iterator[MjpegServer]:
    """A network camera that shows the sample frames."""
    paths = sorted(FRAMES.glob("bccd*"))
    pictures = [cv2.resize(read_image(path), (640, 480)) for path in paths]
    with MjpegServer([np.asarray(p, np.uint8) for p in pictures]) as server:
        yield server


def start(
    camera: MjpegServer, folder: Path, *arguments: str | Path
) -> subprocess.Popen[str]:
    """Starts a run at a camera; returns once it has recorded frames."""
    health = folder / "health.json"
    process = subprocess.Popen(
        script(
            NO_TENSORFLOW,
            *("run", camera.address, "--out", folder / "o", "--health", health),
            *arguments,
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    wait_until(process, lambda: health_of(folder).get("recorded", 0) > 5)
    return process


def health_of(folder: Path) -> dict[str, Any]:
    path = folder / "health.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def wait_until(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("arguments", [[], ["--json", "-"]], ids=["table", "json"])
def test_a_signal_ends_a_camera_cleanly(
    camera: MjpegServer, tmp_path: Path, number: int, arguments: list[str]
) -> None:
    process = start(camera, tmp_path, *arguments)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert err == ""
    assert rows(tmp_path / "o", "SELECT end_reason FROM session") == [("stopped",)]
    final = health_of(tmp_path)
    assert final["recorded"] == final["analysed"] == len(recorded(tmp_path / "o"))
    assert (tmp_path / "o" / "differential.json").exists()
    if arguments:
        assert json.loads(out)["health"]["recorded"] == final["recorded"]
    else:
        assert f"({final['recorded']} frames recorded" in out
        assert out.splitlines()[-1] == RESEARCH_USE


def test_a_killed_run_leaves_whole_records_and_pictures(
    camera: MjpegServer, tmp_path: Path
) -> None:
    process = start(camera, tmp_path)
    reported = health_of(tmp_path)["recorded"]
    process.kill()
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    assert len(recorded(tmp_path / "o")) >= reported
    for path in (tmp_path / "o" / "frames").glob("[0-9]*.jpg"):
        assert path.read_bytes().endswith(b"\xff\xd9")


@pytest.mark.slow
def test_a_camera_that_is_away_for_a_while(camera: MjpegServer, tmp_path: Path) -> None:
    """Nothing is classified or filmed as live meanwhile, and it goes on by itself."""
    process = start(camera, tmp_path, "--video", tmp_path / "film.avi", "--json", "-")
    wait_until(process, (tmp_path / "film.avi").exists)  # with the first picture
    camera.stop()
    wait_until(process, lambda: health_of(tmp_path)["source"].startswith("lost: "))
    before = health_of(tmp_path)["analysed"]
    time.sleep(3.5)
    assert health_of(tmp_path)["analysed"] == before
    assert health_of(tmp_path)["fps"] == 0
    length = (tmp_path / "film.avi").stat().st_size
    camera.start()
    wait_until(process, lambda: health_of(tmp_path)["analysed"] > before)
    # A signal leaves out pictures that wait: let the film have the first one.
    wait_until(process, lambda: (tmp_path / "film.avi").stat().st_size > length)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    summary = json.loads(out)
    assert summary["health"]["reconnects"] == 1
    assert "trying again" in err
    assert "is back" in err
    (oldest,) = rows(tmp_path / "o", "SELECT max(age_ms) FROM sightings")[0]
    assert oldest < 2000
    times = [t for (t,) in rows(tmp_path / "o", "SELECT time_s FROM frames")]
    assert max(b - a for a, b in pairwise(times)) > 2.5, "session time goes on"
    film = cv2.VideoCapture(str(tmp_path / "film.avi"))
    dark = 0
    while (grabbed := film.read())[0]:
        dark += bool(np.median(grabbed[1]) < 80)
    assert dark > 15, "the film says that there was no signal"
