"""Viewers of the live page, to measure what they take from the loop."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from edgecell.edge.page.app import create_app
from edgecell.edge.page.people.accounts import Person
from edgecell.edge.page.people.guard import Door
from edgecell.edge.page.serve import listening, served
from edgecell.edge.page.watch.live import Live

# A viewer is a process of its own, as a browser is: it reads the stream and asks for
# the state once a second.
_VIEWER = """
import http.client, sys, threading, time
port = int(sys.argv[1])
def poll():
    connection = http.client.HTTPConnection("127.0.0.1", port)
    while True:
        connection.request("GET", "/live/state")
        connection.getresponse().read()
        time.sleep(1)
threading.Thread(target=poll, daemon=True).start()
connection = http.client.HTTPConnection("127.0.0.1", port)
connection.request("GET", "/live/stream?show=maps")
stream = connection.getresponse()
print("watching", flush=True)
while stream.read1(65536):
    pass
"""


@contextmanager
def watched(root: Path, viewers: int) -> Iterator[Live]:
    """The page with viewers, beside a loop.

    Args:
        root: folder of sessions.
        viewers: processes that watch.

    Yields:
        An observer for the loop.
    """
    live = Live()
    door = Door("127.0.0.1", 0, everybody=Person("bench", "view"))
    taken = listening(door)
    port = str(taken.getsockname()[1])
    with served(create_app(root, door, None, live), taken, None), ExitStack() as stack:
        for _ in range(viewers):
            command = [sys.executable, "-c", _VIEWER, port]
            process = stack.enter_context(
                subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            )
            stack.callback(process.kill)
            assert process.stdout is not None
            process.stdout.readline()
        yield live
