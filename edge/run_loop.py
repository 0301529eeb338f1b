"""The loop of ``edgecell run``: frames in, records and pictures out."""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from statistics import median
from time import perf_counter
from typing import Any

from tqdm import tqdm

from edgecell.edge.overlay import annotate
from edgecell.edge.pipeline import FrameAnalyser, FrameResult
from edgecell.edge.sources_base import Frame, FrameSource
from edgecell.edge.writer import ResultFolder

_SECONDS_BETWEEN_PICTURES = 1.0


def _recent() -> deque[float]:
    return deque(maxlen=1000)


@dataclass
class Tally:
    """Figures that grow with each frame.

    Attributes:
        frames: frames looked at.
        cells: records written, those below and cells cut by the border alike.
        counts: whole cells in still images, by class code.
        sightings: whole cells in moving pictures, by class code. One cell is seen
            in many frames, so these are no counts.
        cut_by_border: records of cells that the border cuts; in none of the above.
        pictures: annotated pictures written.
        locate_ms: time for each of the last frames with cells.
        classify_ms: time for each of the last cells.
        integrity: largest residual of any cell, see `CellRecord`.
        seconds: wall time of the loop.
    """

    frames: int = 0
    cells: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    sightings: Counter[str] = field(default_factory=Counter)
    cut_by_border: int = 0
    pictures: int = 0
    locate_ms: deque[float] = field(default_factory=_recent)
    classify_ms: deque[float] = field(default_factory=_recent)
    integrity: float = 0.0
    seconds: float = 0.0

    def add(self, result: FrameResult) -> None:
        """Adds a frame."""
        self.frames += 1
        moving = result.frame.time_s is not None
        for record in (cell.record for cell in result.cells):
            self.cells += 1
            if record.cut_by_border:
                self.cut_by_border += 1
            else:
                code = record.top[0].code
                (self.sightings if moving else self.counts)[code] += 1
            self.classify_ms.append(record.classify_ms)
            self.integrity = max(self.integrity, record.integrity)
        if result.cells:
            self.locate_ms.append(result.cells[0].record.locate_ms)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; times as medians, the most frequent class first."""
        return {
            "frames": self.frames,
            "cells": self.cells,
            "counts": dict(self.counts.most_common()),
            "sightings": dict(self.sightings.most_common()),
            "cut_by_border": self.cut_by_border,
            "pictures": self.pictures,
            "locate_ms": _median(self.locate_ms),
            "classify_ms": _median(self.classify_ms),
            "integrity": round(self.integrity, 4),
            "seconds": round(self.seconds, 2),
            "fps": round(self.frames / self.seconds, 2) if self.seconds else None,
        }


class PictureRule:
    """Which frames are worth a picture and a row.

    Every still image is. Of a moving picture it is a frame with cells, at most one
    a second, so that a night at a camera neither fills the disk nor the terminal;
    the records are complete all the same.
    """

    def __init__(self) -> None:
        self._last: Frame | None = None

    def takes(self, result: FrameResult) -> bool:
        """Whether this frame gets one; asked once for each frame, in order."""
        frame, last = result.frame, self._last
        if frame.time_s is None:
            return True
        if not result.cells:
            return False
        if last is not None and last.time_s is not None and last.name == frame.name:
            # Half a millisecond for timestamps that were rounded.
            if frame.time_s - last.time_s < _SECONDS_BETWEEN_PICTURES - 5e-4:
                return False
        self._last = frame
        return True


def run(
    source: FrameSource,
    analyser: FrameAnalyser,
    folder: ResultFolder,
    max_frames: int | None,
    show: Callable[[FrameResult], None],
    stopped: Callable[[], bool],
) -> Tally:
    """Analyses a source's frames until it ends.

    Args:
        source: an entered source.
        analyser: finds and classifies.
        folder: an entered folder.
        max_frames: end after so many frames; None for all.
        show: called with each frame that gets a picture, once that is written.
        stopped: asked after each frame whether to end.

    Returns:
        The figures.

    Raises:
        SourceError: the source fails.
        OutputError: the disk doesn't take the results.
    """
    tally, rule = Tally(), PictureRule()
    total = source.total
    if total is not None and max_frames is not None:
        total = min(total, max_frames)
    start = perf_counter()
    with tqdm(
        islice(source, max_frames),
        total=total,
        unit="frame",
        disable=True if source.live else None,
        leave=False,
    ) as frames:
        for frame in frames:
            result = analyser.analyse(frame)
            # Records first: if the disk is full, they matter more than a picture.
            folder.write_cells([cell.record for cell in result.cells])
            tally.add(result)
            if rule.takes(result):
                picture = annotate(frame.image, result.cells, caption(frame))
                folder.write_picture(frame.index, picture)
                tally.pictures += 1
                show(result)
            if stopped():
                break
    tally.seconds = perf_counter() - start
    return tally


def caption(frame: Frame) -> str:
    """Which frame a picture shows; other letters than ASCII can't be drawn."""
    time = "" if frame.time_s is None else f", {frame.time_s:.1f} s"
    text = f"{frame.name}, frame {frame.index}{time}"
    return text.encode("ascii", "replace").decode()


def _median(values: deque[float]) -> float | None:
    return round(median(values), 2) if values else None
