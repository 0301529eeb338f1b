"""Draws what was found on a frame: boxes, classes, where the network looked, scale.

The frame's own pixels keep their places, so that a record's box is found in them.
No mark hides what it describes: maps are lines within the cell, and labels lie beside
the cells. Labels that don't fit beside them go into the strip below the picture.
"""

import math
from collections.abc import Container, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from edgecell.edge.analyse.pipeline import CellResult, FrameResult
from edgecell.edge.show.places import place_labels
from edgecell.edge.show.strip import Entry, Style, make_strip, text_size, write
from edgecell.image.preprocess import Bgr, Image
from edgecell.image.records import Box
from edgecell.image.regions import cell_mask

Colour = tuple[int, int, int]
"""B, G, R."""

# Okabe and Ito's palette, which colour-blind eyes can tell apart and none of the stains
# has.
WHITE_CELL: Colour = (0, 159, 230)
PLATELET: Colour = (233, 180, 86)
CUT: Colour = (190, 190, 190)
"""Also of cells that could not be judged."""
HEAT: Colour = (66, 228, 240)
"""Okabe and Ito's yellow, which no stain has."""
_INK: Colour = (20, 20, 20)

LEVELS = (1 / 3, 2 / 3)
"""Shares of a map's largest value that are drawn as lines."""

_REACH, _PLATELET_REACH = 0.25, 0.1
"""How far beyond its box a cell may be seen to reach, by its longer side: cytoplasm is
paler than the finder's threshold; beside a platelet lies another cell."""

_LEAST_FILLED = 0.3
"""Share of a cell's box that its colours fill; a disc fills 0.79."""

_LETTERS_PER_RED_CELL = 0.011
_STEP = 1.25
"""Scale of the letters for each pixel of a red cell: they are a quarter as high. It
changes in steps and not with each measurement."""


def annotate(
    result: FrameResult,
    numbers: Sequence[int | None] = (),
    to_review: Container[int] = (),
    maps: bool = True,
) -> Bgr:
    """Draws the cells of a frame on a copy of it.

    Args:
        result: the frame and what was found in it.
        numbers: the number of each cell within the session; None for none.
        to_review: places in the result's cells of those that a person has to look at.
        maps: whether to draw where the network looked.

    Returns:
        uint8 BGR (H + strip, W, 3).
    """
    frame, cells = result.frame.image, result.cells
    style = _style(frame, result.red_cell_px)
    where = [cell_in_crop(cell) for cell in cells]
    numbered = [*numbers, *[None] * (len(cells) - len(numbers))]
    texts = [
        label_of(cell, numbered[i], i in to_review) for i, cell in enumerate(cells)
    ]
    sizes = [text_size(text, style) for text in texts]
    extents = [_extent(*pair) for pair in zip(cells, where, strict=True)]
    places = place_labels(extents, sizes, frame.shape[:2])
    without_room = [
        "{} at {:.0f},{:.0f}".format(text, *cell.record.box.centre)
        for cell, text, place in zip(cells, texts, places, strict=True)
        if place is None and result.frame.time_s is None  # a film's have one size
    ]
    strip = make_strip(
        frame.shape[1],
        caption(result),
        _legend(maps),
        without_room,
        result.red_cell_px,
        style,
    )
    # One copy of a frame, which may have 24 megapixels.
    whole = Bgr(np.vstack([frame, strip]))
    picture = Bgr(whole[: len(frame)])
    if maps:
        for cell, inside in zip(cells, where, strict=True):
            _draw_map(picture, cell, inside, style.line)
    for cell in cells:
        _draw_corners(picture, cell.record.box, colour_of(cell), style.line)
    for cell, text, place in zip(cells, texts, places, strict=True):
        if place is not None:
            _lead(picture, cell.record.box, place, colour_of(cell), style.line)
            write(picture, text, place, style, colour_of(cell))
    return whole


def caption(result: FrameResult) -> str:
    """Says which frame a picture shows; only ASCII letters can be drawn."""
    frame = result.frame
    time = "" if frame.time_s is None else f", {frame.time_s:.1f} s"
    gate = "" if result.gate is None else f", not judged: {result.gate}"
    text = f"{frame.name}, frame {frame.index}{time}{gate}"
    return text.encode("ascii", "replace").decode()


def label_of(
    cell: CellResult, number: int | None = None, to_review: bool = False
) -> str:
    """The text on a cell, such as '12 SNE 97%', or why it has no class.

    It has 'cut' if the border cuts the cell, and a question mark if a person has to
    look at it.
    """
    first = "" if number is None else f"{number} "
    cut = " cut" if cell.record.cut_by_border else ""
    if cell.record.gate is not None:
        return f"{first}{cell.record.gate}{cut}"
    best = cell.record.top[0]
    doubt = " ?" if to_review else ""
    return f"{first}{best.code} {best.probability:.0%}{cut}{doubt}"


def colour_of(cell: CellResult) -> Colour:
    """Colour of a cell's box: by what the finder took it for."""
    if cell.record.cut_by_border or cell.record.gate is not None:
        return CUT
    return PLATELET if cell.record.kind == "platelet" else WHITE_CELL


def cell_in_crop(cell: CellResult) -> npt.NDArray[np.bool_]:
    """Where the cell lies in its crop: what its colours say, near its box.

    Args:
        cell: a cell that was found.

    Returns:
        bool (n, n), in the pixels of the cell's crop.
    """
    crop, box = cell.crop, cell.record.box
    side = crop.width, crop.height
    soft = np.rint(255 * cell_mask(cell.seen)).astype(np.uint8)  # as bytes: faster
    mask = cv2.resize(soft, side, interpolation=cv2.INTER_LINEAR) > 127
    share = _PLATELET_REACH if cell.record.kind == "platelet" else _REACH
    reach = round(share * max(box.width, box.height))
    x0, y0 = box.x0 - crop.x0, box.y0 - crop.y0
    x1, y1 = x0 + box.width, y0 + box.height
    near = np.zeros(mask.shape, np.uint8)
    low = max(0, x0 - reach), max(0, y0 - reach)
    cv2.rectangle(near, low, (x1 + reach - 1, y1 + reach - 1), 1, -1)
    mask &= near > 0
    if mask[max(0, y0) : y1, max(0, x0) : x1].mean() >= _LEAST_FILLED:
        return np.asarray(mask)
    # Something else looks more like a cell than what was found: use the box alone.
    oval = np.zeros(mask.shape, np.uint8)
    middle, axes = ((x0 + x1) // 2, (y0 + y1) // 2), (box.width // 2, box.height // 2)
    cv2.ellipse(oval, middle, axes, 0, 0, 360, 1, -1)
    return np.asarray(oval > 0)


def _extent(cell: CellResult, where: npt.NDArray[np.bool_]) -> Box:
    """The box of a cell and of all that its colours say is part of it."""
    box, crop = cell.record.box, cell.crop
    x, y, w, h = cv2.boundingRect(where.astype(np.uint8))
    return Box(
        min(box.x0, crop.x0 + x),
        min(box.y0, crop.y0 + y),
        max(box.x1, crop.x0 + x + w),
        max(box.y1, crop.y0 + y + h),
    )


def _draw_map(
    picture: Bgr, cell: CellResult, where: npt.NDArray[np.bool_], line: int
) -> None:
    """Lines of equal heat within the cell: the chromatin between them stays visible."""
    if cell.heat is None:
        return
    side = cell.crop.width, cell.crop.height
    levels = np.rint(255 * cell.heat).astype(np.uint8)
    heat = cv2.resize(levels, side, interpolation=cv2.INTER_CUBIC)
    for level, thickness in zip(LEVELS, (max(1, line - 1), line), strict=True):
        inside = ((heat >= 255 * level) & where).astype(np.uint8)
        lines, _ = cv2.findContours(
            inside,
            cv2.RETR_EXTERNAL,
            cv2.CHAIN_APPROX_SIMPLE,
            offset=(cell.crop.x0, cell.crop.y0),
        )
        cv2.polylines(picture, list(lines), True, HEAT, thickness, cv2.LINE_AA)


def _draw_corners(picture: Bgr, box: Box, colour: Colour, line: int) -> None:
    """The corners of a box: less of the neighbours is hidden than by a frame."""
    arm = max(3, round(0.22 * min(box.width, box.height)))
    for x, across in ((box.x0, 1), (box.x1 - 1, -1)):
        for y, down in ((box.y0, 1), (box.y1 - 1, -1)):
            ends = ((x + across * arm, y), (x, y), (x, y + down * arm))
            path = [np.array(ends, np.int32)]
            cv2.polylines(picture, path, False, _INK, line + 2, cv2.LINE_AA)
            cv2.polylines(picture, path, False, colour, line, cv2.LINE_AA)


def _lead(picture: Bgr, box: Box, place: Box, colour: Colour, line: int) -> None:
    """A line from a label to its cell, if they don't touch."""
    x = min(max(place.x0, (box.x0 + box.x1) // 2), place.x1 - 1)
    y = min(max(place.y0, (box.y0 + box.y1) // 2), place.y1 - 1)
    end = min(max(x, box.x0), box.x1 - 1), min(max(y, box.y0), box.y1 - 1)
    if max(abs(x - end[0]), abs(y - end[1])) > 2 * line:
        cv2.line(picture, (x, y), end, _INK, line + 2, cv2.LINE_AA)
        cv2.line(picture, (x, y), end, colour, line, cv2.LINE_AA)


def _style(frame: Image, red_cell_px: float | None) -> Style:
    """Letters and lines that suit the cells and can be read in the whole picture."""
    width = frame.shape[1]
    least, most = max(0.4, width / 3600), max(0.45, width / 1300)
    wanted = most if red_cell_px is None else _LETTERS_PER_RED_CELL * red_cell_px
    stepped = _STEP ** round(math.log(wanted, _STEP))
    scale = min(max(stepped, least), most)
    return Style(scale, max(1, round(1.3 * scale)), max(1, round(2.2 * scale)))


def _legend(maps: bool) -> list[Entry]:
    """What the marks in a picture mean."""
    entries = [
        Entry("white cell", box=WHITE_CELL),
        Entry("platelet", box=PLATELET),
        Entry("cut or not judged", box=CUT),
        Entry("? to be reviewed"),
    ]
    if maps:
        entries.append(Entry("Grad-CAM, 1/3 and 2/3 of its peak", ring=HEAT))
    return entries
