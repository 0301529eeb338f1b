"""Drives a stage over a slide and gives the fields as frames.

The path is a serpentine over the monolayer: along x until it ends, one row down, back.
Neighbouring fields overlap, so that each cell is counted once, and so that a move can
be checked: the picture has to move with the stage.
"""

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

import numpy as np

from edgecell.edge.count.registration import check, miniature, register
from edgecell.edge.count.tracking import TrackedFrame
from edgecell.edge.find.quality import BLURRED, focus, frame_gate
from edgecell.edge.loop.run import Observer, Run
from edgecell.edge.sources.address import open_source
from edgecell.edge.sources.base import STALL_S, Frame, Skipped
from edgecell.edge.sources.capture import Capture
from edgecell.edge.stage.base import LimitReachedError, Position, Stage, StageError
from edgecell.edge.stage.layer import MONOLAYER, THIN, Layers
from edgecell.edge.stage.places import MAP, Scale
from edgecell.errors import SourceError
from edgecell.files import write_atomically
from edgecell.image.preprocess import Bgr

logger = logging.getLogger(__name__)

_STEP = 0.65
"""Way between fields, as a part of the frame: a third of it overlaps."""

_PARTS = (1.0, 0.5, 0.25)
"""Of the way to the next field, tried in turn at the stage's limit."""

_FIRST_TRY = 200
"""Steps of the first move that finds out how far a step goes."""

_LEAST_SHIFT = 0.15
_MOST_TRIES = 6
_OUTSIDE_FIELDS = 3
"""So many fields in a row beyond the monolayer end a row; twice as many where the row
has not met it yet, since it begins where the one before left it."""

_BARREN_ROWS = 2
"""So many rows without the monolayer end the scan."""

_FOCUS_LOSS = 0.6
"""Part of the best focus measure below which the autofocus is called."""

_SETTLE_S = 0.1


class Scan:
    """A frame source that moves the stage between its frames.

    The stage goes back to where it was when the scan ends, however it ends.

    Attributes:
        name: short name, fit for a folder's.
        total: fields at the most.
        live: False; no field may be lost.
        skipped: pictures of the camera that could not be decoded.
        scale: how far a step goes; None before the first move.
        places: where each frame was taken, by its number.
        left_out: fields that are not in the monolayer, by `layer.Layers.look`.
    """

    live = False

    def __init__(
        self,
        stage: Stage,
        columns: int,
        rows: int,
        settle_s: float = _SETTLE_S,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Plans a scan; the stage moves when frames are asked for.

        Args:
            stage: entered already.
            columns: fields in a row at the most, at least 1.
            rows: rows at the most, at least 1.
            settle_s: seconds after a move before a picture counts.
            sleep: waits for seconds.
        """
        self.name = "scan"
        self.total: int | None = columns * rows
        self.skipped = Skipped()
        self.scale: Scale | None = None
        self.places: dict[int, Position] = {}
        self.left_out: Counter[str] = Counter()
        self._stage = stage
        self._columns, self._rows = columns, rows
        self._settle_s, self._sleep = settle_s, sleep
        self._camera: Capture | None = None
        self._home: Position | None = None
        self._best_focus = 0.0
        self._layers = Layers()
        self._start_s = 0.0

    def __enter__(self) -> "Scan":
        """Opens the camera.

        Raises:
            SourceError: the camera or the stage is not there.
        """
        self._home = self._stage.position()
        source = open_source(self._stage.camera)
        self.skipped = source.skipped
        self._camera = Capture(source)
        self._camera.__enter__()
        self._start_s = time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        camera, home = self._camera, self._home
        self._camera = self._home = None
        if camera is not None:
            camera.__exit__(kind, error, trace)
        if home is not None:
            try:
                self._stage.move_to(home)
            except StageError as e:
                logger.warning("the stage did not return to its start: %s", e)

    def __iter__(self) -> Iterator[Frame | None]:
        """Yields the fields of the monolayer.

        Raises:
            StageError: the stage is lost, or says that it moved and did not; or there
                is no monolayer.
            SourceError: the camera is lost.
        """
        image = self._picture()
        self.scale = scale = self._measure_scale(image)
        height, width = image.shape[:2]
        along = round(_STEP * width * scale.x)
        down = round(_STEP * height * scale.y)
        barren = 0
        for row in range(self._rows):
            if row and not self._moved(0, down):
                break
            before = len(self.places)
            yield from self._row(-along if row % 2 else along)
            barren = 0 if len(self.places) > before else barren + 1
            if barren == _BARREN_ROWS:
                break
        if not self.places:
            raise StageError(
                "no field lies in the monolayer; bring one into focus in which red "
                "cells lie side by side with glass between them"
            )

    def _row(self, along: int) -> Iterator[Frame]:
        """Yields the fields of a row, until the monolayer or the stage's way ends.

        Args:
            along: steps of x to the next field.
        """
        outside, most = 0, 2 * _OUTSIDE_FIELDS
        for column in range(self._columns):
            if column and not self._moved(along, 0):
                return
            image = self._picture()
            layer = self._layers.look(image)
            if layer != THIN:  # there is something to focus on
                image = self._focused(image)
                layer = self._layers.look(image)
            if layer != MONOLAYER:
                self.left_out[layer] += 1
                outside += 1
                if outside == most:
                    return
                continue
            outside, most = 0, _OUTSIDE_FIELDS
            index = len(self.places)
            self.places[index] = self._stage.position()
            now = time.monotonic()
            yield Frame(index, now - self._start_s, image, self.name, now)

    def _picture(self) -> Bgr:
        """A picture that was taken after now, when the stage stands still."""
        camera = self._camera
        assert camera is not None, "the scan is not open"
        self._sleep(self._settle_s)
        after = time.monotonic()
        while True:
            frame = camera.next(0.2)
            if frame is not None and frame.captured_s > after:
                return frame.image
            if time.monotonic() - after > 2 * STALL_S:
                lost = camera.state().lost or "it sends no new frames"
                raise SourceError(f"the microscope's camera is lost: {lost}")

    def _focused(self, image: Bgr) -> Bgr:
        """The field's picture, or one after an autofocus if it lost its focus."""
        sharp = _sharpness(image)
        if frame_gate(image) == BLURRED or sharp < _FOCUS_LOSS * self._best_focus:
            self._stage.focus()
            image = self._picture()
            sharp = _sharpness(image)
            self._best_focus = sharp  # this field may have less to focus on
        self._best_focus = max(self._best_focus, sharp)
        return image

    def _moved(self, x: int, y: int) -> bool:
        """Moves by steps; returns whether it could.

        Raises:
            StageError: the stage says that it moved, and the picture did not.
        """
        before, at = miniature(self._picture()), self._stage.position()
        for part in _PARTS:  # up to the limit, nearly
            try:
                there = Position(at.x + round(part * x), at.y + round(part * y), at.z)
                self._stage.move_to(there)
                break
            except LimitReachedError as e:
                reason = e
        else:
            logger.info("the stage is at its limit: %s", reason)
            return False
        image = self._picture()
        stands = check(before, miniature(image), (0.0, 0.0)) is not None
        # On bare glass nothing is seen to move; dust on the camera stays where it is.
        if stands and self._layers.look(image) != THIN:
            raise StageError(
                "the stage reports a move, but the picture did not move; check its "
                "motors and cables"
            )
        return True

    def _measure_scale(self, image: Bgr) -> Scale:
        """Moves a little along each axis and back to see how far the picture moves."""
        return Scale(self._steps_per_px(image, 1, 0), self._steps_per_px(image, 0, 1))

    def _steps_per_px(self, image: Bgr, x: int, y: int) -> float:
        home, steps = self._stage.position(), _FIRST_TRY
        side = image.shape[1] if x else image.shape[0]
        before = miniature(image)
        enlarged = image.shape[1] / before.shape[1]
        for _ in range(_MOST_TRIES):
            there = Position(home.x + x * steps, home.y + y * steps, home.z)
            try:
                self._stage.move_to(there)
            except LimitReachedError:
                steps = -steps // 2  # the other way
                continue
            found = register(before, miniature(self._picture()))
            if found is None:  # too far, or nothing to see
                steps = steps // 3 or 1
                continue
            shift = enlarged * (found.x if x else found.y)
            if abs(shift) >= _LEAST_SHIFT * side:
                self._stage.move_to(home)
                return float(steps / shift)
            factor = 2 * _LEAST_SHIFT * side / max(abs(shift), 1.0)
            steps = round(steps * min(max(factor, 2.0), 20.0))
        self._stage.move_to(home)
        raise StageError(
            "the picture does not move with the stage; bring a field with cells into "
            "focus, and check that this camera looks at this stage"
        )


def _sharpness(image: Bgr) -> float:
    return float(focus(np.ascontiguousarray(image[..., 1]))[0])


class ScanMap(Observer):
    """Keeps where each field lies, in the session's folder, to find a cell again."""

    def __init__(self, scan: Scan, address: str) -> None:
        """Records where the fields of a scan are.

        Args:
            scan: the run's source.
            address: the stage's.
        """
        self._scan, self._address = scan, address
        self._folder: Path | None = None

    def begun(self, run: Run) -> None:
        """A session begins."""
        self._folder = run.out

    def turn(self, tracked: TrackedFrame | None) -> None:
        """Writes the whole map with each field."""
        scale = self._scan.scale
        if tracked is None or scale is None or self._folder is None:
            return
        places = {n: [p.x, p.y, p.z] for n, p in dict(self._scan.places).items()}
        data = {
            "address": self._address,
            "steps_per_px": [scale.x, scale.y],
            "frame_px": list(tracked.result.frame.image.shape[1::-1]),
            "places": places,
            "left_out": dict(self._scan.left_out),
        }
        write_atomically(self._folder / MAP, json.dumps(data))
