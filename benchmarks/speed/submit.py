"""What a person with a board can send back: all its figures in one file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecell import __version__
from edgecell.benchmarks.budgets import measure
from edgecell.benchmarks.speed.stages import measure_stages
from edgecell.files import write_atomically

SIZES = ((640, 480), (1920, 1080))


@dataclass(frozen=True)
class Submission:
    """The model's figures and where a frame's time goes, for `SIZES`."""

    model: dict[str, Any]
    frames: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"measured": True, "edgecell": __version__} | self.__dict__


def write_submission(model: Path, runs: int, frames: int, out: Path) -> Submission:
    """Measures this machine and writes what is to be sent.

    Args:
        model: a ``.tflite`` of ours.
        runs: timed inferences.
        frames: of each size, at least 30.
        out: the file; it names the machine and the system, and no person.

    Raises:
        OutputError: it can't be written.
    """
    found = Submission(
        measure(model, (1, 2), runs).to_dict(),
        [measure_stages(model, frames, size).to_dict() for size in SIZES],
    )
    write_atomically(out, json.dumps(found.to_dict(), indent=1) + "\n")
    return found


def submission_text(found: Submission, out: Path) -> str:
    """What to do with it, and its main figures."""
    one = found.model["latencies"][0]["classify"]["median_ms"]
    lines = [
        f"{f['width']}x{f['height']}: {f['fps']:.1f} frames a second, "
        f"{f['cpu_ms']:.1f} ms of processor time a frame"
        for f in found.frames
    ]
    return "\n".join(
        [
            f"machine: {found.model['machine']['model']}",
            f"one cell's image to its prediction, one thread: {one:.2f} ms",
            *lines,
            f"Wrote {out}. Attach it to an issue titled 'Speed of BOARD', and say how "
            "the board is cooled and powered. The file contains no names and no "
            "pictures.",
        ]
    )
