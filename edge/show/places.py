"""Where labels go: beside their cells, and over no cell and no other label."""

from collections.abc import Iterator, Sequence

from edgecell.image.records import Box

_RINGS = 3
"""How far from its cell a label may lie, in label heights."""

_MARGIN = 0.08
"""What labels leave free around a box, in its longer side: a box that is a little too
small must not have its label on the cell."""


def place_labels(
    boxes: Sequence[Box], sizes: Sequence[tuple[int, int]], shape: tuple[int, int]
) -> list[Box | None]:
    """Finds a place for each label.

    Args:
        boxes: the cells.
        sizes: (width, height) of each cell's label.
        shape: (H, W) of the frame.

    Returns:
        One rectangle a label, in the frame and off all cells and all other labels, as
        near to its cell as there is room; None where there is none.
    """
    boxes = [_grown(box) for box in boxes]
    placed: list[Box] = []
    found: list[Box | None] = [None] * len(boxes)
    # Crowded cells choose first: they have the fewest places.
    order = sorted(range(len(boxes)), key=lambda i: -_neighbours(boxes, i))
    for i in order:
        for spot in _spots(boxes[i], sizes[i], shape):
            if not any(overlap(spot, other) for other in (*boxes, *placed)):
                found[i] = spot
                placed.append(spot)
                break
    return found


def overlap(a: Box, b: Box) -> int:
    """Pixels that two boxes share."""
    across = min(a.x1, b.x1) - max(a.x0, b.x0)
    down = min(a.y1, b.y1) - max(a.y0, b.y0)
    return max(0, across) * max(0, down)


def _grown(box: Box) -> Box:
    by = round(_MARGIN * max(box.width, box.height))
    return Box(box.x0 - by, box.y0 - by, box.x1 + by, box.y1 + by)


def _neighbours(boxes: Sequence[Box], index: int) -> int:
    """The number of cells near enough to be in a label's way."""
    box = boxes[index]
    reach = max(box.width, box.height)
    around = Box(box.x0 - reach, box.y0 - reach, box.x1 + reach, box.y1 + reach)
    return sum(overlap(around, other) > 0 for other in boxes)


def _spots(box: Box, size: tuple[int, int], shape: tuple[int, int]) -> Iterator[Box]:
    """Places around a cell, the nearest first: above, below, then at its sides."""
    (w, h), (height, width) = size, shape
    middle = (box.x0 + box.x1 - w) // 2, (box.y0 + box.y1 - h) // 2
    for ring in range(_RINGS):
        away = ring * h
        above, below = box.y0 - h - away, box.y1 + away
        left, right = box.x0 - w - away, box.x1 + away
        corners = [
            *((x, y) for y in (above, below) for x in (box.x0, box.x1 - w, middle[0])),
            *((x, y) for x in (right, left) for y in (box.y0, box.y1 - h, middle[1])),
            *((x, y) for y in (above, below) for x in (right, left)),
        ]
        for x, y in corners:
            x = max(0, min(x, width - w)) if y in (above, below) else x
            y = y if y in (above, below) else max(0, min(y, height - h))
            if 0 <= x and 0 <= y and x + w <= width and y + h <= height:
                yield Box(x, y, x + w, y + h)
