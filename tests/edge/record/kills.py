"""Real processes that are killed at a moment that they can't foresee."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[3]
KILLS = int(os.environ.get("EDGECELL_KILLS", "8"))
"""Processes that a test kills; 50 were once done."""


def reported_until_killed(code: str, *arguments: object, within_s: float) -> list[int]:
    """Runs a program and kills it.

    Args:
        code: the program; it prints 'open' once it is ready, then a number for
            everything that it did.
        arguments: on its command line.
        within_s: seconds from 'open' to the kill.

    Returns:
        The numbers that it printed.
    """
    with subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        time.sleep(within_s)
        process.send_signal(signal.SIGKILL)
        text = process.stdout.read()
    # a line that the kill cut in half reports nothing
    return [int(number) for number in text[: text.rfind("\n") + 1].split()]
