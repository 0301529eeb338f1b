import importlib
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from edgecell import RESEARCH_USE, __version__
from edgecell.cli import COMMANDS, cli
from edgecell.errors import InputError
from edgecell.explain.commands.group import COMMANDS as EXPLAIN

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_stands_in_the_readme(name: str) -> None:
    module, short_help = COMMANDS[name]
    command = importlib.import_module(module).command
    assert command.name == name
    assert command.get_short_help_str(100) == short_help
    shown = CliRunner().invoke(cli, [name, "--help"])
    assert shown.exit_code == 0
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.name} has no help"
    assert f"edgecell {name}" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", EXPLAIN)
def test_every_command_of_explain_has_help(name: str) -> None:
    module, short_help = EXPLAIN[name]
    command = importlib.import_module(module).command
    assert command.name == name
    assert command.get_short_help_str(100) == short_help
    assert CliRunner().invoke(cli, ["explain", name, "--help"]).exit_code == 0
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.name} has no help"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom edgecell.cli import cli\n"
        "try: cli(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'numpy', 'cv2', 'tensorflow', 'tqdm'} & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert out.endswith("[]\n")
    assert RESEARCH_USE in out
    for name in COMMANDS:
        assert name in out


def test_version_and_unknown_command() -> None:
    assert __version__ in CliRunner().invoke(cli, ["--version"]).output
    assert CliRunner().invoke(cli, ["fly"]).exit_code == 2


def test_our_errors_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command("fail")
    def command() -> None:
        raise InputError("cells/ has\nno images")

    monkeypatch.setattr(
        importlib, "import_module", lambda _: type("m", (), {"command": command})
    )
    result = CliRunner().invoke(cli, ["info"])
    assert result.exit_code == 1
    assert result.output == "Error: cells/ has no images\n"


def test_a_closed_pipe_is_no_traceback() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "edgecell", "info"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        cwd=ROOT,
    )
    os.close(write)
    assert "Traceback" not in done.stderr
