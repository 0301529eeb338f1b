"""`scripts/soak`, for a moment; run it by itself before a release."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("pairs", "--count", "2"), "pair: 2 tried, 0 with faults"),
        (("kills", "--count", "3"), "kill: 3 tried, 0 with faults"),
        (("stale", "--seconds", "8", "--camera", "http"), 'http: {"frames_in"'),
        (("stale", "--seconds", "8", "--camera", "rtsp"), 'rtsp: {"frames_in"'),
    ],
)
def test_nothing_is_lost_and_nothing_is_stale(options: list[str], said: str) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/soak", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert said in done.stdout
