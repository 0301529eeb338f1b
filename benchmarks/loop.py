"""The camera loop under load: speed, what takes the time, and memory."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgecell.benchmarks.latency import Machine, resident_bytes, this_machine
from edgecell.edge.count.tracking import TrackedFrame
from edgecell.edge.find.localise import locate
from edgecell.edge.loop.config import LoopConfig
from edgecell.edge.loop.run import Observer, Run, open_run
from edgecell.edge.show.film import Film
from edgecell.edge.sources import SAMPLES
from edgecell.edge.sources.base import Frame, Skipped
from edgecell.edge.sources.still import read_image
from edgecell.image.preprocess import Bgr, Image, Rgb
from edgecell.model.classifier import Classifier, Prediction

FRAMES_PER_S = 30.0
WIDTH, HEIGHT = 640, 480
_MARGIN = 10
"""The stage trembles by so many pixels, so that cells have to be followed."""

_PLACES = ((112, 120), (320, 130), (528, 118), (112, 358), (490, 365))
"""Where the cells' centres are (x, y); a cell of these frames is some 130 pixels."""

FIELD_S = 10.0
"""The stage goes to another field after so long; there are four."""

_SAMPLES = 200
_KEEP_BYTES = 500 << 20


@dataclass(frozen=True)
class LoopRow:
    """How the whole loop did on one machine.

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


def crowded_field() -> Bgr:
    """A field of the size of a frame and its margin with five white cells.

    Returns:
        uint8 BGR (HEIGHT + 2 margins, WIDTH + 2 margins, 3), made of sample frames.
    """
    frames = [read_image(p) for p in sorted((SAMPLES / "frames").glob("bccd*"))]
    cells = [
        frame[d.box.y0 : d.box.y1, d.box.x0 : d.box.x1]
        for frame in frames
        for d in locate(frame)
        if d.kind == "white" and not d.cut_by_border
    ]
    size = (WIDTH + 2 * _MARGIN, HEIGHT + 2 * _MARGIN)
    # Red cells alone: the sample's white cells are covered by a part without any.
    field = np.asarray(cv2.resize(_without_white_cells(frames[0]), size), np.uint8)
    for i, (x, y) in enumerate(_PLACES):
        cell = cells[i % len(cells)]
        height, width = cell.shape[:2]
        mask = np.zeros((height, width, 1), np.float32)
        axes = (width // 2 - 4, height // 2 - 4)
        cv2.ellipse(mask, (width // 2, height // 2), axes, 0, 0, 360, 1.0, -1)
        soft = cv2.GaussianBlur(mask, (0, 0), 3)[..., None]
        top, left = y + _MARGIN - height // 2, x + _MARGIN - width // 2
        place = field[top : top + height, left : left + width]
        place[:] = np.rint(place * (1 - soft) + cell * soft).astype(np.uint8)
    return Bgr(field)


def _without_white_cells(frame: Bgr) -> Bgr:
    """A frame with its mirror image where white cells were."""
    mask = np.zeros((*frame.shape[:2], 1), np.float32)
    for found in locate(frame):
        box = found.box
        mask[max(0, box.y0 - 12) : box.y1 + 12, max(0, box.x0 - 12) : box.x1 + 12] = 1
    soft = cv2.GaussianBlur(mask, (0, 0), 4)[..., None]
    mixed = frame * (1 - soft) + frame[:, ::-1] * soft
    return Bgr(np.asarray(np.rint(mixed), np.uint8))


class PacedFrames:
    """A camera of 30 frames a second over a trembling field."""

    name = "benchmark"
    live = True

    def __init__(self, frames: int, field_s: float = FIELD_S) -> None:
        """Draws the fields.

        Args:
            frames: how many it sends before it falls silent.
            field_s: after how many seconds the stage goes to another field.
        """
        field = crowded_field()
        self._fields = (field, field[::-1], field[:, ::-1], field[::-1, ::-1])
        self.total: int | None = frames
        self._field_s = field_s
        self.skipped = Skipped()
        self.sent = 0

    def __enter__(self) -> "PacedFrames":
        return self

    def __exit__(self, *_: object) -> None: ...

    def image_at(self, time_s: float) -> Bgr:
        """What the camera sees at a time, uint8 BGR (HEIGHT, WIDTH, 3)."""
        x = round(_MARGIN * (1 + np.sin(1.3 * time_s)))
        y = round(_MARGIN * (1 + np.cos(0.9 * time_s)))
        field = self._fields[int(time_s / self._field_s) % len(self._fields)]
        return Bgr(field[y : y + HEIGHT, x : x + WIDTH].copy())

    def __iter__(self) -> Iterator[Frame | None]:
        """Yields each frame when it is due."""
        start = time.monotonic()
        assert self.total is not None
        for i in range(self.total):
            time.sleep(max(0.0, start + i / FRAMES_PER_S - time.monotonic()))
            yield Frame(i, None, self.image_at(i / FRAMES_PER_S), self.name)
            self.sent = i + 1
        while True:  # silent, until whoever reads has had enough
            yield None
            time.sleep(0.05)


class _TimedClassifier(Classifier):
    busy_s = 0.0

    def classify(self, image: Rgb, features: bool = False) -> Prediction:
        start = time.perf_counter()
        try:
            return super().classify(image, features)
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
    source = PacedFrames(frames, field_s)
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
        ("of it inference, ms", f"{row.inference_ms:.1f}", ""),
        ("its other work, share of it", f"{row.other_share:.0%}", "at most 40%"),
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
