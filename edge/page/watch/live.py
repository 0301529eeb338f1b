"""The running loop, for whoever watches: pictures, the last cells, its state."""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from edgecell import RESEARCH_USE
from edgecell.edge.count.tracking import TrackedFrame
from edgecell.edge.loop.run import Observer, Run
from edgecell.edge.record.connection import open_database
from edgecell.edge.record.review import Review
from edgecell.edge.report.signing import Note, Reports
from edgecell.edge.show.overlay import annotate
from edgecell.edge.sources.base import STALL_S
from edgecell.errors import EdgecellError
from edgecell.image.preprocess import Bgr

logger = logging.getLogger(__name__)

_WIDEST = 1280
"""Wider pictures are made smaller before they are sent."""

_JPEG_QUALITY = 80
PICTURES_PER_S = 8.0
"""Pictures that are drawn at most, and that a viewer is sent: the eye follows, and the
loop keeps its time."""

_LAST_CELLS = 12


@dataclass(frozen=True)
class LastCell:
    """One of the cells that were decided on last.

    Attributes:
        cell: its number.
        label: its class; '?' if it has none.
        probability: of that class; None likewise.
        waits: whether a person has to look at it.
        pixels: uint8 BGR (n, n, 3), a copy of its crop.
        seen: number of the frame that they come from.
    """

    cell: int
    label: str
    probability: float | None
    waits: bool
    pixels: Bgr
    seen: int


@dataclass(frozen=True)
class Picture:
    """A frame as it is sent.

    Attributes:
        number: the frame's.
        drawn_s: when it was drawn, by the clock of `Live`.
        data: JPEG.
    """

    number: int
    drawn_s: float
    data: bytes


class Live(Observer):
    """Stands between the loop and those who watch; they never make it wait.

    The loop leaves its newest frame here and goes on. A viewer takes whatever is the
    newest when it is ready for one, so that a slow viewer gets fewer pictures. A
    picture is drawn on a viewer's thread, once for all who look at it in the same way,
    and at most `PICTURES_PER_S` times a second however many they are.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.run: Run | None = None
        self._newest: tuple[int, TrackedFrame, float] | None = None
        self._cells: OrderedDict[int, LastCell] = OrderedDict()
        self._drawn: dict[str, Picture] = {}
        self._drawing = threading.Lock()
        self._note = ("", "")

    def begun(self, run: Run) -> None:
        """Forgets what was seen of the slide before."""
        self.run = run
        self._cells = OrderedDict()
        person, sample = self._note
        if sample:
            self._note = ("", "")
            try:
                with open_database(run.out, "rw") as database:
                    Reports(Review(run.out, database)).set_note(person, Note(sample))
            except EdgecellError as e:
                logger.warning("the sample number is not recorded: %s", e)

    def turn(self, tracked: TrackedFrame | None) -> None:
        """Keeps the newest frame, and the crops of cells that were decided on."""
        if tracked is None:
            return
        number = 0 if self._newest is None else self._newest[0] + 1
        captured = self._clock() - tracked.result.frame.age_s
        self._newest = (number, tracked, captured)
        changed = {decision.cell: decision for decision in tracked.changed}
        for i, cell in enumerate(tracked.cells):
            decision = changed.get(cell) if cell is not None else None
            if decision is None or decision.same_as is not None:
                continue
            self._cells[decision.cell] = LastCell(
                decision.cell,
                decision.code or "?",
                decision.probability,
                bool(decision.reasons),
                Bgr(tracked.result.cells[i].pixels.copy()),  # not its whole frame
                number,
            )
            self._cells.move_to_end(decision.cell)
        while len(self._cells) > _LAST_CELLS:
            self._cells.popitem(last=False)

    def next_slide(self, person: str, sample: str) -> None:
        """Ends the session and begins another one, with the sample number."""
        self._note = (person, sample)
        if self.run is not None:
            self.run.new_slide()

    @property
    def number(self) -> int:
        """Number of the newest frame; -1 before the first one."""
        return -1 if self._newest is None else self._newest[0]

    def last_cells(self) -> list[LastCell]:
        """The cells that were decided on last, the newest first."""
        return list(self._cells.values())[::-1]

    def crop(self, cell: int) -> bytes | None:
        """JPEG of one of the last cells; None if it is none of them."""
        found = self._cells.get(cell)
        return None if found is None else _jpeg(found.pixels)

    def picture(self, mode: str) -> Picture | None:
        """The newest frame, or the one before if that was drawn a moment ago.

        Args:
            mode: one of `stream.MODES`.

        Returns:
            None before the first frame.
        """
        newest = self._newest
        if newest is None:
            return None
        number, tracked, _ = newest
        with self._drawing:
            drawn, now = self._drawn.get(mode), self._clock()
            if drawn is None or (
                drawn.number != number and now >= drawn.drawn_s + 1 / PICTURES_PER_S
            ):
                data = _jpeg(_smaller(_draw(tracked, mode)))
                drawn = self._drawn[mode] = Picture(number, now, data)
        return drawn

    def state(self) -> dict[str, Any]:
        """The loop's state, ready for JSON."""
        run, newest = self.run, self._newest
        health = None if run is None else run.health()
        if run is None or health is None:
            return {"running": False}
        differential = run.differential
        age_s = None if newest is None else self._clock() - newest[2]
        gate = None if newest is None else newest[1].result.gate
        lost = health.source.removeprefix("lost: ") if health.source != "on" else ""
        return {
            "running": True,
            "note": RESEARCH_USE,
            "source": run.source.name,
            "session": run.out.name.encode("utf-8", "replace").decode(),
            "paused": run.paused,
            "lost": lost,
            "age_s": None if age_s is None else round(age_s, 1),
            "stale": bool(lost) or age_s is None or age_s > STALL_S,
            "target": run.config.target,
            "differential": differential.to_dict(),
            "gate": gate,
            "health": health.to_dict(),
        }


def _draw(tracked: TrackedFrame, mode: str) -> Bgr:
    if mode == "clean":
        return tracked.result.frame.image
    return annotate(
        tracked.result, tracked.cells, tracked.to_review, maps=mode != "boxes"
    )


def _smaller(picture: Bgr) -> Bgr:
    height, width = picture.shape[:2]
    if width <= _WIDEST:
        return picture
    size = (_WIDEST, round(height * _WIDEST / width))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return Bgr(np.asarray(small, np.uint8))


def _jpeg(picture: Bgr) -> bytes:
    quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    return cv2.imencode(".jpg", picture, quality)[1].tobytes()
