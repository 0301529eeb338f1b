"""What a person sees of a run: the live differential, or a progress bar and a table."""

import logging
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence

import click
from tqdm import tqdm

from edgecell import RESEARCH_USE
from edgecell.classes import CLASSES
from edgecell.edge.analyse.pipeline import CellRecord
from edgecell.edge.count.tracking import TrackedFrame
from edgecell.edge.loop.run import Observer, Run
from edgecell.edge.show.health import Health
from edgecell.edge.sources.base import Frame
from edgecell.files import printable, several

_MOST_ROWS = 60
_NAMES = {c.code: f"{c.code:<4}{c.name}" for c in CLASSES}
_HEADER = (
    f"{'frame':>6}  {'name':<14}{'time':>7}  {'centre':<10}{'found as':<9} "
    f"{'class':<24}{'conf.':>6}  runner-up"
)


class Greeting(Observer):
    """Prints where the results of an endless run go."""

    def begun(self, run: Run) -> None:
        """Prints the folder of each session."""
        click.echo(f"{RESEARCH_USE}\nResults go to {run.out}; Ctrl-C ends the run.")


class Screen(Observer):
    """The live differential, drawn over itself in a terminal."""

    def __init__(self) -> None:
        self._height = 0

    def begun(self, run: Run) -> None:
        """Draws below whatever else is written to the terminal."""
        self._run = run
        for handler in logging.getLogger().handlers:
            handler.addFilter(self._interrupted)

    def _interrupted(self, _: logging.LogRecord) -> bool:
        """A message stands below the drawing: the next one starts below it."""
        self._height = 0
        return True

    def health(self, health: Health) -> None:
        """Draws the present state over the previous one."""
        run, size = self._run, shutil.get_terminal_size()
        # One row stays free for the cursor, and one column: a line that fills the
        # last one wraps on some terminals, and the next drawing would climb.
        width, height = max(size.columns - 1, 20), max(size.lines - 1, 1)
        told = textwrap.wrap(printable(health.line()), width)
        counted, target = run.differential, run.config.target
        counts = textwrap.wrap(counted.lines(target, 0)[0], width)
        room = height - len(told) - len(counts) - 1  # the table's head
        table = counted.lines(target, room)[1:]
        lines = [*told, *counts, *table][:height]
        shown = "\n".join(f"{line[: size.columns - 1]}\x1b[K" for line in lines)
        up = f"\x1b[{self._height}A" if self._height else ""
        click.echo(f"{up}\r{shown}\x1b[J")
        self._height = len(lines)


def draws_over_itself() -> bool:
    """Whether the output is a terminal whose cursor can be moved."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class ProgressBar(Observer):
    """A bar over the frames of a file, and the first cells as a table for later.

    Attributes:
        rows: the first sightings, see `row`; none of a run that is endless.
    """

    def __init__(self, run: Run) -> None:
        """Draws the bar if the number of frames is known and there is a terminal."""
        most = run.config.max_frames or sys.maxsize
        self._bar = tqdm(
            total=min(run.source.total or 0, most) or None,
            unit="frame",
            disable=run.endless or None,
            leave=False,
        )
        self._most_rows = 0 if run.endless else _MOST_ROWS
        self.rows: list[str] = []

    def turn(self, tracked: TrackedFrame | None) -> None:
        """Moves the bar on by a frame."""
        if tracked is None:
            return
        self._bar.update()
        if len(self.rows) < self._most_rows:
            result = tracked.result
            self.rows += [row(result.frame, cell.record) for cell in result.cells]

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()


def row(frame: Frame, r: CellRecord) -> str:
    """A sighting as a line of the table."""
    x, y = r.box.centre
    time = "" if frame.time_s is None else f"{frame.time_s:.1f} s"
    cut = "  cut" if r.cut_by_border else ""
    name = frame.name if len(frame.name) <= 14 else f"{frame.name[:12]}.."
    place = f"{frame.index:>6}  {name:<14}{time:>7}  {f'{x:.0f},{y:.0f}':<10}"
    if r.gate is not None:
        return f"{place}{r.kind:<9} not judged: {r.gate}{cut}"
    best, second = r.top[:2]
    return (
        f"{place}{r.kind:<9} {_NAMES[best.code]:<24}{best.probability:>6.0%}  "
        f"{f'{second.code} {second.probability:.0%}':<9}{cut}"
    ).rstrip()


def rows_table(rows: Sequence[str], sightings: int) -> list[str]:
    """The first sightings as a table, cut off where nobody would read on.

    Args:
        rows: the first of them, see `row`.
        sightings: how many there are.
    """
    if not rows:
        return []
    lines = [_HEADER, *rows[:_MOST_ROWS]]
    if sightings > _MOST_ROWS:
        lines.append(f"... and {several(sightings - _MOST_ROWS, 'more sighting')}")
    return [*lines, ""]
