import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgecell import RESEARCH_USE
from edgecell.cli import cli
from edgecell.edge.commands.service import (
    memory_mb,
    quoted,
    rule_text,
    unit_text,
)
from edgecell.edge.sources.secrets import read_address
from edgecell.errors import InputError
from tests.factories import SAMPLES

ROOT = Path(__file__).parents[3]

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


needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


def as_systemd_reads(unit: str, folder: Path) -> list[str]:
    """The arguments of a unit's command, by systemd itself."""
    (folder / "edgecell.service").write_text(unit, errors="surrogateescape")
    done = subprocess.run(
        ["systemd-analyze", "verify", str(folder / "edgecell.service")],
        env={"SYSTEMD_LOG_LEVEL": "debug"},
        capture_output=True,
        check=False,
    )
    said = done.stdout.decode(errors="surrogateescape")
    # A control character in an argument would have begun a line of its own.
    commands = re.findall(r"^\t+Command Line: (.*)$", said, re.MULTILINE)
    assert len(commands) == 1, done.stderr
    assert "ExecStartPre" not in re.findall(r"-> (\w+):", said)
    return [
        word[1:-1] if word.startswith('"') else word
        for word in (
            re.sub(r"\\([0-7]{3}|.)", _meant, word)
            for word in re.findall(r'"(?:\\.|[^"\\])*"|[^ ]+', commands[0])
        )
    ]


def _meant(escape: re.Match[str]) -> str:
    code = escape[1]
    if len(code) == 3:
        return os.fsdecode(bytes([int(code, 8)]))
    return {"n": "\n", "r": "\r", "t": "\t", "a": "\a", "b": "\b", "f": "\f",
            "v": "\v", "s": " "}.get(code, code)  # fmt: skip


HOSTILE = [
    "a\\'\rExecStartPre=+/bin/touch /tmp/x\rX-a=",
    "a\nExecStartPre=+/bin/true",
    "\\",
    "a\\",
    "\\x0d",
    "'",
    '"',
    ";",
    "a ; b",
    "$HOME ${HOME} $$",
    "%n %% %h",
    " ",
    "",
    "#",
    "-a",
    "+/bin/sh",
    "\t\x0b\x7f\x1b",
    "Pr\udce4parat",
    "Präparat \u2028 \U0001f9a0",
]


@needs_systemd
def test_systemd_reads_hostile_arguments_as_they_are(tmp_path: Path) -> None:
    python = tmp_path / "a b$c%d"
    shutil.copy("/bin/true", python)
    unit, secrets = unit_text("0", HOSTILE, str(python))
    assert secrets == {}
    read = as_systemd_reads(unit, tmp_path)
    # What is doubled is halved only when the command is run.
    assert read[0] == str(python)
    assert [x.replace("$$", "$") for x in read[5:-2]] == [
        x for x in map(_bytes_as_text, HOSTILE)
    ]


def _bytes_as_text(text: str) -> str:
    return text.encode(errors="surrogateescape").decode(errors="surrogateescape")


@needs_systemd
@settings(max_examples=12, suppress_health_check=list(HealthCheck), deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="\0"), max_size=12),
                min_size=10, max_size=30))  # fmt: skip
def test_systemd_reads_any_arguments_as_they_are(texts: list[str]) -> None:
    texts = [t.encode(errors="replace").decode() for t in texts]
    with tempfile.TemporaryDirectory() as folder:
        read = as_systemd_reads(unit_text("0", texts, "/bin/true")[0], Path(folder))
    assert [x.replace("$$", "$") for x in read[5:-2]] == texts


@needs_systemd
def test_the_unit_is_one_that_systemd_knows(tmp_path: Path) -> None:
    assert service(BY_ID, "--keep", "5GB", "--into", tmp_path).exit_code == 0
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / "edgecell.service")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("address", "mqtt"),
    [
        ("rtsp://anna:p$1%x@10.0.0.7/live one", ()),
        ("http://10.0.0.7/video?user=a&pwd=p$1%x", ()),
        ("rtsp://10.0.0.7/live", ("--mqtt", "mqtt://anna:p$1%x@hub/lab")),
        ("rtsp://10.0.0.7/live", ("--mqtt=mqtt://anna:p$1%x@hub/lab",)),
    ],
)
def test_a_password_is_in_a_file_for_root_alone(
    tmp_path: Path, address: str, mqtt: tuple[str, ...]
) -> None:
    result = service(address, *mqtt, "--into", tmp_path)
    assert result.exit_code == 0, result.output
    assert "chmod 600" in result.stderr
    name = "mqtt" if mqtt else "source"
    unit = (tmp_path / "edgecell.service").read_text()
    assert f"LoadCredential={name}:/etc/edgecell/{name}" in unit
    assert (
        f"@${{CREDENTIALS_DIRECTORY}}/{name}"
        in unit_of(tmp_path)["Service"]["ExecStart"]
    )
    secret = tmp_path / name
    assert secret.stat().st_mode & 0o777 == 0o600
    assert read_address(f"@{secret}") == (
        mqtt[-1].removeprefix("--mqtt=") if mqtt else address
    )
    others = [path for path in tmp_path.iterdir() if path != secret]
    for text in (result.output, *(path.read_text() for path in others)):
        assert "p$1%x" not in text
        assert "p$$1" not in text
    printed = service(address, *mqtt)
    assert "p$" not in printed.output
    assert "chmod 600" in printed.stderr


def test_an_address_from_a_file_stays_in_one(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("rtsp://anna:pw1@10.0.0.7/live")
    (tmp_path / "a").chmod(0o600)
    result = service(f"@{tmp_path / 'a'}")
    assert "@${CREDENTIALS_DIRECTORY}/source" in result.stdout
    assert "pw1" not in result.output


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ("/dev/video3", 'KERNEL=="video3"'),
        (
            "/dev/v4l/by-path/pci-0000:00:14.0-usb-0:1:1.0-video-index0",
            'SYMLINK=="v4l/by-path/pci-0000:00:14.0-usb-0:1:1.0-video-index0"',
        ),
        ("/dev/microscope", 'SYMLINK=="microscope"'),
    ],
)
def test_a_rule_matches_the_camera_by_what_it_is_named(source: str, match: str) -> None:
    (line,) = [x for x in rule_text(source).splitlines() if not x.startswith("#")]
    assert f'SUBSYSTEM=="video4linux", {match}, GROUP' in line


@pytest.mark.parametrize(
    "name", ['video0", RUN+="/bin/sh', "a*", "a|b", "v4l/../../etc/x", "a b", "ä", ""]
)
def test_a_rule_for_a_name_that_no_device_has_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="not the name of a camera"):
        rule_text(f"/dev/{name}")


def test_no_line_of_a_rule_comes_from_an_address() -> None:
    text = rule_text('http://h/x\nSUBSYSTEM=="a", RUN+="/bin/sh"')
    assert text.count("\n") == 1
    assert text.startswith("#")


def test_a_relative_source_is_given_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slides").mkdir()
    for source in ("slides", "slides/*.png"):
        result = service(source, "--watch")
        assert result.exit_code == 0, result.output
        assert f"run {quoted(str(tmp_path / source))} --watch" in result.stdout
    assert " run demo " in service("demo").stdout
    assert " run 0 " in service("0").stdout
    (tmp_path / "0").mkdir()
    assert f" run {tmp_path}/0 " in service("0", "--watch").stdout


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
        (["a\rb"], 1),
        (["0", "--json", "a\rExecStartPre=+/bin/true"], 1),
        (['/dev/a"b'], 1),
        (["@/none"], 1),
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


MEASURE = """
import resource, subprocess, sys
done = subprocess.run([sys.executable, "-m", "edgecell", "run", *sys.argv[1:]],
                      capture_output=True)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(done.returncode, peak // 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(640, 480), (6000, 4000)])
def test_the_unit_has_room_for_large_frames(
    tmp_path: Path, width: int, height: int
) -> None:
    """One field in the corner of each frame; docs/sources.md has full ones."""
    field = np.asarray(cv2.imread(str(SAMPLES / "frames" / "bccd_1.jpg")))
    picture = np.full((height, width, 3), 215, np.uint8)
    picture[: field.shape[0], : field.shape[1]] = field
    (tmp_path / "in").mkdir()
    for n in range(3):
        cv2.imwrite(str(tmp_path / "in" / f"{n}.jpg"), np.roll(picture, 40 * n, 1))
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            MEASURE,
            str(tmp_path / "in"),
            "--out",
            str(tmp_path / "o"),
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    status, peak_mb = map(int, done.stdout.split())
    assert status == 0
    assert peak_mb < memory_mb(width * height / 1e6)


def test_the_units_limits_follow_from_what_was_measured(tmp_path: Path) -> None:
    measured = json.loads((ROOT / "benchmarks/results/memory.json").read_text())["rows"]
    assert {row["source"] for row in measured} == {"stills", "stream"}
    assert max(row["width"] * row["height"] for row in measured) > 24e6
    for row in measured:
        assert row["peak_mb"] < memory_mb(row["width"] * row["height"] / 1e6)
    service("0", "--into", tmp_path)
    unit = unit_of(tmp_path)["Service"]
    high, most = (int(unit[name].rstrip("M")) for name in ("MemoryHigh", "MemoryMax"))
    assert memory_mb(24) == high < most


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--metrics", "x.prom"], "full path of x.prom"),
        (["--page", "--accounts", "people"], "full path of people"),
        (["--certificate", "/c.crt", "--key", "/c.key"], "goes with --page"),
        (["--page", "--host", "0.0.0.0"], "--certificate"),
        (["--until", "rubbish"], "is not a goal"),
        (["--mqtt", "rubbish"], "a broker's address is"),
    ],
)
def test_what_run_would_refuse_is_refused_before_a_unit_is_written(
    options: list[str], said: str
) -> None:
    done = service("0", *options)
    assert said in done.output
    assert "[Unit]" not in done.output


def test_a_unit_may_write_where_its_options_say(tmp_path: Path) -> None:
    folder = tmp_path / "50 % $x"
    service("0", "--metrics", str(folder / "x.prom"), "--into", tmp_path)
    lines = (tmp_path / "edgecell.service").read_text().splitlines()
    assert f'ReadWritePaths="{tmp_path}/50 %% $x"' in lines
