import configparser
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgecell import RESEARCH_USE
from edgecell.cli import cli

BY_ID = "/dev/v4l/by-id/usb-046d_HD_Microscope_5A2F-video-index0"


def service(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["service", "print", *map(str, arguments)])


def unit_of(folder: Path) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(folder / "edgecell.service")
    return parser


def test_the_unit_and_the_rule(tmp_path: Path) -> None:
    result = service(BY_ID, "--keep", "5GB", "--into", tmp_path)
    assert result.exit_code == 0
    unit = unit_of(tmp_path)["Service"]
    arguments = shlex.split(unit["ExecStart"])
    assert arguments[1:] == [
        *("-m", "edgecell", "run", BY_ID, "--keep", "5GB"),
        *("--health", "%t/edgecell/health.json"),
    ]
    assert Path(arguments[0]).is_absolute()
    assert unit["Type"] == "notify"
    assert int(unit["WatchdogSec"]) > 20, "longer than Monitor waits for the loop"
    assert unit["User"] == "edgecell"
    assert unit["ProtectSystem"] == "strict"
    assert unit["Restart"] == "on-failure"
    assert {"MemoryMax", "TasksMax", "NoNewPrivileges"} <= set(unit)
    rule = (tmp_path / "70-edgecell.rules").read_text().splitlines()
    (line,) = [x for x in rule if not x.startswith("#")]
    assert f'SYMLINK=="{BY_ID.removeprefix("/dev/")}"' in line
    assert 'ENV{SYSTEMD_WANTS}+="edgecell.service"' in line


def test_it_is_printed_with_where_it_belongs() -> None:
    result = service("0")
    assert "# /etc/systemd/system/edgecell.service" in result.stdout
    assert "# /etc/udev/rules.d/70-edgecell.rules" in result.stdout
    assert 'KERNEL=="video0"' in result.stdout
    assert RESEARCH_USE in result.stdout


def test_systemd_reads_what_was_meant(tmp_path: Path) -> None:
    """% and $ are doubled in ExecStart=, quotes are the shell's (systemd.service)."""
    address = "rtsp://anna:p$1%@10.0.0.7/live one"
    result = service(address, "--into", tmp_path)
    command = unit_of(tmp_path)["Service"]["ExecStart"]
    read = shlex.split(command.replace("%%", "%").replace("$$", "$"))
    assert read[4] == address
    assert "password" in result.stderr
    assert "No udev rule" in (tmp_path / "70-edgecell.rules").read_text()


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["0", "--kep", "5GB"], 2),
        (["0", "--target", "no"], 2),
        (["0", "--keep", "much"], 1),
        (["0", "--watch"], 1),
        (["0", "--out", "/data/s"], 1),
        (["0", "--video", "/data/x.avi"], 1),
        (["0", "--health", "/run/x.json"], 1),
        (["0", "--model", "lite.tflite"], 1),
        (["ftp://host/x"], 1),
        (["a\nb"], 1),
        ([], 2),
    ],
)
def test_bad_input_is_refused_now_and_not_by_systemd(
    arguments: list[str], status: int
) -> None:
    result = service(*arguments)
    assert result.exit_code == status
    assert "Traceback" not in result.output
    assert result.stdout == ""
