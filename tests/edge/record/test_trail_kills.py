"""A naming that was shown as saved outlives kill -9, and none is there in part."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from edgecell.edge.record.store import Store
from edgecell.edge.record.trail import open_trail
from tests.factories import SESSION, rows, tracked

ROOT = Path(__file__).parents[3]
KILLS = int(os.environ.get("EDGECELL_KILLS", "3"))
"""Namings that are broken off; 100 were once done."""

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


def test_what_was_shown_as_saved_outlives_kill_9(tmp_path: Path) -> None:
    with Store(tmp_path / "s", SESSION) as store:
        store.write([tracked(n) for n in range(4)])
    rng = random.Random(1)
    acts = 0
    for _ in range(KILLS):
        with subprocess.Popen(
            [sys.executable, "-c", NAME, str(tmp_path / "s")],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
            time.sleep(rng.uniform(0, 0.2))
            process.send_signal(signal.SIGKILL)
            text = process.stdout.read()
        # a line that the kill cut in half reports nothing
        reported = [int(act) for act in text[: text.rfind("\n") + 1].split()]
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
