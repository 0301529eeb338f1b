"""The camera loop under load: speed, what takes the time, and memory."""

import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgecell.benchmarks.latency import Machine, resident_bytes, this_machine
from edgecell.benchmarks.speed.scene import (
    FIELD_S,
    FRAMES_PER_S,
    HEIGHT,
    WIDTH,
    PacedFrames,
)
from edgecell.edge.count.tracking import TrackedFrame
from edgecell.edge.loop.config import LoopConfig
from edgecell.edge.loop.run import Observer, Run, open_run
from edgecell.edge.show.film import Film
from edgecell.image.preprocess import Image, Rgb
from edgecell.model.classifier import Classifier, Prediction

_SAMPLES = 200
_KEEP_BYTES = 500 << 20


@dataclass(frozen=True)
class LoopRow:
    """Performance of the whole loop on one machine.

    Attributes:
        machine: what it ran on.
        runtime: TFLite runtime with its version.
        threads: threads of the network.
        viewers: who watched the live page; None if there was none.
        frames_in: frames that the source sent, at 30 a second.
        frames: those that were analysed, drawn with their maps and recorded.
        seconds: wall time.
        fps: analysed frames a second.
        cpu_s: processor time of the whole process meanwhile.
        cells_per_frame: cells classified in a frame, mean.
        frame_ms: the loop's work on a frame, mean, without waiting for the next.
        inference_ms: the part of it spent in the classifier.
        other_share: the rest of it, 0..1.
        age_ms: age of a frame when it was done, median.
        overflowed: frames that were not recorded, since the disk was too slow.
        undrawn: frames that were not drawn, since the writer's thread was.
        rss_bytes: (frames, resident bytes), some 200 pairs.
    """

    machine: Machine
    runtime: str
    threads: int
    viewers: int | None
    frames_in: int
    frames: int
    seconds: float
    fps: float
    cpu_s: float
    cells_per_frame: float
    frame_ms: float
    inference_ms: float
    other_share: float
    age_ms: float
    overflowed: int
    undrawn: int
    rss_bytes: tuple[tuple[int, int], ...]

    @property
    def rss_peak_bytes(self) -> int:
        """Highest of the samples."""
        return max(size for _, size in self.rss_bytes)

    @property
    def rss_growth_bytes(self) -> int:
        """How much the mean of the last fifth exceeds that of the second fifth.

        The first fifth is left out: caches fill, and the fields are seen first.
        """
        sizes = [size for _, size in self.rss_bytes]
        fifth = max(1, len(sizes) // 5)
        return round(float(np.mean(sizes[-fifth:]) - np.mean(sizes[fifth:][:fifth])))

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self) | {
            "rss_peak_bytes": self.rss_peak_bytes,
            "rss_growth_bytes": self.rss_growth_bytes,
        }


class _TimedClassifier(Classifier):
    busy_s = 0.0

    def classify_all(
        self, images: Sequence[Rgb], features: bool = False
    ) -> list[Prediction]:
        start = time.perf_counter()
        try:
            return super().classify_all(images, features)
        finally:
            self.busy_s += time.perf_counter() - start


class _DrawnOnly(Film):
    """Has every frame drawn and keeps none: a film of a night would fill the disk."""

    def show(self, picture: Image, time_s: float | None) -> None:
        pass


class _Memory(Observer):
    """Samples the memory of the process, and stops the run once all frames are sent."""

    def __init__(self, source: PacedFrames, frames: int) -> None:
        self._source, self._frames = source, frames
        self._every = max(1, frames // _SAMPLES)
        self.sizes: list[tuple[int, int]] = []

    def begun(self, run: Run) -> None:
        self._run = run

    def turn(self, tracked: TrackedFrame | None) -> None:
        at = self._source.sent
        if tracked and (not self.sizes or at >= self.sizes[-1][0] + self._every):
            self.sizes.append((at, resident_bytes() or 0))
        if at >= self._frames:
            self._run.stop()


def measure_loop(
    model: Path,
    threads: int,
    frames: int,
    viewers: int | None = None,
    field_s: float = FIELD_S,
) -> LoopRow:
    """Runs the loop on a paced source with everything on: maps drawn, all recorded.

    Args:
        model: a ``.tflite`` that `edgecell convert` wrote.
        threads: threads of the network, at least 1.
        frames: frames that the source sends, at least 30.
        viewers: browsers' stand-ins that watch the live page; None for no page.
        field_s: as for `PacedFrames`.

    Raises:
        ModelError: not a model of ours, or damaged.
        OutputError: the temporary folder's disk is full.
    """
    classifier = _TimedClassifier(model, threads)
    source = PacedFrames(frames, field_s=field_s)
    with tempfile.TemporaryDirectory(prefix="edgecell-bench-") as folder:
        out = Path(folder)
        config = LoopConfig(
            source.name, out=out / "session", threads=threads, keep_bytes=_KEEP_BYTES
        )
        film = _DrawnOnly(out / "none.avi")
        memory = _Memory(source, frames)
        run = open_run(config, source, classifier, film)
        with ExitStack() as stack:
            watching: list[Observer] = [memory]
            if viewers is not None:
                from edgecell.benchmarks.page.viewers import watched

                watching.append(stack.enter_context(watched(out, viewers)))
            before_s = time.process_time()
            (session,) = run.go(watching)
            cpu_s = time.process_time() - before_s
    if session.error is not None:
        raise session.error
    tally, health = session.tally, session.health
    busy_s = tally.seconds - tally.waited_s
    return LoopRow(
        machine=this_machine(),
        runtime=str(classifier.runtime),
        threads=threads,
        viewers=viewers,
        frames_in=health.frames_in,
        frames=tally.frames,
        seconds=round(tally.seconds, 2),
        fps=round(tally.frames / tally.seconds, 2),
        cpu_s=round(cpu_s, 2),
        cells_per_frame=round(tally.classified / tally.frames, 2),
        frame_ms=round(1e3 * busy_s / tally.frames, 2),
        inference_ms=round(1e3 * classifier.busy_s / tally.frames, 2),
        other_share=round(1 - classifier.busy_s / busy_s, 3),
        age_ms=round(float(np.median(tally.age_ms)), 1),
        overflowed=health.overflowed,
        undrawn=health.undrawn,
        rss_bytes=tuple(memory.sizes),
    )


def loop_text(row: LoopRow) -> str:
    """The figures for people, beside what issue and budget ask for."""
    mega = 10**6
    rows: Sequence[tuple[str, str, str]] = (
        ("frames a second, maps drawn", f"{row.fps:.1f}", "at least 20"),
        ("classifying thread, ms a frame", f"{row.frame_ms:.1f}", ""),
        ("of which inference, ms", f"{row.inference_ms:.1f}", ""),
        ("of which other work, share", f"{row.other_share:.0%}", "at most 40%"),
        ("frame's age when done, ms", f"{row.age_ms:.0f}", ""),
        (
            "resident memory, peak, MB",
            f"{row.rss_peak_bytes / mega:.0f}",
            "at most 300",
        ),
        ("its growth, MB", f"{row.rss_growth_bytes / mega:.1f}", "none"),
        ("frames not recorded, not drawn", f"{row.overflowed}, {row.undrawn}", "none"),
    )
    m = row.machine
    return "\n".join(
        [
            f"{row.frames} of {row.frames_in} frames of {WIDTH}x{HEIGHT} at "
            f"{FRAMES_PER_S:.0f} a second, {row.cells_per_frame:.1f} cells a frame",
            *(f"{name:<32}{value:>8}  {asked}".rstrip() for name, value, asked in rows),
            f"runtime: {row.runtime}, threads: {row.threads}, "
            f"live viewers: {'no page' if row.viewers is None else row.viewers}",
            f"machine: {m.model}, {m.architecture}, {m.cores} cores",
        ]
    )
