"""The command line: one group, commands loaded when they are called."""

import errno
import importlib
import io
import json
import logging
import math
import os
import sys
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from edgecell import RESEARCH_USE, __version__
from edgecell.errors import EdgecellError, OutputError
from edgecell.files import (
    Kind,
    check_kind,
    check_writable,
    printable,
    write_atomically,
)
from edgecell.optional import DEVICE, missing
from edgecell.signals import held_back

# name -> (module, short help). The help stands here so that `edgecell --help`
# imports nothing heavy; a test compares it with the commands' own.
COMMANDS: dict[str, tuple[str, str]] = {
    "data": ("edgecell.data.command", "Check and pack training data."),
    "train": ("edgecell.train.command", "Train a network on labelled cells."),
    "evaluate": (
        "edgecell.benchmarks.evaluate_command",
        "Measure a model's accuracy, or the finder's.",
    ),
    "convert": ("edgecell.convert.command", "Convert a trained model to TFLite."),
    "classify": (
        "edgecell.edge.commands.classify",
        "Classify images of one cell each.",
    ),
    "run": ("edgecell.edge.commands.run", "Find, classify and count cells in frames."),
    "scan": (
        "edgecell.edge.commands.scan",
        "Drive a motorised stage over a slide and count.",
    ),
    "session": (
        "edgecell.edge.commands.session",
        "Show, export, report and send recorded sessions.",
    ),
    "page": (
        "edgecell.edge.commands.page",
        "Serve sessions in a browser: review, report, sign.",
    ),
    "adapt": (
        "edgecell.edge.commands.microscopes.adapt",
        "Adapt a model to your microscope.",
    ),
    "trust": (
        "edgecell.edge.commands.microscopes.trust",
        "Show how often a model is right on your microscope.",
    ),
    "explain": (
        "edgecell.explain.commands.group",
        "Explain why cells get their class.",
    ),
    "service": (
        "edgecell.edge.commands.service",
        "Start with a camera, as a systemd service.",
    ),
    "doctor": (
        "edgecell.edge.commands.doctor",
        "Check whether edgecell works on this machine.",
    ),
    "bench": (
        "edgecell.benchmarks.bench_command",
        "Measure a model's speed, memory and size.",
    ),
    "info": ("edgecell.model.info_command", "Print the record in a model file."),
}


class PoliteCommand(click.Command):
    """A command that reports an error in one line and exits with status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs a command; an error that users can fix becomes one line, status 1."""
        try:
            return super().invoke(ctx)
        except EdgecellError as e:
            raise click.ClickException(_line(str(e))) from e
        except ModuleNotFoundError as e:  # with the core install alone
            if e.name not in DEVICE:
                raise
            raise click.ClickException(_line(str(missing(e.name, "edge", e)))) from e
        except OSError as e:
            if e.errno == errno.EPIPE:  # `edgecell ... | head`, which click knows
                raise
            raise click.ClickException(_of_system(e)) from e
        except MemoryError as e:
            raise click.ClickException("there is not enough memory for this") from e

    def main(self, *args: Any, **settings: Any) -> Any:
        """Runs as in click, but names in any encoding cannot break the output."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            return super().main(*args, **settings)
        except OSError as e:  # help, or an error, that could not be printed
            with suppress(OSError):
                click.echo(f"Error: {_of_system(e)}", err=True)
            sys.exit(1)
        finally:
            _forget_what_cannot_be_written()


class LazyGroup(PoliteCommand, click.Group):
    """A group that imports a command's module when the command is called."""

    def __init__(
        self, *args: Any, lazy: dict[str, tuple[str, str]], **settings: Any
    ) -> None:
        """Lists the commands by name and help; a module is imported when it is called.

        Args:
            args: see `click.Group`.
            lazy: name -> (module with a `command`, short help), in the order of work.
            settings: see `click.Group`.
        """
        super().__init__(*args, **settings)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, in the order of work."""
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports the command ``cmd_name``; None if there is none."""
        if cmd_name not in self.lazy:
            return None
        with held_back():
            module = importlib.import_module(self.lazy[cmd_name][0])
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """Lists the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.lazy.items()])


def _line(text: str) -> str:
    return printable(" ".join(text.split()))


def _of_system(error: OSError) -> str:
    """The system's complaint about a file: 'DATA/x.png: Permission denied'."""
    why = error.strerror or str(error) or type(error).__name__
    name = error.filename
    if isinstance(name, bytes):
        name = os.fsdecode(name)
    return _line(f"{name}: {why}" if name else f"the output cannot be written: {why}")


def _forget_what_cannot_be_written() -> None:
    """Keeps Python from complaining about a full disk once more when it ends."""
    if sys.stdout is None:  # closed by the caller
        return
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError), open(os.devnull, "wb") as null:
            os.dup2(null.fileno(), sys.stdout.fileno())


@click.group(cls=LazyGroup, lazy=COMMANDS, epilog=RESEARCH_USE)
@click.version_option(__version__, prog_name="edgecell")
def cli() -> None:
    """Classify blood cells on edge devices: train, convert, run, explain."""
    # Our loggers show INFO and above; those of libraries only warnings.
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("edgecell").setLevel(logging.INFO)


class Number(click.FloatRange):
    """A number within bounds, and finite: click's own ranges let NaN through."""

    name = "number"

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:
        """See `click.ParamType.convert`."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


def by_name(
    kind: "click.ParamType[Any]",
) -> Callable[[click.Context, click.Parameter, tuple[str, ...]], dict[str, Any]]:
    """A callback for an option NAME=VALUE that may be repeated.

    Args:
        kind: of the values.
    """

    def parsed(
        ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]
    ) -> dict[str, Any]:
        found = {}
        for text in texts:
            name, _, value = text.partition("=")
            if not (name and value):
                raise click.BadParameter(f"'{text}' is not {param.metavar}", ctx, param)
            found[name] = kind.convert(value, param, ctx)
        return found

    return parsed


def claim(path: Path, kind: Kind) -> None:
    """Reserves a file for one of the command's results.

    Args:
        path: the file; a device or pipe may be claimed more than once.
        kind: what the command will write.

    Raises:
        OutputError: another result goes to the file, or it holds something else.
    """
    check_kind(path, kind)
    if path.exists() and not path.is_file():
        return
    claimed = click.get_current_context().meta.setdefault(f"{__name__}.outputs", set())
    place = os.path.realpath(path)
    if place in claimed:
        raise OutputError(f"two results cannot both go to {path}; name two files")
    claimed.add(place)


class OutputFile(click.Path):
    """A file to write: no other kind of file is overwritten, and no result twice."""

    def __init__(
        self,
        kind: Kind,
        *,
        path_type: type = Path,
        allow_dash: bool = False,
        try_now: bool = True,
    ) -> None:
        """Says what is written, so that nothing else is lost.

        Args:
            kind: what is written.
            path_type: type of the value.
            allow_dash: whether '-' stands for the standard output.
            try_now: whether the folder must take a file already; not where a service
                may write it under another name.
        """
        super().__init__(dir_okay=False, path_type=path_type, allow_dash=allow_dash)
        self.kind = kind
        self.try_now = try_now

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        """See `click.ParamType.convert`; refuses before any work."""
        path: Any = super().convert(value, param, ctx)
        if path == "-":
            return path
        try:
            claim(Path(path), self.kind)
            if self.try_now:
                check_writable(Path(path))
        except OutputError as e:
            raise click.ClickException(_line(str(e))) from e
        return path


class OutputFolder(click.Path):
    """A folder to write into, made if need be; it is tried before any work."""

    def __init__(self) -> None:
        """Takes a folder, or a name for one."""
        super().__init__(path_type=Path, file_okay=False)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        """See `click.ParamType.convert`; refuses before any work."""
        folder: Any = super().convert(value, param, ctx)
        try:
            check_writable(folder / "result")
        except OutputError as e:
            raise click.ClickException(_line(str(e))) from e
        return folder


def json_option(command: Any) -> Any:
    """The option ``--json FILE`` that every reporting command has."""
    return click.option(
        "--json",
        "json_file",
        type=OutputFile("JSON", path_type=str, allow_dash=True),
        help="Write the result as JSON to FILE; '-' prints it in place of the report.",
    )(command)


def manifest_option(command: Any) -> Any:
    """The option ``--manifest FILE`` of commands on a trained model's data."""
    return click.option(
        "--manifest",
        type=click.Path(path_type=Path, dir_okay=False),
        help="split.csv of the training run, which says which split each image is in.",
    )(command)


def refuse(names: Collection[str], why: str) -> None:
    """Refuses options that the user gave and that would be ignored.

    Args:
        names: the options' parameters.
        why: the rest of the sentence.

    Raises:
        click.UsageError: one of them was given.
    """
    context = click.get_current_context()
    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        if option.name in names and source is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option.opts[0]} {why}")


def report(text: str, data: dict[str, Any], json_file: str | None) -> None:
    """Prints a result for people, then writes it for machines if asked to.

    The text comes first, so that a full disk does not hide the result.

    Args:
        text: the readable report.
        data: the same as JSON-ready data.
        json_file: where to write ``data``; '-' prints it and leaves ``text`` out.
    """
    dump = json.dumps(data, indent=1)
    lines = "\n".join(map(printable, text.split("\n")))
    click.echo(dump if json_file == "-" else lines)
    if json_file and json_file != "-":
        write_atomically(Path(json_file), dump + "\n")
