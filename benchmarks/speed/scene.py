"""A field of five white cells in front of a camera, to time the loop on."""

import time
from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from edgecell.edge.find.localise import Localiser
from edgecell.edge.find.tiles import Detection
from edgecell.edge.sources import SAMPLES
from edgecell.edge.sources.base import Frame, Skipped
from edgecell.edge.sources.still import read_image
from edgecell.image.preprocess import Bgr
from edgecell.model.modelfile import bundled_finder

FRAMES_PER_S = 30.0
WIDTH, HEIGHT = 640, 480
_MARGIN = 10
"""The stage trembles by so many pixels, so that cells have to be followed."""

_PLACES = ((122, 126), (320, 130), (518, 126), (122, 356), (490, 356))
"""Where the cells' centres are (x, y) in a frame 480 pixels high; a cell of these
frames is some 200 pixels."""

FIELD_S = 10.0
"""The stage goes to another field after so long; there are four."""


def crowded_field(width: int = WIDTH, height: int = HEIGHT) -> Bgr:
    """A field of the size of a frame and its margin with five white cells.

    Args:
        width: of a frame, pixels; at least 4/3 of the height.
        height: of a frame, pixels. A larger frame shows the cells larger.

    Returns:
        uint8 BGR (height + 2 margins, width + 2 margins, 3), made of sample frames.
    """
    look = Localiser.open(bundled_finder()).look
    frames = [read_image(p) for p in sorted((SAMPLES / "frames").glob("bccd*"))]
    cells = [
        frame[d.box.y0 : d.box.y1, d.box.x0 : d.box.x1]
        for frame in frames
        for d in look(frame).detections
        if d.kind == "white" and not d.cut_by_border
    ]
    # Red cells alone: the sample's white cells are covered by a part without any.
    size = (WIDTH + 2 * _MARGIN, HEIGHT + 2 * _MARGIN)
    middle = np.asarray(
        cv2.resize(_without_white_cells(frames[0], look(frames[0]).detections), size),
        np.uint8,
    )
    wide = round(width * HEIGHT / height) + 2 * _MARGIN
    field = np.hstack([middle, middle[:, ::-1]])[:, :wide].copy()
    for i, (x, y) in enumerate(_PLACES):
        cell = cells[i % len(cells)]
        tall, broad = cell.shape[:2]
        mask = np.zeros((tall, broad, 1), np.float32)
        axes = (broad // 2 - 4, tall // 2 - 4)
        cv2.ellipse(mask, (broad // 2, tall // 2), axes, 0, 0, 360, 1.0, -1)
        soft = cv2.GaussianBlur(mask, (0, 0), 3)[..., None]
        top, left = y + _MARGIN - tall // 2, x + _MARGIN - broad // 2
        place = field[top : top + tall, left : left + broad]
        place[:] = np.rint(place * (1 - soft) + cell * soft).astype(np.uint8)
    whole = (width + 2 * _MARGIN, height + 2 * _MARGIN)
    if whole == field.shape[1::-1]:
        return Bgr(field)
    larger = cv2.resize(field, whole, interpolation=cv2.INTER_CUBIC)
    return Bgr(np.asarray(larger, np.uint8))


def _without_white_cells(frame: Bgr, cells: Sequence[Detection]) -> Bgr:
    """A frame with its mirror image where white cells were."""
    mask = np.zeros((*frame.shape[:2], 1), np.float32)
    for found in cells:
        box = found.box
        mask[max(0, box.y0 - 12) : box.y1 + 12, max(0, box.x0 - 12) : box.x1 + 12] = 1
    soft = cv2.GaussianBlur(mask, (0, 0), 4)[..., None]
    mixed = frame * (1 - soft) + frame[:, ::-1] * soft
    return Bgr(np.asarray(np.rint(mixed), np.uint8))


class PacedFrames:
    """A camera of 30 frames a second over a trembling field, or a film of that."""

    name = "benchmark"

    def __init__(
        self,
        frames: int,
        size: tuple[int, int] = (WIDTH, HEIGHT),
        live: bool = True,
        field_s: float = FIELD_S,
    ) -> None:
        """Prepares the fields.

        Args:
            frames: number of frames that it sends before it falls silent.
            size: (width, height) of a frame.
            live: whether each comes when it is due. Those of a film wait to be taken,
                so that the loop goes as fast as it can.
            field_s: seconds after which the stage goes to another field.
        """
        self.live = live
        self._width, self._height = size
        self._field_s = field_s
        field = crowded_field(*size)
        self._fields = (field, field[::-1], field[:, ::-1], field[::-1, ::-1])
        self.total: int | None = frames
        self.skipped = Skipped()
        self.sent = 0

    def __enter__(self) -> "PacedFrames":
        return self

    def __exit__(self, *_: object) -> None: ...

    def image_at(self, time_s: float) -> Bgr:
        """What the camera sees at a time, uint8 BGR (height, width, 3)."""
        x = round(_MARGIN * (1 + np.sin(1.3 * time_s)))
        y = round(_MARGIN * (1 + np.cos(0.9 * time_s)))
        field = self._fields[int(time_s / self._field_s) % len(self._fields)]
        return Bgr(field[y : y + self._height, x : x + self._width].copy())

    def __iter__(self) -> Iterator[Frame | None]:
        """Yields each frame; a live one when it is due."""
        start = time.monotonic()
        assert self.total is not None
        for i in range(self.total):
            time_s = i / FRAMES_PER_S
            if self.live:
                time.sleep(max(0.0, start + time_s - time.monotonic()))
            stamp_s = None if self.live else time_s
            yield Frame(i, stamp_s, self.image_at(time_s), self.name)
            self.sent = i + 1
        while self.live:  # silent until the reader stops
            yield None
            time.sleep(0.05)
