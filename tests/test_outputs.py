"""No command overwrites what is not an earlier result of it."""

import importlib
import os
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from edgecell.cli import COMMANDS, OutputFile, cli
from edgecell.edge.sources import SAMPLES
from edgecell.explain.commands.group import COMMANDS as EXPLAIN
from edgecell.model.modelfile import bundled_model

CELL = min((SAMPLES / "cells").glob("*"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in: a session, an image, a model, and a file in the way."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "session.sqlite").write_bytes(b"SQLite format 3\0 and the rest")
    (tmp_path / "backup").write_bytes(b"SQLite format 3\0 and the rest")
    (tmp_path / "cell.jpg").write_bytes(CELL.read_bytes())
    (tmp_path / "m.tflite").write_bytes(bundled_model().read_bytes())
    (tmp_path / "file").write_text("")
    return tmp_path


def _invoke(line: str) -> Result:
    return CliRunner().invoke(cli, line.split())


def _contents(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("target", ["s/session.sqlite", "backup", "cell.jpg"])
@pytest.mark.parametrize(
    "line",
    [
        "session show s --csv",
        "session show s --cells",
        "session show s --json",
        "session report s --pdf",
        "session report s --csv",
        "session list . --json",
        "adapt bundled s --out",
        "adapt bundled s --out new.tflite --json",
        "trust s --scope",
        "run cell.jpg --out new --json",
        "run cell.jpg --out new --health",
        "run cell.jpg --out new --metrics",
        "classify cell.jpg --csv",
        "classify cell.jpg --json",
        "classify cell.jpg --out",
        "convert m.tflite --onnx --out",
        "evaluate bundled . --json",
        "bench --submit",
        "bench --json",
        "info m.tflite --json",
        "doctor --json",
        "data audit . --json",
        "data pack . --out new.npz --json",
        "explain show bundled cell.jpg --out",
        "explain evaluate bundled . --plot",
    ],
)
def test_another_kind_of_file_is_kept(place: Path, line: str, target: str) -> None:
    if "--onnx" in line:
        pytest.importorskip("tf2onnx")
    before = _contents(place)
    result = _invoke(f"{line} {target}")
    assert result.exit_code == 1, result.output
    assert result.output.startswith(
        (
            f"Error: cannot write {target}: the ending .sqlite",
            f"Error: {target} exists and is not ",
        )
    )
    assert result.output.count("\n") == 1
    assert _contents(place) == before


@pytest.mark.parametrize(
    "line",
    [
        "adapt bundled s --out a --json a",
        "classify cell.jpg --csv a --json ./a",
        "classify cell.jpg --out a --json a",
        "session report s --pdf a --csv a",
        "session report s --csv s/report.pdf",
        "session report s --pdf a --json link",
        "session show s --csv a --cells a",
        "trust s --scope a --json a",
        "run cell.jpg --out new --health a --json a",
        "run cell.jpg --out new --health a --metrics a",
        "run cell.jpg --out new --json new/differential.json",
        "data pack . --out a.npz --json a.npz",
        "explain evaluate bundled . --plot a --json a",
    ],
)
def test_two_results_do_not_share_a_file(place: Path, line: str) -> None:
    (place / "link").symlink_to("a")
    before = _contents(place)
    result = _invoke(line)
    assert result.exit_code == 1, result.output
    assert "Error: two results cannot both go to" in result.output
    assert _contents(place) == before


@pytest.mark.parametrize(
    "line",
    [
        "evaluate bundled nowhere --json file/x",
        "evaluate bundled nowhere --pictures file/x",
        "evaluate --frames nowhere --json file/x",
        "bench nowhere --json file/x",
        "bench --paper --plot file/x",
        "bench --paper --json file/x",
        "adapt bundled s --out new.tflite --json file/x",
        "session trace s 1 --out file/x",
        "convert nowhere --debug file/x",
    ],
)
def test_a_result_that_cannot_be_written_stops_the_command_first(
    place: Path, line: str
) -> None:
    before = _contents(place)
    result = _invoke(line)
    assert result.exit_code == 1, result.output
    assert result.output.startswith("Error: cannot write file/x")
    assert _contents(place) == before


def test_earlier_results_devices_and_pipes_are_written(place: Path) -> None:
    for _ in range(2):
        done = _invoke("classify cell.jpg --csv a.csv --json a.json")
        assert done.exit_code == 0, done.output
    assert _invoke("info m.tflite --json /dev/null").exit_code == 0
    assert _invoke("classify cell.jpg --csv /dev/null --json /dev/null").exit_code == 0
    assert _invoke("classify cell.jpg --csv a.csv --json -").exit_code == 0
    os.mkfifo(place / "pipe")
    reader = os.open(place / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    assert _invoke("session list . --json pipe").exit_code == 0
    assert os.read(reader, 1) == b"{"
    os.close(reader)


# Options with a file to read, and three whose kind the command finds out.
_READ = {"manifest", "attributes", "finder", "scope", "certificate", "key"}
_READ |= {"accounts_file"}
_CLAIMED_LATER = {("classify", "out"), ("convert", "out")}


def _commands() -> Iterator[click.Command]:
    for module, _ in (*COMMANDS.values(), *EXPLAIN.values()):
        command = importlib.import_module(module).command
        yield command
        if isinstance(command, click.Group) and command.name != "explain":
            yield from command.commands.values()


def test_every_option_with_a_file_to_write_protects_others() -> None:
    for command in _commands():
        for option in command.params:
            files = isinstance(option.type, click.Path) and not option.type.dir_okay
            if (
                isinstance(option, click.Option)
                and files
                and option.name not in _READ
                and (command.name, option.name) not in _CLAIMED_LATER
            ):
                assert isinstance(option.type, OutputFile), (command, option.name)
