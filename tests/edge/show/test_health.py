import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgecell.edge.show.health import Board, Health, Monitor, read_board


def some_health(**changes: object) -> Health:
    values: dict[str, object] = {
        "source": "on",
        "frames_in": 100,
        "dropped": 7,
        "broken": 1,
        "reconnects": 2,
        "analysed": 93,
        "gated": {"out of focus": 3},
        "classified": 50,
        "age_ms": 41.5,
        "fps": 22.25,
        "recording": "on",
        "recorded": 90,
        "overflowed": 0,
        "undrawn": 0,
        "uptime_s": 4.5,
        "board": Board(61.2, ("throttled",)),
    }
    return Health(**(values | changes))  # type: ignore[arg-type]


def test_a_raspberry_pi_tells_heat_and_throttling(tmp_path: Path) -> None:
    for zone, millidegrees in (("thermal_zone0", "48312\n"), ("thermal_zone1", "-1")):
        (tmp_path / "class/thermal" / zone).mkdir(parents=True)
        (tmp_path / "class/thermal" / zone / "temp").write_text(millidegrees)
    assert read_board(tmp_path) == Board(48.312, None)
    firmware = tmp_path / "devices/platform/soc/soc:firmware"
    firmware.mkdir(parents=True)
    for bits, names in (
        ("0", ()),
        ("50005", ("under-voltage", "throttled")),
        ("80008", ("soft temperature limit",)),
        ("f0000", ()),
        ("rubbish", ()),
    ):
        (firmware / "get_throttled").write_text(bits)
        assert read_board(tmp_path).throttling == names
    assert read_board(tmp_path / "none") == Board(None, None)


@pytest.mark.parametrize(
    "path", ["soc@107c000000/soc@107c000000:firmware", "soc@1/axi/soc@1:firmware"]
)
def test_a_raspberry_pi_5_tells_throttling_elsewhere(tmp_path: Path, path: str) -> None:
    firmware = tmp_path / "devices/platform" / path
    firmware.mkdir(parents=True)
    (firmware / "get_throttled").write_text("50005\n")
    assert read_board(tmp_path).throttling == ("under-voltage", "throttled")


def test_the_hardware_monitor_tells_under_voltage(tmp_path: Path) -> None:
    monitors = [tmp_path / "class/hwmon" / name for name in ("hwmon0", "hwmon2")]
    for monitor, name in zip(monitors, ("cpu_thermal", "rpi_volt"), strict=True):
        monitor.mkdir(parents=True)
        (monitor / "name").write_text(f"{name}\n")
        (monitor / "in0_lcrit_alarm").write_text("0\n")
    assert read_board(tmp_path).throttling == ()
    (monitors[0] / "in0_lcrit_alarm").write_text("1\n")
    assert read_board(tmp_path).throttling == (), "another sensor's alarm"
    (monitors[1] / "in0_lcrit_alarm").write_text("1\n")
    assert read_board(tmp_path).throttling == ("under-voltage",)


def test_health_is_json_and_one_line() -> None:
    found = json.loads(json.dumps(some_health().to_dict()))
    assert found["board"] == {"temperature_c": 61.2, "throttling": ["throttled"]}
    assert found["at"].endswith("+00:00")
    line = some_health().line()
    for part in ("Source on", "22.2 frames/s", "42 ms", "gated 3", "61 C", "throttled"):
        assert part in line


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What systemd listens on; sd_notify(3)."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        yield listener


def messages(listener: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(listener.recv(4096).decode().strip())
        except BlockingIOError:
            return found


def test_systemd_is_told_as_long_as_the_loop_goes_round(
    systemd: socket.socket, tmp_path: Path
) -> None:
    now = [1000.0]
    shown: list[Health] = []
    told: list[str] = []

    def told_times(times: int) -> None:
        end = len(shown) + times
        while len(shown) < end:
            time.sleep(0.002)

    file = tmp_path / "h.json"
    with Monitor(some_health, file, shown.append, 0.005, lambda: now[0]) as monitor:
        told_times(4)
        told = messages(systemd)
        assert told[0] == "READY=1"
        assert told.count("WATCHDOG=1") >= 3
        assert any(
            m.startswith("STATUS=Source on, recording on, 22.2 frames/s") for m in told
        )
        assert json.loads(file.read_text())["frames_in"] == 100
        now[0] += 21  # the loop hangs
        told_times(2)  # one may have been under way
        messages(systemd)
        told_times(4)
        assert messages(systemd) == []
        monitor.turn()
        told_times(2)
        assert "WATCHDOG=1" in messages(systemd)


def test_a_health_file_that_cannot_be_written_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert "NOTIFY_SOCKET" not in os.environ
    (tmp_path / "file").write_text("")
    shown: list[Health] = []
    with Monitor(some_health, tmp_path / "file" / "h.json", shown.append, 0.005):
        while len(shown) < 4:
            time.sleep(0.002)
    assert caplog.text.count("the health file is no longer written") == 1
