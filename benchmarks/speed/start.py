"""How long it takes to start: the command's help, and a run's first result.

python -m edgecell.benchmarks start --out benchmarks/results/start.json
"""

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

import edgecell
from edgecell.benchmarks.latency import Machine, this_machine
from edgecell.cli import OutputFile, PoliteCommand
from edgecell.edge.sources import SAMPLES
from edgecell.files import write_atomically

_RUNS = 5

_FIRST = """
import sys, time
from edgecell.cli import cli
from edgecell.edge.loop.run_loop import Loop
count = Loop._count
def counted(self, result):
    tracked = count(self, result)
    now_s = time.clock_gettime(time.CLOCK_MONOTONIC)
    print(f"first {now_s}", file=sys.stderr, flush=True)
    return tracked
Loop._count = counted
cli(sys.argv[1:])
"""


@dataclass(frozen=True)
class Start:
    """The best of a few starts.

    Attributes:
        machine: where.
        bare_cpu_s: processor time of an interpreter that does nothing.
        help_cpu_s: that of `edgecell --help`.
        first_s: from the start of `edgecell run IMAGE` to its first result, by the
            clock.
    """

    machine: Machine
    bare_cpu_s: float
    help_cpu_s: float
    first_s: float

    @property
    def help_by_bare(self) -> float:
        """How many bare interpreters the help takes."""
        return self.help_cpu_s / self.bare_cpu_s


def cpu_s(arguments: Sequence[str], runs: int = _RUNS) -> float:
    """Processor time of a Python process, seconds; the least of several runs."""
    environment = os.environ | {"PYTHONPATH": str(Path(edgecell.__file__).parents[1])}
    spent = []
    for _ in range(runs):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, *arguments],
            env=environment,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(
            after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        )
    return min(spent)


def first_result_s(runs: int = _RUNS) -> float:
    """Seconds from the start of a run on one image to its first result; the least."""
    image = next(iter(sorted((SAMPLES / "frames").glob("bccd*"))))
    environment = os.environ | {"PYTHONPATH": str(Path(edgecell.__file__).parents[1])}
    taken = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory(prefix="edgecell-bench-") as folder:
            words = ["run", str(image), "--out", str(Path(folder) / "s")]
            start = time.clock_gettime(time.CLOCK_MONOTONIC)
            done = subprocess.run(
                [sys.executable, "-c", _FIRST, *words],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            )
        found = re.search(r"^first ([\d.]+)$", done.stderr, re.MULTILINE)
        assert found is not None, done.stderr
        taken.append(float(found[1]) - start)
    return min(taken)


def measure() -> Start:
    """All of it."""
    return Start(
        this_machine(),
        round(cpu_s(["-c", ""]), 4),
        round(cpu_s(["-m", "edgecell", "--help"]), 4),
        round(first_result_s(), 3),
    )


@click.command("start", cls=PoliteCommand, no_args_is_help=True)
@click.argument("out", type=OutputFile("JSON"))
def command(out: Path) -> None:
    """Time the start: the help against a bare interpreter, and a run's first result.

    Writes OUT, a JSON file.
    """
    found = measure()
    data = asdict(found) | {"help_by_bare": round(found.help_by_bare, 2)}
    text = json.dumps(data, indent=1)
    write_atomically(out, text + "\n")
    click.echo(text)


if __name__ == "__main__":
    command()
