"""Health of a running loop, for people, systemd and programs that read JSON."""

import json
import logging
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from itertools import chain
from pathlib import Path
from typing import Any

from systemd_watchdog.systemd_watchdog import WatchDog

from edgecell.errors import OutputError
from edgecell.files import write_atomically

logger = logging.getLogger(__name__)

PERIOD_S = 1.0
_JOIN_S = 1.0
"""A terminal or disk that hangs must not hold up the end of the program."""

_HUNG_S = 20.0
"""A loop that has not gone round for so long is not reported as healthy."""

# https://www.raspberrypi.com/documentation/computers/os.html#get_throttled
_THROTTLING = {
    0: "under-voltage",
    1: "frequency capped",
    2: "throttled",
    3: "soft temperature limit",
}

_FIRMWARE = tuple(
    f"{above}soc*:firmware/get_throttled" for above in ("", "soc*/", "soc*/*/")
)
"""Where a Raspberry Pi's firmware is below the platform's devices, by model."""


@dataclass(frozen=True)
class Board:
    """What the board's sensors say.

    Attributes:
        temperature_c: of the hottest sensor, degrees Celsius; None if there is none.
        throttling: what slows a Raspberry Pi down right now; None on other boards.
    """

    temperature_c: float | None
    throttling: tuple[str, ...] | None


def read_board(sys: Path = Path("/sys")) -> Board:
    """Asks the kernel for temperature and throttling."""
    temperatures = []
    for file in (sys / "class" / "thermal").glob("thermal_zone*/temp"):
        text = _read(file)
        if text and text.lstrip("-").isdigit():
            temperatures.append(int(text) / 1000)
    return Board(max(temperatures, default=None), _read_throttling(sys))


def _read_throttling(sys: Path) -> tuple[str, ...] | None:
    """What the firmware and the supply's monitor say; None where there is neither.

    A Raspberry Pi 5's firmware has another path than older ones', and since Linux 4.19
    under-voltage is reported by the hardware monitor.
    """
    found: list[str] | None = None
    platform = sys / "devices/platform"
    for file in chain.from_iterable(map(platform.glob, _FIRMWARE)):
        found = [*(found or []), *_throttling(_read(file) or "")]
    for monitor in (sys / "class/hwmon").glob("hwmon*"):
        if _read(monitor / "name") == "rpi_volt":
            is_low = _read(monitor / "in0_lcrit_alarm") == "1"
            found = [*(found or []), *([_THROTTLING[0]] if is_low else [])]
    return None if found is None else tuple(dict.fromkeys(found))


def _throttling(bits: str) -> tuple[str, ...]:
    try:
        value = int(bits, 16)
    except ValueError:
        return ()
    return tuple(name for bit, name in _THROTTLING.items() if value >> bit & 1)


def _read(file: Path) -> str | None:
    try:
        return file.read_text().strip()
    except OSError:
        return None


@dataclass(frozen=True)
class Health:
    """Health of the loop.

    Attributes:
        source: 'on', or why it is lost.
        frames_in: frames read.
        dropped: frames of a live source that came while another was analysed, or grew
            stale.
        broken: pictures that could not be read.
        reconnects: times that a lost source came back.
        analysed: frames analysed, the gated ones included.
        gated: frames too poor to be judged, by reason.
        classified: sightings of cells that were classified.
        age_ms: age of the last frame that was analysed, milliseconds. It grows while
            the source is lost or the loop hangs.
        fps: frames analysed per second, recently.
        recording: 'on', or why it stopped.
        recorded: frames written.
        overflowed: frames that were not recorded because the disk was too slow.
        undrawn: pictures left out for the same reason.
        uptime_s: seconds since the loop started.
        microscope: 'known (...)', 'calibrated (...)', the same with ', shown to be
            right', 'unknown' or 'not identified yet'.
        at: when this was measured, UTC, ISO 8601.
        board: see `Board`.
    """

    source: str
    frames_in: int
    dropped: int
    broken: int
    reconnects: int
    analysed: int
    gated: dict[str, int]
    classified: int
    age_ms: float | None
    fps: float
    recording: str
    recorded: int
    overflowed: int
    undrawn: int
    uptime_s: float
    microscope: str = "not identified yet"
    at: str = field(
        default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds")
    )
    board: Board = field(default_factory=read_board)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    def line(self) -> str:
        """The most important figures, for a terminal and systemd's status."""
        heat = self.board.temperature_c
        # Problems come first: a terminal may cut off the rest.
        parts = [
            f"Source {self.source}",
            f"recording {self.recording}",
            *([f"not recorded {self.overflowed}"] if self.overflowed else []),
            f"{self.fps:.1f} frames/s",
            "no frame yet" if self.age_ms is None else f"frame age {_age(self.age_ms)}",
            f"dropped {self.dropped}",
            f"reconnects {self.reconnects}",
            *([f"gated {sum(self.gated.values())}"] if self.gated else []),
            *([f"{heat:.0f} C"] if heat is not None else []),
            *(self.board.throttling or ()),
        ]
        return ", ".join(parts)


def _age(milliseconds: float) -> str:
    if milliseconds < 10_000:
        return f"{milliseconds:.0f} ms"
    return f"{milliseconds / 1000:.0f} s"


class Monitor:
    """Reports the health of the loop every second, on a thread of its own."""

    def __init__(
        self,
        examine: Callable[[], Health],
        file: Path | None,
        show: Callable[[Health], None] | None,
        period_s: float = PERIOD_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepares the thread. If systemd started the program, it is notified too.

        Args:
            examine: returns the loop's health; called on the monitor's thread.
            file: JSON file that is rewritten every time; None for none.
            show: called every time, and once more at the end; None for nobody.
            period_s: time between two looks, seconds.
            clock: gives seconds, by which a loop that hangs is known.
        """
        self._period_s, self._clock = period_s, clock
        self._examine, self._file, self._show = examine, file, show
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._systemd = WatchDog(self._socket)  # does nothing without systemd
        self._turned_s = self._clock()
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._work, name="edgecell-monitor", daemon=True
        )

    def __enter__(self) -> "Monitor":
        self._systemd.ready()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(_JOIN_S)
        self._tell()
        self._socket.close()

    def turn(self) -> None:
        """Call it on every turn of the loop, to show that the loop is not hung."""
        self._turned_s = self._clock()

    def _work(self) -> None:
        while not self._stop.wait(self._period_s):
            self._tell()

    def _tell(self) -> None:
        health = self._examine()
        if self._file is not None:
            try:
                write_atomically(self._file, json.dumps(health.to_dict(), indent=1))
            except OutputError as e:
                logger.warning("%s; the health file is no longer written", e)
                self._file = None
        if self._clock() - self._turned_s < _HUNG_S:
            # Not `ping`, which goes by the wall clock: boards without a battery jump.
            self._systemd.notify()
            self._systemd.status(health.line())
        if self._show is not None:
            self._show(health)
