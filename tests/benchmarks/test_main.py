import importlib
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from edgecell.benchmarks.__main__ import COMMANDS, cli
from edgecell.cli import OutputFile

ROOT = Path(__file__).parent.parent.parent


def test_every_measurement_is_listed() -> None:
    files = (ROOT / "benchmarks").rglob("*.py")
    mains = {p.stem for p in files if "\n@click.command(" in p.read_text()}
    mains = {name for name in mains if not name.endswith("_command")}  # edgecell's own
    assert {module.rpartition(".")[2] for module, _ in COMMANDS.values()} == mains
    assert CliRunner().invoke(cli, ["--help"]).exit_code == 0


@pytest.mark.parametrize("name", COMMANDS)
def test_every_measurement_has_help_and_asks_for_what_it_needs(name: str) -> None:
    command = importlib.import_module(COMMANDS[name][0]).command
    assert isinstance(command, click.Command)
    assert command.name == name
    shown = CliRunner().invoke(cli, [name, "--help"])
    assert shown.exit_code == 0
    assert str(command.get_short_help_str(40).split()[0]) in shown.output
    asked = CliRunner().invoke(cli, [name])
    assert asked.exit_code == 2
    assert "Usage:" in asked.output
    for parameter in command.params:
        if parameter.name in ("out", "clip"):
            assert isinstance(parameter.type, OutputFile)


def test_no_measurement_overwrites_another_kind_of_file(tmp_path: Path) -> None:
    picture = tmp_path / "cell.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    done = CliRunner().invoke(cli, ["network-choice", str(picture)])
    assert done.exit_code == 1
    assert "exists and is not CSV" in done.output
    assert picture.read_bytes() == b"\x89PNG\r\n\x1a\n"


def test_what_a_user_gets_wrong_is_one_line(tmp_path: Path) -> None:
    module = "edgecell.benchmarks.slides.counting"
    for run in (["edgecell.benchmarks", "counting"], [module]):
        done = subprocess.run(
            [sys.executable, "-m", *run, tmp_path / "out.json", tmp_path / "none"],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )
        assert done.returncode == 1
        assert done.stderr == f"Error: {tmp_path / 'none'} does not exist\n"
