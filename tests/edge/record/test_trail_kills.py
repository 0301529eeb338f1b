"""A naming that was shown as saved outlives kill -9, and none is there in part."""

import random
from pathlib import Path

import pytest

from edgecell.edge.record.store import Store
from edgecell.edge.record.trail import open_trail
from tests.edge.record.kills import KILLS, reported_until_killed
from tests.factories import SESSION, rows, tracked

NAME = """
import sys
from pathlib import Path
from edgecell.edge.record.trail import open_trail
with open_trail(Path(sys.argv[1])) as trail:
    print("open", flush=True)
    while True:
        named = trail.name("Anna", [1, 2, 3, 4], "EO", "granules")
        print(named[0].act, flush=True)
        print(trail.undo("Anna")[0].act, flush=True)
"""


@pytest.mark.slow
def test_what_was_shown_as_saved_outlives_kill_9(tmp_path: Path) -> None:
    with Store(tmp_path / "s", SESSION) as store:
        store.write([tracked(n) for n in range(4)])
    rng = random.Random(1)
    acts = 0
    for _ in range(KILLS):
        reported = reported_until_killed(
            NAME, tmp_path / "s", within_s=rng.uniform(0, 0.2)
        )
        with open_trail(tmp_path / "s", "ro") as trail:
            namings = trail.namings()
        by_act = [n.act for n in namings]
        last = max(by_act, default=0)
        # One act may have been done and not yet reported.
        assert last - max(reported, default=acts) in (0, 1)
        assert by_act == [act for act in range(1, last + 1) for _ in range(4)]
        acts = last
    assert acts > KILLS
    assert rows(tmp_path / "s", "PRAGMA integrity_check") == [("ok",)]
