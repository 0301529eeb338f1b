"""A killed server loses no naming that it had answered."""

import http.client
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import urlencode

import pytest

from edgecell.edge.page.library import key_of
from edgecell.edge.record.trail import open_trail
from tests.edge.page.conftest import CELLS

ROOT = Path(__file__).parent.parent.parent.parent
LABELS = ("LY", "MO", "EO", "BA")

SERVE = """
import sys
from pathlib import Path
from edgecell.edge.page.app import create_app
from edgecell.edge.page.people.accounts import Person
from edgecell.edge.page.people.guard import Door
from edgecell.edge.page.serve import listening, serve
door = Door("127.0.0.1", int(sys.argv[2]), everybody=Person("ann", "manage"))
taken = listening(door)
app = create_app(Path(sys.argv[1]), door, None)
print("up", flush=True)
serve(app, taken, None)
"""


def start(root: Path, port: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(root), str(port)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


def name_until_it_dies(port: int, base: str, saved: list[tuple[int, str]]) -> None:
    """Names cells one after the other; notes those that were answered as saved."""
    origin = f"http://127.0.0.1:{port}"
    headers = {"Origin": origin, "Content-Type": "application/x-www-form-urlencoded"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with closing(connection), suppress(OSError, http.client.HTTPException):
        while True:
            cell, label = random.randint(1, CELLS), random.choice(LABELS)
            body = urlencode({"cells": cell, "label": label})
            connection.request("POST", f"{base}/name", body, headers)
            with connection.getresponse() as answer:
                said = answer.read().decode()
            if answer.status == 200 and f'id="c{cell}"' in said:
                saved.append((cell, label))


def check(folder: Path, kills: int) -> None:
    saved: list[tuple[int, str]] = []
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    base = f"/s/{key_of(folder)}"
    for kill in range(kills):
        process = start(folder.parent, port)
        client = threading.Thread(target=name_until_it_dies, args=(port, base, saved))
        before = len(saved)
        client.start()
        while len(saved) < before + 1 + kill % 3 and client.is_alive():
            time.sleep(0.001)
        time.sleep(random.random() / 50)  # anywhere within the next one
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        client.join(30)
        with open_trail(folder, "ro") as trail:
            kept = [(n.cell, n.label) for n in trail.namings()]
        at = iter(kept)
        assert all(row in at for row in saved), "each that was shown as saved, in order"
        assert len(kept) <= len(saved) + kill + 1, "and at most one that was in hand"
    assert len(saved) >= kills


def test_kill_9_loses_no_naming_that_was_shown_as_saved(folder: Path) -> None:
    check(folder, 4)


@pytest.mark.slow
def test_a_hundred_kills_lose_none(folder: Path) -> None:
    check(folder, 100)
