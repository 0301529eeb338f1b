import importlib
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from edgecell import RESEARCH_USE, __version__
from edgecell.cli import COMMANDS, Number, cli
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


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> Result:
    """What is printed where a command raises an error that is not ours."""

    @click.command("fail")
    def command() -> None:
        raise error

    monkeypatch.setattr(
        importlib, "import_module", lambda _: type("m", (), {"command": command})
    )
    return CliRunner().invoke(cli, ["info"])


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PermissionError(13, "Permission denied", "a/b.jpg"), "a/b.jpg: Permission"),
        (OSError(36, "File name too long", b"caf\xe9"), r"caf\udce9: File name"),
        (OSError(28, "No space left on device"), "the output cannot be written: No"),
        (OSError("no reason"), "no reason"),
        (MemoryError(), "not enough memory"),
        (InputError("a\x1b[31mb"), r"a\x1b[31mb"),
    ],
)
def test_the_systems_errors_are_one_line(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, told: str
) -> None:
    result = failing(monkeypatch, error)
    assert result.exit_code == 1
    assert told in result.output
    assert result.output.startswith("Error: ")
    assert result.output.count("\n") == 1


def test_a_defect_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(
        failing(monkeypatch, ZeroDivisionError()).exception, ArithmeticError
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [["info"], ["info", "--json", "-"], ["--help"]])
def test_a_full_disk_behind_the_output_is_one_line(arguments: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "edgecell", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            cwd=ROOT,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: the output cannot be written: No space")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_what_cannot_be_saved_is_still_shown() -> None:
    result = CliRunner().invoke(cli, ["info", "--json", "/dev/full"])
    assert result.exit_code == 1
    assert "112x112 RGB" in result.output
    assert "Error: cannot write" in result.output


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "1.5", "x", "9" * 400])
def test_numbers_are_numbers_within_bounds(text: str) -> None:
    @click.command()
    @click.option("--share", type=Number(0, 1))
    def command(share: float) -> None:
        click.echo(f"{share}")

    assert CliRunner().invoke(command, ["--share", text]).exit_code == 2
    assert CliRunner().invoke(command, ["--share", "0.5"]).output == "0.5\n"


def test_a_closed_output_is_no_traceback() -> None:
    code = "import os; os.close(1); os.execv(os.sys.executable, os.sys.argv[1:])"
    run = [sys.executable, "-c", code, sys.executable, "-m", "edgecell", "info"]
    done = subprocess.run(run, stderr=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    assert done.stderr == ""


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


HELP = """
import sys
for name in ("numpy", "cv2", "PIL", "simplejpeg", "tqdm", "systemd_watchdog",
             "tensorflow", "keras", "matplotlib", "scipy", "sklearn", "skimage"):
    sys.modules[name] = None
import click
from click.testing import CliRunner
from edgecell.cli import cli

def walk(command, path):
    yield path
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            try:
                found = command.get_command(click.Context(command), name)
            except ImportError as e:
                print(*path, name, e)
            else:
                yield from walk(found, [*path, name])

done = 0
for path in walk(cli, []):
    result = CliRunner().invoke(cli, [*path, "--help"])
    done += "Usage:" in result.output
    if result.exit_code or "Usage:" not in result.output:
        print(*path, result.exit_code, repr(result.exception))
print(done)
"""


def test_with_the_core_install_alone_every_command_has_help() -> None:
    shown = subprocess.run(
        [sys.executable, "-c", HELP],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout
    *failures, done = shown.splitlines()
    assert failures == []
    assert int(done) >= 22, "the group, its commands and theirs"


CALL = """
import sys
for name in ("numpy", "cv2"):
    sys.modules[name] = None
from edgecell.cli import cli
cli(sys.argv[1:])
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ("info", "bundled"),
        ("run", "demo"),
        ("run", "demo", "--keep", "5GB"),
        ("classify", "cell.jpg"),
        ("session", "list"),
        ("explain", "status", "."),
        ("bench", "bundled"),
        ("data", "audit", "."),
    ],
)
def test_with_the_core_install_alone_a_command_says_what_to_install(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CALL, *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert 'pip install ".[edge]"' in done.stderr
