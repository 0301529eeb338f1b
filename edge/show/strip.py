"""Letters in pictures, and the strip below one: legend, scale bar, caption, caveat."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from edgecell import RESEARCH_USE
from edgecell.files import several
from edgecell.image.preprocess import Bgr
from edgecell.image.records import Box

RED_CELL_UM = 7.5
"""Diameter of a red cell in a dried film, micrometres: 7.2 to 7.8 in adults."""

_SCALE = "{} um, by red cells of " + f"{RED_CELL_UM:g} um"
_BARS_UM = (1, 2, 5, 10, 20, 50, 100)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_INK = (20, 20, 20)
_PAPER = (245, 245, 245)
_GAP = "   "
_TALL = "Ag|"
"""Letters that are as high and as low as any."""

_MOST_LINES = 4
"""Of cells whose labels found no room; more would be another picture."""


@dataclass(frozen=True)
class Style:
    """Sizes of letters and lines.

    Attributes:
        scale: of the letters; 1 makes capitals 21 pixels high.
        pen: thickness of the letters, pixels.
        line: thickness of lines, pixels.
    """

    scale: float
    pen: int
    line: int

    @property
    def pad(self) -> int:
        """Room around letters, pixels."""
        return max(2, round(5 * self.scale))


@dataclass(frozen=True)
class Entry:
    """A mark and its meaning.

    Attributes:
        text: the meaning, ASCII.
        box: colour of a square before it, B, G, R; None for no square.
        ring: colour of a ring before it; None for no ring.
    """

    text: str
    box: tuple[int, int, int] | None = None
    ring: tuple[int, int, int] | None = None


def text_size(text: str, style: Style) -> tuple[int, int]:
    """(width, height) of a label with its margin, pixels; all labels are as high."""
    (width, _), _ = cv2.getTextSize(text, _FONT, style.scale, style.pen)
    (_, height), baseline = cv2.getTextSize(_TALL, _FONT, style.scale, style.pen)
    return width + 2 * style.pad, height + baseline + 2 * style.pad


def write(
    picture: Bgr,
    text: str,
    place: Box,
    style: Style,
    background: tuple[int, int, int] = _PAPER,
) -> None:
    """Dark letters on a filled rectangle."""
    corners = (place.x0, place.y0), (place.x1 - 1, place.y1 - 1)
    cv2.rectangle(picture, *corners, background, -1)
    _, baseline = cv2.getTextSize(_TALL, _FONT, style.scale, style.pen)
    at = (place.x0 + style.pad, place.y1 - style.pad - baseline)
    cv2.putText(picture, text, at, _FONT, style.scale, _INK, style.pen, cv2.LINE_AA)


def bar_of(red_cell_px: float, width: int) -> tuple[int, int]:
    """The longest round scale bar that takes at most a quarter of the picture.

    Args:
        red_cell_px: red-cell diameter, pixels.
        width: of the picture, pixels.

    Returns:
        Its length in micrometres and in pixels.
    """
    px_per_um = red_cell_px / RED_CELL_UM
    fitting = [um for um in _BARS_UM if um * px_per_um <= width / 4]
    um = max(fitting, default=_BARS_UM[0])
    return um, max(1, round(um * px_per_um))


def make_strip(
    width: int,
    caption: str,
    legend: Sequence[Entry],
    listed: Sequence[str],
    red_cell_px: float | None,
    style: Style,
) -> Bgr:
    """Makes the strip that stands below a picture.

    Args:
        width: of the picture, pixels.
        caption: which frame it is, ASCII.
        legend: what the marks mean.
        listed: labels that found no room beside their cells.
        red_cell_px: red-cell diameter, pixels; None for no scale bar.
        style: of the letters; smaller ones where a line would be too long.

    Returns:
        uint8 BGR (h, width, 3).
    """
    bar = _scale_bar(red_cell_px, width, style)
    rows = _side_by_side([_legend_line(legend, style), bar], width)
    rows += [_line(text, style) for text in _wrapped(listed, width, style)]
    rows += _side_by_side([_line(caption, style), _line(RESEARCH_USE, style)], width)
    return Bgr(np.vstack([_fitted(row, width) for row in rows]))


def _line(text: str, style: Style) -> Bgr:
    w, h = text_size(text, style)
    strip = Bgr(np.full((h, w, 3), _PAPER, np.uint8))
    write(strip, text, Box(0, 0, w, h), style)
    return strip


def _legend_line(legend: Sequence[Entry], style: Style) -> Bgr:
    pieces = []
    for entry in legend:
        line = _line(entry.text + _GAP, style)
        side, pad = line.shape[0], style.pad
        if entry.box is not None or entry.ring is not None:
            mark = Bgr(np.full((side, side, 3), _PAPER, np.uint8))
            if entry.box is not None:
                ends = (pad, pad), (side - pad, side - pad)
                cv2.rectangle(mark, *ends, entry.box, -1)
                cv2.rectangle(mark, *ends, _INK, 1)
            if entry.ring is not None:
                middle, radius = (side // 2, side // 2), side // 2 - pad
                cv2.circle(mark, middle, radius, _INK, style.line + 2, cv2.LINE_AA)
                cv2.circle(mark, middle, radius, entry.ring, style.line, cv2.LINE_AA)
            pieces.append(mark)
        pieces.append(line)
    return Bgr(np.hstack(pieces))


def _scale_bar(red_cell_px: float | None, width: int, style: Style) -> Bgr:
    """The bar with its text, always of one size, as a film's pictures must be."""
    room = width // 4 + text_size(_SCALE.format(_BARS_UM[-1]), style)[0]
    if red_cell_px is None:
        text = _line("no scale", style)
        return _padded(text, text.shape[0], max(0, room - text.shape[1]))
    um, length = bar_of(red_cell_px, width)
    text = _line(_SCALE.format(um), style)
    height = text.shape[0]
    bar = Bgr(np.full((height, length + 2 * style.pad, 3), _PAPER, np.uint8))
    thick, middle = max(3, 2 * style.line), height // 2
    start, end = style.pad, style.pad + length - 1
    cv2.rectangle(
        bar, (start, middle - thick // 2), (end, middle + thick // 2), _INK, -1
    )
    whole = Bgr(np.hstack([bar, text]))
    return _padded(whole, height, max(0, room - whole.shape[1]))


def _side_by_side(parts: Sequence[Bgr], width: int) -> list[Bgr]:
    """Strips in one row, the last one at the right end, or one below the other."""
    if len(parts) < 2 or sum(part.shape[1] for part in parts) > width:
        return list(parts)
    left, right = parts
    gap = width - left.shape[1] - right.shape[1]
    height = max(left.shape[0], right.shape[0])
    return [Bgr(np.hstack([_padded(left, height, gap), _padded(right, height, 0)]))]


def _padded(part: Bgr, height: int, right: int) -> Bgr:
    down = height - part.shape[0]
    border = cv2.BORDER_CONSTANT
    return Bgr(
        np.asarray(
            cv2.copyMakeBorder(part, 0, down, 0, right, border, value=_PAPER), np.uint8
        )
    )


def _fitted(row: Bgr, width: int) -> Bgr:
    """A row as wide as the picture: paper at its right, or made smaller."""
    if row.shape[1] <= width:
        return _padded(row, row.shape[0], width - row.shape[1])
    height = max(1, round(row.shape[0] * width / row.shape[1]))
    small = cv2.resize(row, (width, height), interpolation=cv2.INTER_AREA)
    return Bgr(np.asarray(small, np.uint8))


def _wrapped(texts: Sequence[str], width: int, style: Style) -> list[str]:
    """Texts in as few lines as they fit into, and how many are left out."""
    lines: list[str] = []
    for place, text in enumerate(texts):
        longer = f"{lines[-1]}{_GAP}{text}" if lines else text
        if lines and text_size(longer, style)[0] <= width:
            lines[-1] = longer
        elif len(lines) < _MOST_LINES:
            lines.append(text)
        else:
            return [*lines, f"... and {several(len(texts) - place, 'more cell')}"]
    return lines
