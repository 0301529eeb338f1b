"""Draws what was found on a frame: heat maps, boxes, classes, the caveat."""

from collections.abc import Container, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from edgecell import RESEARCH_USE
from edgecell.edge.analyse.pipeline import CellResult, FrameResult
from edgecell.image.preprocess import Image
from edgecell.image.records import Box

Colour = tuple[int, int, int]
"""B, G, R."""

# Okabe and Ito's palette, told apart by colour-blind eyes and by none of the stains.
WHITE_CELL: Colour = (0, 159, 230)
PLATELET: Colour = (233, 180, 86)
CUT: Colour = (190, 190, 190)
"""Also of cells that could not be judged."""
_INK: Colour = (20, 20, 20)
_PAPER: Colour = (245, 245, 245)

_BAND = 256
"""Rows that are blended at a time: all at once take 150 MB at 12 megapixels."""

_HEAT_OPACITY = 0.45
"""Of the hottest place, so that the cell under it can still be judged."""

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_PAD = 3


def annotate(
    frame: Image,
    cells: Sequence[CellResult],
    caption: str,
    to_review: Container[int] = (),
) -> Image:
    """Draws the cells on a copy of a frame.

    The frame's own pixels keep their places, so that a record's box is found in the
    picture; the caption stands in a strip below them.

    Args:
        frame: uint8 BGR (H, W, 3).
        cells: what was found in it.
        caption: what to write below, ASCII; the research-use line is added.
        to_review: places in `cells` of those that a person has to look at.

    Returns:
        uint8 BGR (H + strip, W, 3).
    """
    picture = blend_heat(frame, cells)
    thickness = max(2, round(min(frame.shape[:2]) / 240))
    for cell in cells:
        box = cell.record.box
        corners = (box.x0, box.y0), (box.x1 - 1, box.y1 - 1)
        cv2.rectangle(picture, *corners, _INK, thickness + 2)
        cv2.rectangle(picture, *corners, colour_of(cell), thickness)
    scale = _font_scale(frame)
    texts = [label_of(cell, i in to_review) for i, cell in enumerate(cells)]
    sizes = [_text_box_size(text, scale) for text in texts]
    places = place_labels([c.record.box for c in cells], sizes, frame.shape[:2])
    for cell, text, place in zip(cells, texts, places, strict=True):
        _write(picture, text, place, scale, colour_of(cell))
    return _with_caption(picture, caption, scale)


def caption(result: FrameResult) -> str:
    """Which frame a picture shows; other letters than ASCII can't be drawn."""
    frame = result.frame
    time = "" if frame.time_s is None else f", {frame.time_s:.1f} s"
    gate = "" if result.gate is None else f", not judged: {result.gate}"
    text = f"{frame.name}, frame {frame.index}{time}{gate}"
    return text.encode("ascii", "replace").decode()


def label_of(cell: CellResult, to_review: bool = False) -> str:
    """'SNE 97%', with 'cut' if the border cuts the cell, and a question mark if a
    person has to look at it; or why it has no class."""
    cut = " cut" if cell.record.cut_by_border else ""
    if cell.record.gate is not None:
        return f"{cell.record.gate}{cut}"
    best = cell.record.top[0]
    return f"{best.code} {best.probability:.0%}{cut}{' ?' if to_review else ''}"


def colour_of(cell: CellResult) -> Colour:
    """Colour of a cell's box: by what the localiser took it for."""
    if cell.record.cut_by_border or cell.record.gate is not None:
        return CUT
    return PLATELET if cell.record.kind == "platelet" else WHITE_CELL


def blend_heat(frame: Image, cells: Sequence[CellResult]) -> Image:
    """Lays the heat maps over a copy of a frame, each within its crop.

    Viridis is perceptually uniform, and its hot end, yellow, is no stain's colour.
    Opacity grows with the heat, so cold places show the cell alone.

    Args:
        frame: uint8 BGR (H, W, 3).
        cells: what was found in it.

    Returns:
        uint8 BGR (H, W, 3).
    """
    layer = heat_layer(frame.shape[:2], cells)
    picture = np.empty_like(frame)
    for top in range(0, len(frame), _BAND):
        heat = layer[top : top + _BAND]
        levels = cv2.convertScaleAbs(heat, alpha=255)
        colours = cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS)
        opacity = heat * np.float32(_HEAT_OPACITY)
        picture[top : top + _BAND] = cv2.blendLinear(
            frame[top : top + _BAND], colours, 1 - opacity, opacity
        )
    return picture


def heat_layer(
    shape: tuple[int, int], cells: Sequence[CellResult]
) -> npt.NDArray[np.float32]:
    """All heat maps in one layer; where crops overlap, the hotter one counts.

    Args:
        shape: (H, W) of the frame.
        cells: what was found in it.

    Returns:
        float32 (H, W) in [0, 1].
    """
    height, width = shape
    layer = np.zeros(shape, np.float32)
    for cell in cells:
        if cell.heat is None:
            continue
        crop = cell.crop
        side = (crop.width, crop.height)
        heat = cv2.resize(cell.heat, side, interpolation=cv2.INTER_LINEAR)
        x0, y0 = max(0, crop.x0), max(0, crop.y0)
        x1, y1 = min(width, crop.x1), min(height, crop.y1)
        inside = heat[y0 - crop.y0 : y1 - crop.y0, x0 - crop.x0 : x1 - crop.x0]
        layer[y0:y1, x0:x1] = np.maximum(layer[y0:y1, x0:x1], inside)
    return layer


def place_labels(
    boxes: Sequence[Box], sizes: Sequence[tuple[int, int]], shape: tuple[int, int]
) -> list[Box]:
    """Finds a place for each label: in the frame, off the others if it can be.

    Args:
        boxes: the cells.
        sizes: (width, height) of each cell's label.
        shape: (H, W) of the frame.

    Returns:
        One rectangle a label: the first of some places around its cell that covers
        no other label, or else the one that covers the least.
    """
    placed: list[Box] = []
    for index, (box, (w, h)) in enumerate(zip(boxes, sizes, strict=True)):
        others = [b for i, b in enumerate(boxes) if i != index]
        right = box.x1 - w
        spots = [
            (box.x0, box.y0 - h),
            (box.x0, box.y1),
            (right, box.y0 - h),
            (right, box.y1),
            (box.x1, box.y0),
            (box.x0 - w, box.y0),
            (box.x0, box.y0),
            (box.x0, box.y1 - h),
        ]
        candidates = [_shifted_inside(x, y, w, h, shape) for x, y in spots]
        # Another label is worse to cover than another cell.
        placed.append(
            min(
                candidates,
                key=lambda c: (
                    sum(_overlap(c, p) for p in placed),
                    sum(_overlap(c, o) for o in others),
                ),
            )
        )
    return placed


def _shifted_inside(x: int, y: int, w: int, h: int, shape: tuple[int, int]) -> Box:
    x = max(0, min(x, shape[1] - w))
    y = max(0, min(y, shape[0] - h))
    return Box(x, y, x + w, y + h)


def _overlap(a: Box, b: Box) -> int:
    across = min(a.x1, b.x1) - max(a.x0, b.x0)
    down = min(a.y1, b.y1) - max(a.y0, b.y0)
    return max(0, across) * max(0, down)


def _font_scale(frame: Image) -> float:
    """Letters of a thirtieth of the frame's width, but never too small to read."""
    return max(0.45, float(frame.shape[1]) / 1300)


def _text_box_size(text: str, scale: float) -> tuple[int, int]:
    (width, height), baseline = cv2.getTextSize(text, _FONT, scale, 1)
    return width + 2 * _PAD, height + baseline + 2 * _PAD


def _write(
    picture: Image, text: str, place: Box, scale: float, background: Colour
) -> None:
    """Dark letters on a filled rectangle."""
    cv2.rectangle(
        picture, (place.x0, place.y0), (place.x1 - 1, place.y1 - 1), background, -1
    )
    _, baseline = cv2.getTextSize(text, _FONT, scale, 1)
    at = (place.x0 + _PAD, place.y1 - _PAD - baseline)
    cv2.putText(picture, text, at, _FONT, scale, _INK, 1, cv2.LINE_AA)


def _with_caption(picture: Image, caption: str, scale: float) -> Image:
    """Adds a strip below: one line if both texts fit side by side, else two."""
    width = picture.shape[1]
    lines = [f"{RESEARCH_USE}  {caption}"]
    if _text_box_size(lines[0], scale)[0] > width:
        lines = [RESEARCH_USE, caption]
    widest = max(_text_box_size(line, scale)[0] for line in lines)
    scale = min(scale, scale * width / widest)
    line_height = _text_box_size(RESEARCH_USE, scale)[1]
    strip = np.full((line_height * len(lines), width, 3), _PAPER, np.uint8)
    for row, line in enumerate(lines):
        place = Box(0, row * line_height, width, (row + 1) * line_height)
        _write(strip, line, place, scale, _PAPER)
    return np.vstack([picture, strip])
