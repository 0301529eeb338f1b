"""Labelled frames as other lenses and sensors would show them."""

from collections.abc import Sequence

import cv2
import numpy as np

from edgecell.data.frames import RED, LabelBox, LabelledFrame
from edgecell.image.resizing import shrink


def zoomed(frame: LabelledFrame, zoom: float) -> LabelledFrame:
    """The frame as another lens would show it."""
    if zoom == 1:
        return frame
    if zoom < 1:
        image = shrink(frame.image, zoom)
    else:
        image = np.asarray(cv2.resize(frame.image, None, fx=zoom, fy=zoom), np.uint8)
    boxes = (
        LabelBox(b.label, *(zoom * edge for edge in (b.x0, b.y0, b.x1, b.y1)))
        for b in frame.boxes
    )
    return LabelledFrame(f"{frame.name} x{zoom:g}", image, tuple(boxes))


def mosaic(frames: Sequence[LabelledFrame], columns: int) -> LabelledFrame:
    """Frames of one size side by side, row by row, with their labels.

    Red cells cut by a frame's edge have none: half a cell shows no diameter.
    """
    height, width = frames[0].image.shape[:2]
    rows = [
        np.hstack([frame.image for frame in frames[i : i + columns]])
        for i in range(0, len(frames), columns)
    ]
    boxes = []
    for i, frame in enumerate(frames):
        x, y = width * (i % columns), height * (i // columns)
        boxes += [
            LabelBox(b.label, b.x0 + x, b.y0 + y, b.x1 + x, b.y1 + y)
            for b in frame.boxes
            if b.label != RED or frame.shows_whole(b)
        ]
    return LabelledFrame("mosaic", np.vstack(rows), tuple(boxes))
