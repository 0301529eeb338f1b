"""``edgecell service``."""

import shlex
import sys
from contextlib import suppress
from pathlib import Path

import click

from edgecell import RESEARCH_USE
from edgecell.errors import InputError, SourceError
from edgecell.files import write_atomically
from edgecell.model import BUNDLED

UNIT = "edgecell.service"
RULE = "70-edgecell.rules"
_BY_ID = "/dev/v4l/by-id/"

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
WorkingDirectory=%S/edgecell
Environment=PYTHONUNBUFFERED=1
Restart=on-failure
RestartSec=5
# The loop tells every second that it goes round.
WatchdogSec=30
TimeoutStopSec=10

MemoryHigh=400M
MemoryMax=600M
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
ProtectHome=read-only
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

_RULE_TEXT = """\
# /etc/udev/rules.d/{rule}, written by 'edgecell service print'
# sudo udevadm control --reload && sudo udevadm trigger --subsystem-match=video4linux
# The camera is for the group video, and its arrival starts the service.
SUBSYSTEM=="video4linux", {match}, GROUP="video", MODE="0660", TAG+="systemd", \
ENV{{SYSTEMD_WANTS}}+="{unit}"
"""


def unit_text(source: str, options: tuple[str, ...], python: str) -> str:
    """The systemd unit that runs a source for good.

    Args:
        source: the source's address.
        options: further arguments of `edgecell run`.
        python: path of the interpreter that edgecell is installed for.
    """
    health = ("--health", "%t/edgecell/health.json")
    arguments = [python, "-m", "edgecell", "run", source, *options]
    # systemd reads quotes as the shell does, but % and $ in its own way.
    quoted = shlex.join(arguments).replace("%", "%%").replace("$", "$$")
    return _UNIT_TEXT.format(
        unit=UNIT, command=" ".join((quoted, *health)), research_use=RESEARCH_USE
    )


def rule_text(source: str) -> str:
    """The udev rule for a source; only a comment if it is no local V4L camera."""
    if source.isdecimal():
        match = f'KERNEL=="video{source}"'
    elif source.startswith(_BY_ID):
        # Made by 60-persistent-v4l.rules, which came before.
        match = f'SYMLINK=="{source.removeprefix("/dev/")}"'
    elif source.startswith("/dev/"):
        match = f'KERNEL=="{source.removeprefix("/dev/")}"'
    else:
        return f"# No udev rule is needed: {source} is no V4L camera of this machine.\n"
    return _RULE_TEXT.format(rule=RULE, match=match, unit=UNIT)


@click.group("service", short_help="Run at a camera for good, as a systemd service.")
def command() -> None:
    """Run at a camera for good, as a systemd service."""


@command.command("print", context_settings={"ignore_unknown_options": True})
@click.argument("source")
@click.argument("run_options", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--into",
    type=click.Path(path_type=Path, file_okay=False),
    help=f"Write {UNIT} and {RULE} into this folder instead.",
)
def print_command(source: str, run_options: tuple[str, ...], into: Path | None) -> None:
    """Print a systemd unit and a udev rule for SOURCE.

    SOURCE and RUN_OPTIONS are those of 'edgecell run', such as --keep 5GB. Name a USB
    camera by its link below /dev/v4l/by-id, which stays the same wherever it is
    plugged in.
    """
    from edgecell.edge.commands import run as run_command
    from edgecell.edge.sources.address import open_source, public_address

    if any("\n" in text for text in (source, *run_options)) or '"' in source:
        raise InputError("a line break or a quotation mark fits into no unit")
    run = run_command.command.make_context("run", [source, *run_options])
    ours = {"--out": "out", "--video": "video", "--health": "health_file"}
    for option, name in ours.items():
        if run.params[name] is not None:
            raise InputError(
                f"{option} has no place in a unit, which is started again and again: "
                "each session gets its own folder in /var/lib/edgecell/edgecell-out, "
                "and health is in /run/edgecell/health.json"
            )
    model = run.params["model"]
    if model != BUNDLED and not Path(model).is_absolute():
        raise InputError(
            f"the unit runs in a folder of its own; give the whole path of {model}"
        )
    with suppress(SourceError):  # a camera may be away, or another machine's
        open_source(source, run.params["watch"])
    if public_address(source) != source:
        click.echo(
            "Note: the unit holds the stream's password; make it readable by root "
            "alone (chmod 600).",
            err=True,
        )
    if sys.executable.startswith(("/home/", "/root/")):
        click.echo(
            f"Note: {sys.executable} lies in a home folder, which the service's user "
            "may not be able to read; install edgecell in /opt/edgecell.",
            err=True,
        )
    unit = unit_text(source, run_options, sys.executable)
    rule = rule_text(source)
    if into is None:
        click.echo(f"{unit}\n{rule}", nl=False)
        return
    write_atomically(into / UNIT, unit)
    write_atomically(into / RULE, rule)
    click.echo(
        f"Wrote {into / UNIT} and {into / RULE}; their first lines say what to do."
    )
