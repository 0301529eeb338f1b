"""``edgecell service``."""

import math
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from glob import has_magic
from pathlib import Path

import click

from edgecell import RESEARCH_USE
from edgecell.errors import InputError, SourceError
from edgecell.files import printable, write_atomically
from edgecell.model import BUNDLED

UNIT = "edgecell.service"
RULE = "70-edgecell.rules"
_SECRETS = "/etc/edgecell"
"""Folder of the files with addresses and their passwords on the device."""

_UNIT_TEXT = """\
# /etc/systemd/system/{unit}, written by 'edgecell service print'
# sudo useradd --system --groups video --home-dir /var/lib/edgecell edgecell
# sudo systemctl daemon-reload && sudo systemctl enable --now edgecell
# Sessions are in /var/lib/edgecell/edgecell-out, health in /run/edgecell/health.json.
[Unit]
Description=edgecell: blood cells at a microscope camera. {research_use}
After=network-online.target
Wants=network-online.target
# A camera may be away for a weekend.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
{credential}WorkingDirectory=%S/edgecell
Environment=PYTHONUNBUFFERED=1
Restart=on-failure
RestartSec=5
# The loop tells every second that it goes round.
WatchdogSec=30
TimeoutStopSec=10

# Enough for frames of {megapixels} megapixels.
MemoryHigh={memory}M
MemoryMax={most_memory}M
TasksMax=64
LimitNOFILE=1024

User=edgecell
Group=edgecell
SupplementaryGroups=video
StateDirectory=edgecell
StateDirectoryMode=0755
RuntimeDirectory=edgecell
RuntimeDirectoryMode=0755
ProtectSystem=strict
{writable}ProtectHome=read-only
PrivateTmp=yes
NoNewPrivileges=yes
CapabilityBoundingSet=
DevicePolicy=closed
DeviceAllow=char-video4linux rw
DeviceAllow=char-media rw
DeviceAllow=char-dma_heap rw
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectHostname=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service

[Install]
WantedBy=multi-user.target
"""

_CREDENTIAL_TEXT = """\
# An address with its password is in a file of root's own (systemd 247 or later):
# sudo install -D -m 600 {name} {folder}/{name}
LoadCredential={name}:{folder}/{name}
"""

_RULE_TEXT = """\
# /etc/udev/rules.d/{rule}, written by 'edgecell service print'
# sudo udevadm control --reload && sudo udevadm trigger --subsystem-match=video4linux
# The camera is for the group video, and its arrival starts the service.
SUBSYSTEM=="video4linux", {match}, GROUP="video", MODE="0660", TAG+="systemd", \
ENV{{SYSTEMD_WANTS}}+="{unit}"
"""

_BASE_MB = 240
_MB_PER_MEGAPIXEL = 55
_MOST_MB = 1070
_MEGAPIXELS = 24
"""The most memory that the loop takes is below base + size of a frame x the second, and
below the third up to so many megapixels: of larger frames fewer wait. See
docs/sources.md. A limit below what a camera's frames need would kill each session."""

_DEVICE = re.compile(r"/dev/((?:[\w#+.:=@-]+/)*[\w#+.:=@-]+)", re.ASCII)
"""What udev leaves in the name of a device or link; it replaces all else."""


def quoted(argument: str, expands: bool = True) -> str:
    """An argument of ExecStart= that systemd reads as it is.

    systemd.syntax(7), 'Quoting', and systemd.service(5), 'Command lines': C-style
    escapes within double quotes, and '%' and '$' doubled.

    Args:
        argument: the argument.
        expands: whether systemd expands '$' there; not in a command's path.
    """
    text = "".join(
        f"\\{c}" if c in '\\"' else c if c.isprintable() else _escaped(c)
        for c in argument.replace("%", "%%")
    )
    if expands:
        text = text.replace("$", "$$")
    return text if re.fullmatch(r"[\w/.,:=+@%-]+", text, re.ASCII) else f'"{text}"'


def _escaped(character: str) -> str:
    data = character.encode("utf-8", "surrogateescape")
    return "".join(f"\\x{byte:02x}" for byte in data)


def memory_mb(megapixels: float) -> int:
    """Memory that the loop takes at most on frames of a size, MB; a measured bound."""
    return min(_MOST_MB, round(_BASE_MB + _MB_PER_MEGAPIXEL * megapixels))


def unit_text(
    source: str, options: Sequence[str], python: str, folders: Sequence[str] = ()
) -> tuple[str, dict[str, str]]:
    """The systemd unit that runs a source and starts it again.

    Args:
        source: the source's address.
        options: further arguments of `edgecell run`.
        python: path of the interpreter that edgecell is installed for.
        folders: those that it writes files into, beside its own.

    Returns:
        The unit, and by the names of files below /etc/edgecell the addresses that
        hide a password: the unit takes them from there.
    """
    from edgecell.edge.sources.secrets import hides_something

    secrets: dict[str, str] = {}
    words = [quoted(python, expands=False), "-m", "edgecell", "run"]
    name = "source"
    for argument in (source, *options):
        option, equals, value = argument.partition("=")
        if not option.startswith("--"):
            option, equals, value = "", "", argument
        if hides_something(value):
            name = option.removeprefix("--") or name
            secrets[name] = value
            # systemd fills in the folder: what it expands must not be quoted.
            words.append(f"{option}{equals}@${{CREDENTIALS_DIRECTORY}}/{name}")
        else:
            words.append(quoted(argument))
        name = argument.removeprefix("--")
    texts = [_CREDENTIAL_TEXT.format(name=n, folder=_SECRETS) for n in secrets]
    unit = _UNIT_TEXT.format(
        unit=UNIT,
        command=" ".join((*words, "--health", "%t/edgecell/health.json")),
        credential="".join(texts),
        writable="".join(
            f"ReadWritePaths={quoted(folder, expands=False)}\n" for folder in folders
        ),
        research_use=RESEARCH_USE,
        megapixels=_MEGAPIXELS,
        memory=memory_mb(_MEGAPIXELS),
        most_memory=math.ceil(1.15 * memory_mb(_MEGAPIXELS)),
    )
    return unit, secrets


def rule_text(source: str) -> str:
    """The udev rule for a source; only a comment if it is no local V4L camera.

    Raises:
        InputError: no device of udev's can have that name.
    """
    from edgecell.edge.sources.secrets import public_address

    if not source.startswith("/dev/") and not source.isdecimal():
        shown = public_address(source)
        return f"# No udev rule is needed: {shown} is no V4L camera of this machine.\n"
    device = f"/dev/video{source}" if source.isdecimal() else source
    named = _DEVICE.fullmatch(device)
    if named is None or ".." in device:
        raise InputError(f"{printable(source)} is not the name of a camera in /dev")
    # The link was made by 60-persistent-v4l.rules, which ran before.
    key = "KERNEL" if re.fullmatch(r"video\d+", named[1], re.ASCII) else "SYMLINK"
    return _RULE_TEXT.format(rule=RULE, match=f'{key}=="{named[1]}"', unit=UNIT)


def _whole(source: str) -> str:
    """A source as a unit finds it, since a unit runs in a folder of its own."""
    if "://" in source or source == "demo":
        return source
    path = Path(source)
    if path.exists() or has_magic(source) or not source.isdecimal():
        return str(path.absolute())
    return source


@click.group("service", short_help="Start with a camera, as a systemd service.")
def command() -> None:
    """Start 'edgecell run' whenever a camera is plugged in, as a systemd service."""


@command.command("print", context_settings={"ignore_unknown_options": True})
@click.argument("source")
@click.argument("run_options", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--into",
    type=click.Path(path_type=Path, file_okay=False),
    help=f"Write {UNIT} and {RULE} into this folder instead of printing them, and, for "
    "an address with a password, a file that only root can read.",
)
def print_command(source: str, run_options: tuple[str, ...], into: Path | None) -> None:
    """Print a systemd unit and a udev rule for SOURCE.

    SOURCE and RUN_OPTIONS are those of 'edgecell run', such as --keep 5GB. Name a USB
    camera by its link in /dev/v4l/by-id, which stays the same wherever you plug it in.
    If two cameras have the same serial number, use /dev/v4l/by-path.

    Everybody can read the unit. An address with a password is therefore written to a
    file of its own, which only root can read.
    """
    from edgecell.edge.sources.address import open_source
    from edgecell.edge.sources.secrets import read_address

    source = _whole(read_address(source))
    folders = _check_options(source, run_options)
    with suppress(SourceError):  # a camera may be away, or another machine's
        open_source(source, "--watch" in run_options)
    unit, secrets = unit_text(source, run_options, sys.executable, folders)
    rule = rule_text(source)
    _say_what_is_left_to_do(secrets)
    if into is None:
        click.echo(f"{unit}\n{rule}", nl=False)
        return
    write_atomically(into / UNIT, unit)
    write_atomically(into / RULE, rule)
    for name, secret in secrets.items():
        write_atomically(into / name, f"{secret}\n", mode=0o600)
    names = ", ".join(str(into / name) for name in (UNIT, RULE, *secrets))
    click.echo(
        f"Wrote {printable(names)}. The first lines of the unit say how to install it."
    )


_READ = ("model", "scope", "certificate", "key")
_WRITTEN = ("metrics", "json_file", "accounts_file")
"""Parameters of `edgecell run` that name files."""


def _check_options(source: str, options: Sequence[str]) -> list[str]:
    """Finds out now what systemd would only say in its journal.

    Returns:
        Folders of files that the options have written.

    Raises:
        InputError: an option has no place in a unit.
        click.UsageError: `edgecell run` doesn't know it, or would refuse it.
    """
    if any(not c.isprintable() for text in (source, *options) for c in text):
        raise InputError(
            "a unit cannot hold control characters, or bytes that are not UTF-8; in an "
            "address, write them as %XX"
        )
    from edgecell.edge.commands import run
    from edgecell.edge.loop.mqtt import parse_broker
    from edgecell.edge.sources.secrets import read_address

    context = run.command.make_context("run", ["0", *options])
    parameters = context.params
    ours = {"--out": "out", "--video": "video", "--health": "health_file"}
    for option, name in ours.items():
        if parameters[name] is not None:
            raise InputError(
                f"{option} cannot be used in a unit, which is started again and again: "
                "each session gets its own folder in /var/lib/edgecell/edgecell-out, "
                "and health is in /run/edgecell/health.json"
            )
    files = (*_READ, *_WRITTEN)
    for file in (parameters[name] for name in files if parameters[name] is not None):
        if str(file) not in (BUNDLED, "-") and not Path(file).is_absolute():
            raise InputError(
                f"the unit runs in a folder of its own; give the full path of {file}"
            )
    run.config_of(source, parameters)
    if parameters["mqtt"]:
        parse_broker(read_address(parameters["mqtt"]))
    with context:
        serving = run.serving_of(parameters)
    if serving is not None:
        serving.check()
    written = (parameters[name] for name in _WRITTEN)
    return sorted({str(Path(f).parent) for f in written if f not in (None, "-")})


def _say_what_is_left_to_do(secrets: Iterable[str]) -> None:
    for name in secrets:
        click.echo(
            "Note: the address holds a password, so the unit reads it from "
            f"{_SECRETS}/{name}: write it there, and run chmod 600 on that file.",
            err=True,
        )
    if sys.executable.startswith(("/home/", "/root/")):
        click.echo(
            f"Note: {sys.executable} lies in a home folder, which the service's user "
            "may not be able to read; install edgecell in /opt/edgecell, with "
            "requirements/device.txt (see docs/sources.md).",
            err=True,
        )


@command.command("certificate", short_help="Make a certificate for the page.")
@click.argument("hosts", metavar="HOST...", nargs=-1, required=True)
@click.option(
    "--into",
    type=click.Path(path_type=Path, file_okay=False),
    default=".",
    help="Folder to write page.crt and page.key to.  [default: the current one]",
)
def certificate_command(hosts: tuple[str, ...], into: Path) -> None:
    """Make a certificate for HTTPS, so that browsers reach 'edgecell page' as HOST.

    HOST is a name or an address that browsers will use. The certificate is
    self-signed: a browser asks once whether to trust it, unless you install page.crt
    on its machine.
    """
    from edgecell.edge.page.people.certificate import make_certificate

    certificate, key = make_certificate(into, list(hosts))
    click.echo(
        f"Wrote {printable(f'{certificate} and {key}')}. Keep the second file secret. "
        "Use them like this:\n"
        f"edgecell page --host 0.0.0.0 --certificate {certificate} --key {key}"
    )
