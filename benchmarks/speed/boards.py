"""What a board may take for a frame, from instructions counted under emulation.

Counted instructions repeat; their time on a board is an estimate and never a
measurement, since caches and stalls are not emulated.
"""

import json
import subprocess
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from edgecell.benchmarks.speed.work import STAGES
from edgecell.errors import EdgecellError, InputError

CELLS = 5
"""In a frame of the scene."""

LOW, HIGH = 0.25, 0.75
"""Instructions a cycle, as shares of those that the core decodes: an assumption, wide
enough for code that waits for memory and for dense arithmetic. The estimate is made for
the middle. `Board.others` says what others measured on the same cores."""

_STORED = "boards.json"


@dataclass(frozen=True)
class Board:
    """A board with its processor's published figures.

    Attributes:
        name: its name.
        cpu: the core to emulate: the board's, or the nearest that there is.
        hertz: clock, as the board's maker gives it.
        clock: where that is published.
        decodes: instructions that the core decodes in a cycle.
        core: where that is published.
        others: what others measured on the core, each with its address.
    """

    name: str
    cpu: str
    hertz: float
    clock: str
    decodes: int
    core: str
    others: tuple[str, ...]


_PI = "https://www.raspberrypi.com/documentation/computers/processors.html"
_A76 = "https://en.wikipedia.org/wiki/ARM_Cortex-A76"
_A76_MEASURED = (
    "OpenBLAS on one core of a Raspberry Pi 5: 6.4 to 6.7 of at most 8 operations in "
    "double precision a cycle, at two lanes 1.6 multiply-adds and their loads "
    "(https://github.com/OpenMathLib/OpenBLAS/issues/4581)",
    "a loop that misses every cache: 0.22 instructions a cycle "
    "(https://learn.arm.com/learning-paths/servers-and-cloud-computing/top-down-n1/"
    "analysis-1/)",
)

BOARDS = {
    "pi5": Board(
        "Raspberry Pi 5",
        "cortex-a76",
        2.4e9,
        "https://www.raspberrypi.com/products/raspberry-pi-5/",
        4,
        _A76,
        _A76_MEASURED,
    ),
    "pi4": Board(
        "Raspberry Pi 4",
        "cortex-a72",
        1.8e9,
        "https://www.raspberrypi.com/products/raspberry-pi-4-model-b/specifications/",
        3,
        "http://sandsoftwaresound.net/tag/arm11/",
        (
            "Linpack on one core of a Raspberry Pi 4: 3.2 of at most 4 operations in "
            "double precision a cycle, at two lanes 0.8 multiply-adds and their loads "
            "(https://github.com/OpenMathLib/OpenBLAS/issues/4149)",
            "'ls': 0.88 instructions a cycle (https://github.com/SE-Processor-Fuzzing/"
            "control-hazard-analyzer/issues/65)",
        ),
    ),
    "pi3": Board(
        "Raspberry Pi 3B+",
        "cortex-a53",
        1.4e9,
        _PI,
        2,
        "https://www.systemonchips.com/cortex-a53-mips-and-flops-calculation-"
        "limitations-and-practical-measurements",
        (
            "a checksum's loop: 1.05 instructions a cycle "
            "(https://www.systemonchips.com/optimizing-arm-cortex-a53-ipc-for-crc32-"
            "arithmetic-workloads/)",
        ),
    ),
    "orin-nano": Board(
        "Jetson Orin Nano, its processor alone",
        "cortex-a76",  # for its A78AE, which the emulator lacks
        1.5e9,
        "https://developer.nvidia.com/embedded/downloads (Jetson Orin Nano Series Data "
        "Sheet; 1.7 GHz in its later power mode)",
        4,
        f"{_A76}, for its A78AE",
        _A76_MEASURED,
    ),
}


@dataclass(frozen=True)
class Counts:
    """Instructions of the stages of a frame on one core.

    Attributes:
        cpu: the emulated core.
        instructions: by stage, see `work.STAGES`.
        how: the tool that counted them.
    """

    cpu: str
    instructions: dict[str, int]
    how: str

    @property
    def frame(self) -> int:
        """Of a frame with five cells: found, classified, followed."""
        return sum(self.instructions[name] for name in ("find", "classify", "follow"))

    @property
    def inference_share(self) -> float:
        """The network's part of a frame's."""
        return CELLS * self.instructions["inference"] / self.frame

    @property
    def other_share(self) -> float:
        """What is neither inference nor looking for cells."""
        located = self.instructions["locate"] / self.frame
        return 1 - located - self.inference_share


@dataclass(frozen=True)
class Estimate:
    """Milliseconds on one core of a board, by assumption: (least, middle, most)."""

    inference_ms: tuple[float, float, float]
    frame_ms: tuple[float, float, float]


def stored_counts(cpu: str) -> Counts:
    """The counts in the package.

    Raises:
        InputError: there are none of that core.
    """
    path = Path(str(files("edgecell.benchmarks"))) / "results" / _STORED
    stored = json.loads(path.read_text())
    if cpu not in stored["counts"]:
        raise InputError(
            f"no instruction counts of {cpu} are stored; count them with --emulator"
        )
    return Counts(cpu, stored["counts"][cpu], f"stored; {stored['how']}")


def count(cpu: str, emulator: Path) -> Counts:
    """Counts instructions under emulation, which takes some minutes.

    Each stage is run twice, with other repetitions: what comes before it cancels out.

    Args:
        cpu: the core.
        emulator: folder that ``scripts/emulator`` made.

    Raises:
        InputError: it is no such folder.
        EdgecellError: the emulation failed.
    """
    program = emulator / "count"
    if not program.is_file():
        raise InputError(
            f"there is no emulator in {emulator}; make one with scripts/emulator"
        )

    def run(stage: str, times: int) -> int:
        done = subprocess.run(
            [str(program), cpu, stage, str(times)],
            capture_output=True,
            text=True,
            check=False,
        )
        last = (done.stderr.strip().splitlines() or [""])[-1]
        word, _, number = last.partition(" ")
        if done.returncode or word != "instructions" or not number.isdecimal():
            raise EdgecellError(f"{program} {cpu} {stage} failed: {last or 'silently'}")
        return int(number)

    counted = {
        stage: round((run(stage, more) - run(stage, few)) / (more - few))
        for stage, (few, more) in STAGES.items()
    }
    how = (emulator / "how").read_text().strip()
    return Counts(cpu, counted, f"counted now; {how}")


def estimate(board: Board, counts: Counts) -> Estimate:
    """Times on one core of a board."""

    def times(instructions: int) -> tuple[float, float, float]:
        least, middle, most = (
            1e3 * instructions / (board.hertz * board.decodes * share)
            for share in (HIGH, (LOW + HIGH) / 2, LOW)
        )
        return round(least, 2), round(middle, 2), round(most, 2)

    return Estimate(times(counts.instructions["inference"]), times(counts.frame))


def board_data(board: Board, counts: Counts) -> dict[str, Any]:
    """Ready for JSON; 'measured' is False in every case."""
    return {
        "measured": False,
        "board": asdict(board),
        "counts": asdict(counts),
        "frame_instructions": counts.frame,
        "inference_share": round(counts.inference_share, 4),
        "other_share": round(counts.other_share, 4),
        "instructions_per_cycle": [board.decodes * s for s in (LOW, HIGH)],
        "estimate": asdict(estimate(board, counts)),
    }


def board_text(board: Board, counts: Counts) -> str:
    """The figures for people."""
    found = estimate(board, counts)
    lines = [f"{'':<34}{'instructions':>14}{'estimate, ms':>24}"]
    for name, number, times in (
        ("one inference", counts.instructions["inference"], found.inference_ms),
        ("one frame, 640x480, five cells", counts.frame, found.frame_ms),
    ):
        least, middle, most = times
        span = f"{middle:.1f} ({least:.1f}-{most:.1f})"
        lines.append(f"{name:<34}{number / 1e6:>12.1f} M{span:>24}")
    parts = ", ".join(f"{k} {v / 1e6:.1f} M" for k, v in counts.instructions.items())
    low, high = board.decodes * LOW, board.decodes * HIGH
    return "\n".join(
        [
            f"{board.name}: an estimate, not a measurement",
            "",
            *lines,
            "",
            f"five inferences take {counts.inference_share:.0%} of a frame; "
            f"{counts.other_share:.0%} go into neither inference nor finding cells",
            f"stages: {parts}",
            f"counts: {counts.cpu}, {counts.how}",
            f"estimate: one core, {board.hertz / 1e9:g} GHz, {low:g} to {high:g} "
            f"instructions per cycle (assumed; it decodes up to {board.decodes})",
            f"- its clock: {board.clock}",
            f"- what it decodes: {board.core}",
            *(f"- measured by others: {what}" for what in board.others),
            "Do you have this board? 'edgecell bench --submit FILE' measures it.",
        ]
    )
