"""The store's file after a full disk and after kill -9, in real processes."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.edge.record.kills import KILLS, ROOT, reported_until_killed
from tests.factories import rows

WRITE = """
import resource, sys
from pathlib import Path
from edgecell.edge.record.store import Store
from edgecell.errors import OutputError
from tests.factories import SESSION, tracked
if int(sys.argv[2]):
    limit = int(sys.argv[2]), resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
try:
    with Store(Path(sys.argv[1]), SESSION) as store:
        print("open", flush=True)
        for n in range(0, 10**6, 2):
            store.write([tracked(n), tracked(n + 1)])
            print(n, flush=True)
except OutputError as e:
    print(e)
"""


def check_store(folder: Path, reported: list[int]) -> int:
    """Whether it is sound and holds what was reported; number of frames beyond."""
    assert rows(folder, "PRAGMA integrity_check") == [("ok",)]
    assert rows(folder, "PRAGMA foreign_key_check") == []
    frames = [row[0] for row in rows(folder, "SELECT frame FROM frames")]
    assert frames == list(range(len(frames))), "none missing, none twice"
    for table, column in (
        ("cells", "cell - 1"),
        ("decisions", "cell - 1"),
        ("sightings", "frame"),
        ("sightings JOIN crops USING (sighting)", "frame"),
    ):
        kept = rows(folder, f"SELECT {column} FROM {table} ORDER BY 1")
        assert [row[0] for row in kept] == frames, f"{table} are whole"
    return len(frames) - 2 * len(reported)


# From no room for the schema to room for some frames.
@pytest.mark.parametrize("limit", [2_000, 30_000, 250_000, 500_000])
def test_a_full_disk_leaves_whole_frames(tmp_path: Path, limit: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WRITE, str(tmp_path / "out"), str(limit)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    *reported, message = done.stdout.splitlines()
    assert "cannot write to" in message
    assert "make room" in message
    if reported[1:]:
        assert check_store(tmp_path / "out", [int(n) for n in reported[1:]]) == 0
    else:
        assert limit < 100_000
        assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_what_was_reported_outlives_kill_9(tmp_path: Path) -> None:
    rng = random.Random(1)
    written = 0
    for run in range(KILLS):
        folder = tmp_path / str(run)
        reported = reported_until_killed(WRITE, folder, 0, within_s=rng.uniform(0, 0.4))
        # One transaction may have been done and not yet reported.
        assert check_store(folder, reported) in (0, 2)
        written += len(reported)
    assert written > KILLS
