"""The live differential on terminals of any size, as a terminal would show it."""

import os
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from edgecell.edge.commands.observers import (
    ProgressBar,
    Screen,
    draws_over_itself,
    row,
    rows_table,
)
from edgecell.edge.count.differential import Differential
from edgecell.edge.count.tracking import TrackedFrame
from edgecell.edge.loop.run import Run
from edgecell.edge.show.health import Health
from edgecell.edge.sources.base import Frame
from edgecell.image.records import Box
from tests.edge.show.test_health import some_health
from tests.factories import NOISE, cell_record, tracked

FULL = "cannot write to edgecell-out/camera-0-20261126-150000: database or disk is full"
COUNTED = Differential(
    {"SNE": 40, "LY": 20, "EO": 3}, {"MO": 12, "SNE": 30, "BNE": 4}, unclassified=7
)


class Terminal:
    """Rows of text, a cursor, and the three sequences that `Screen` uses."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.lines = [""] * rows
        self.row = rows - 1  # as after a few commands: everything scrolls
        self.scrolled: list[str] = []

    def write(self, text: str) -> None:
        for part in re.findall(r"\x1b\[\d*[AKJ]|\n|\r|[^\x1b\n\r]+", text):
            if part == "\n":
                self._down()
            elif part == "\r":
                pass  # every line is written from its start
            elif part.endswith("A") and part[0] == "\x1b":
                self.row -= int(part[2:-1])
                assert self.row >= 0, "it climbs above the screen"
            elif part.endswith("J") and part[0] == "\x1b":
                self.lines[self.row :] = [""] * (self.rows - self.row)
            elif part[0] != "\x1b":
                assert len(part) < self.columns, "it would wrap"
                assert part.isprintable()
                self.lines[self.row] = part

    def _down(self) -> None:
        self.row += 1
        if self.row == self.rows:
            self.scrolled.append(self.lines.pop(0))
            self.lines.append("")
            self.row -= 1


def draw(
    monkeypatch: pytest.MonkeyPatch, columns: int, rows: int, healths: list[Health]
) -> Terminal:
    terminal = Terminal(columns, rows)
    size = os.terminal_size((columns, rows))
    monkeypatch.setattr(shutil, "get_terminal_size", lambda *_, **__: size)
    monkeypatch.setattr("click.echo", lambda text: terminal.write(f"{text}\n"))
    screen = Screen()
    run: Any = SimpleNamespace(differential=COUNTED, config=SimpleNamespace(target=200))
    screen.begun(cast(Run, run))
    for health in healths:
        screen.health(health)
    return terminal


@pytest.mark.parametrize("rows", [5, 10, 17, 24, 60])
@pytest.mark.parametrize("columns", [40, 80, 200])
def test_it_draws_over_itself_and_says_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, columns: int, rows: int
) -> None:
    well = some_health()
    full = replace(well, recording=FULL, overflowed=1234)
    terminal = draw(monkeypatch, columns, rows, [well, full, well, full])
    text = " ".join(line.strip() for line in terminal.lines)
    assert " ".join(terminal.lines).count("Source on") == 1, "one drawing is left"
    assert "Source on" not in " ".join(terminal.scrolled)
    if rows > 5:
        assert "disk is full" in text
        assert "White cells: 63 of 200" in text
    if rows >= 17:
        for code in ("SNE", "LY", "EO", "MO", "BNE"):
            assert any(line.startswith(code) for line in terminal.lines)


def test_all_classes_are_shown_where_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = draw(monkeypatch, 80, 30, [some_health()])
    assert sum(line.startswith("MYE") for line in terminal.lines) == 1
    terminal = draw(monkeypatch, 80, 17, [some_health()])
    assert not any(line.startswith("MYE") for line in terminal.lines)


def test_trouble_stands_in_the_first_80_columns() -> None:
    health = replace(some_health(), recording="cannot write to r: the disk is full")
    assert "disk is full" in health.line()[:79]


@pytest.mark.parametrize(("terminal", "can"), [("xterm", True), ("dumb", False)])
def test_a_dumb_terminal_is_not_drawn_over(
    monkeypatch: pytest.MonkeyPatch, terminal: str, can: bool
) -> None:
    monkeypatch.setenv("TERM", terminal)
    monkeypatch.setattr("sys.stdout", SimpleNamespace(isatty=lambda: True))
    assert draws_over_itself() is can


def test_the_bar_keeps_rows_of_what_has_an_end() -> None:
    run: Any = SimpleNamespace(
        config=SimpleNamespace(max_frames=None),
        source=SimpleNamespace(total=5),
        endless=False,
    )
    frames: list[TrackedFrame | None] = [tracked(0), None, tracked(1, gate="too dark")]
    with ProgressBar(run) as bar:
        for frame in frames:
            bar.turn(frame)
    assert ["SNE" in row for row in bar.rows] == [True, False]
    assert "not judged: too dark" in bar.rows[1]
    run.endless = True
    with ProgressBar(run) as bar:
        for frame in frames:
            bar.turn(frame)
    assert bar.rows == []


def test_a_long_table_is_cut_off() -> None:
    frame = Frame(3, None, NOISE, "a-very-long-name-indeed.jpg")
    line = row(frame, cell_record(Box(0, 0, 9, 9)))
    lines = rows_table([line] * 100, 1000)
    assert len(lines) == 63
    assert "940 more" in lines[-2]
    assert max(map(len, lines)) < 100
    assert rows_table([], 0) == []
    gated = cell_record(Box(0, 0, 9, 9), gate="out of focus")
    assert "not judged: out of focus" in row(frame, gated)
