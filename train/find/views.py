"""Random views of frames with their labels.

Levels are relative to the glass. A view is a frame, many small ones of one microscope
side by side, or a single-cell image; cells of other images are put into frames. What
stain, lamp, lens and camera do to it comes after (`edgecell.train.find.light`).
"""

import itertools
import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from edgecell.data.frames import PLATELET, RED, WHITE
from edgecell.edge.find.finder import CELL
from edgecell.image.red_cells import STAIN
from edgecell.train.find.scene import (
    Boxes,
    Levels,
    Motion,
    Region,
    Scene,
    areas,
    lies_inside,
    moved_boxes,
    red_px,
    shared_areas,
)

SIDE = 224
"""Side of a view, pixels: a part of a working image, which costs less than all."""

_MAPS = SIDE // CELL
_ALL = (0, 0, SIDE, SIDE)

_SINGLE = 0.25
_MOSAIC = 0.2
_FAR = 0.05
_PATTERN = 0.03
"""Shares of the views that are single cells, fields of many frames, fields from so far
that no cell can be told, and patterns without any cell."""

_SINGLE_PLATELET = 0.22
"""Share of the single cells that are platelets."""

_PASTED = {RED: (0.15, 9), WHITE: (0.35, 3), PLATELET: (0.45, 5)}
"""Share of the other views that get cells of a kind put in, and one more than the most:
red cells make a field denser."""

_SPREAD = {RED: 0.08, WHITE: 0.12, PLATELET: 0.25}
"""Deviation of the logarithm of a put-in cell's size."""

_ZOOM = 0.22
_WIDE_SHARE = 0.2
_WIDE = (-0.8, 0.6)
"""Deviation of the logarithm of a frame's zoom; share of the frames that have one of a
wide range, which is the same for all."""

_MOSAIC_ZOOM = (-1.5, -0.2)
"""Range of the logarithm of a mosaic's zoom: red cells of some 10 to 40 pixels."""

_MOST_PARTS = 5
"""Frames side by side in a mosaic."""

_FARTHER = (3, 6)
"""A far field is a mosaic made smaller by one of these numbers, or one between."""

_BARRED = 0.12
"""Share of the frames that end at a bar of glass, as where a black surround was."""

_PERIOD = (5.0, 60.0)
"""Range of the period of a pattern's stripes, pixels."""

_LEAST_SEEN = 0.6
"""Red cells of which a mosaic's seam leaves less show no diameter, and do not count."""

_LEAST_PX = {WHITE: 8.0, RED: 10.0, PLATELET: 4.0}
"""Longer side below which a cell does not count either way."""

_RED_IN_SINGLE = 52.0 / 224
"""Size of red cells in single-cell images, as a share of the side."""

_STAINED = 0.12
"""Stain of an unlabelled spot that may be a cell."""

Known = npt.NDArray[np.float32]
"""(3, SIDE / 4, SIDE / 4), 0 where nobody labelled what is there."""


class Views:
    """Draws views."""

    def __init__(
        self,
        scenes: Sequence[Scene],
        working: int,
        glass: float,
        rng: np.random.Generator,
    ) -> None:
        """
        Args:
            scenes: images, some of them whole.
            working: longest side of a frame at zoom 1, pixels.
            glass: level of the glass.
            rng: source of all draws.
        """
        self.working, self.glass, self.rng = working, glass, rng
        self.frames = [scene for scene in scenes if scene.whole]
        self.cells = {
            kind: [s for s in scenes if not s.whole and s.boxes[0, 0] == kind]
            for kind in (WHITE, PLATELET)
        }
        self._groups: dict[tuple[int, int], list[Scene]] = {}
        for frame in self.frames:
            self._groups.setdefault(frame.shape, []).append(frame)
        # Cells to put into frames, each with the size of the red cells beside it.
        self._cuts = {kind: self._cuts_of(kind) for kind in _PASTED}

    def _cuts_of(self, kind: int) -> list[tuple[Scene, npt.NDArray[np.float32], float]]:
        of_frames = [
            (scene, box, red)
            for scene in self.frames
            if (red := red_px(scene.boxes)) is not None
            for box in scene.boxes
            if box[0] == kind and lies_inside(box, scene.levels.shape)
        ]
        return of_frames + [
            (s, s.boxes[0], _RED_IN_SINGLE * min(s.levels.shape[:2]))
            for s in self.cells.get(kind, ())
        ]

    def __call__(self) -> tuple[Levels, Boxes, Known]:
        """One view: uint8 RGB (SIDE, SIDE, 3), its boxes, and what is known."""
        draw = self.rng.uniform(0 if any(self.cells.values()) else _SINGLE, 1)
        known = np.ones((3, _MAPS, _MAPS), np.float32)
        if draw < _SINGLE:
            return self.single(known)
        if draw < _SINGLE + _FAR:
            return self.far(), np.empty((0, 5), np.float32), known
        if draw < _SINGLE + _FAR + _PATTERN:
            return self.pattern(), np.empty((0, 5), np.float32), known
        if draw < _SINGLE + _FAR + _PATTERN + _MOSAIC:
            view, boxes = self.mosaic(known)
        else:
            wide = self.rng.random() < _WIDE_SHARE
            log = self.rng.uniform(*_WIDE) if wide else self.rng.normal(0, _ZOOM)
            view, boxes, _ = self._placed(self._one(self.frames), _ALL, math.exp(log))
            if self.rng.random() < _BARRED:
                boxes = self.barred(view, boxes)
        red = red_px(boxes)
        if red is not None:
            for kind, (share, most) in _PASTED.items():
                if self._cuts[kind] and self.rng.random() < share:
                    for _ in range(int(self.rng.integers(1, most))):
                        boxes = self._pasted(view, boxes, kind, red)
        return view, _without_tiny(boxes, known), known

    def _one(self, scenes: Sequence[Scene]) -> Scene:
        return scenes[int(self.rng.integers(len(scenes)))]

    def _motion(
        self, scale: float, middle: tuple[float, float], to: tuple[float, float]
    ) -> Motion:
        """A map that turns by quarters, mirrors and scales."""
        turn = np.linalg.matrix_power(
            np.array([[0.0, -1.0], [1.0, 0.0]]), int(self.rng.integers(4))
        )
        mirror = -1.0 if self.rng.random() < 0.5 else 1.0
        stretch = math.exp(self.rng.normal(0, 0.04))
        linear = scale * turn @ np.diag([mirror * stretch, 1.0])
        offset = np.array(to) - linear @ np.array(middle)
        return np.asarray(np.column_stack([linear, offset]), np.float64)

    def _placed(
        self, scene: Scene, region: Region, zoom: float
    ) -> tuple[Levels, Boxes, npt.NDArray[np.float32]]:
        """A frame that fills a region of the view, as far as it can.

        Returns:
            The region's levels; boxes in the view; what is seen of each.
        """
        height, width = scene.levels.shape[:2]
        x0, y0, x1, y1 = region
        scale = self.working / max(height, width) * zoom
        free = [
            max(0.0, length / 2 - span / 2 / scale) + 4
            for length, span in ((width, x1 - x0), (height, y1 - y0))
        ]
        at = np.array([width, height]) / 2 + self.rng.uniform(-1, 1, 2) * free
        motion = self._motion(scale, (at[0], at[1]), ((x0 + x1) / 2, (y0 + y1) / 2))
        return (
            _warped(scene.levels, motion, region, self.glass),
            *moved_boxes(scene.boxes, motion, region),
        )

    def barred(self, view: Levels, boxes: Boxes) -> Boxes:
        """Lays glass over one side or two; returns what is left of the boxes."""
        low, high = np.zeros(2, int), np.full(2, SIDE)
        for _ in range(int(self.rng.integers(1, 3))):
            axis, far = self.rng.integers(2, size=2)
            at = int(self.rng.integers(20, SIDE // 2))
            if far:
                high[axis] = SIDE - at
            else:
                low[axis] = at
        left = view[low[1] : high[1], low[0] : high[0]].copy()
        view[:] = round(self.glass)
        view[low[1] : high[1], low[0] : high[0]] = left
        still = np.eye(2, 3)
        return moved_boxes(boxes, still, (low[0], low[1], high[0], high[1]))[0]

    def pattern(self) -> Levels:
        """Stripes of any width and direction, or nothing but noise, in any stain."""
        down, across = np.mgrid[:SIDE, :SIDE]
        angle = self.rng.uniform(0, np.pi)
        period = math.exp(self.rng.uniform(*np.log(_PERIOD)))
        along = (across * math.cos(angle) + down * math.sin(angle)) / period
        share = self.rng.uniform(0.2, 0.6)
        stained = (along % 1 < share) & (self.rng.random() < 0.7)
        stain = self.rng.uniform(0.35, 1.0, 3) * self.glass
        levels = np.where(stained[..., None], stain, self.glass)
        levels += self.rng.normal(0, self.rng.uniform(0, 25), (SIDE, SIDE, 3))
        return np.clip(levels, 0, 255).astype(np.uint8)

    def mosaic(self, known: Known) -> tuple[Levels, Boxes]:
        """Frames of one microscope side by side: a wide field with small cells."""
        group = self._groups[self._one(self.frames).shape]
        zoom = math.exp(self.rng.uniform(*_MOSAIC_ZOOM))
        parts = min(_MOST_PARTS, max(2, round(SIDE / (0.85 * self.working * zoom))))
        across, down = (self._cuts_at(parts) for _ in range(2))
        view = np.empty((SIDE, SIDE, 3), np.uint8)
        boxes = []
        for y0, y1 in itertools.pairwise(down):
            for x0, x1 in itertools.pairwise(across):
                part, own, seen = self._placed(self._one(group), (x0, y0, x1, y1), zoom)
                view[y0:y1, x0:x1] = part
                halved = (own[:, 0] == RED) & (seen < _LEAST_SEEN)
                _forget(own[halved], known)
                boxes.append(own[~halved])
        return view, np.concatenate(boxes)

    def _cuts_at(self, parts: int) -> list[int]:
        """Where a side is cut into parts, none of which is very narrow."""
        step = SIDE / parts
        inner = (np.arange(1, parts) + self.rng.uniform(-0.25, 0.25, parts - 1)) * step
        return [0, *(int(at) for at in inner), SIDE]

    def far(self) -> Levels:
        """A field so wide that its cells are dots."""
        view, _ = self.mosaic(np.ones((3, _MAPS, _MAPS), np.float32))
        times = int(self.rng.integers(_FARTHER[0], _FARTHER[1] + 1))
        side = -(-SIDE // times)
        small = cv2.resize(view, (side, side), interpolation=cv2.INTER_AREA)
        pair = np.concatenate([small, small[:, ::-1]], 1)
        block = np.concatenate([pair, pair[::-1]], 0)
        tiled = np.tile(block, (-(-times // 2), -(-times // 2), 1))
        return np.ascontiguousarray(tiled[:SIDE, :SIDE])

    def single(self, known: Known) -> tuple[Levels, Boxes, Known]:
        """A single-cell image: what is stained elsewhere in it is unknown, as are all
        red cells."""
        platelet = self.rng.random() < _SINGLE_PLATELET
        kind = PLATELET if platelet and self.cells[PLATELET] else WHITE
        scene = self._one(self.cells[kind] or self.cells[PLATELET])
        height, width = scene.levels.shape[:2]
        scale = SIDE / max(height, width) * math.exp(self.rng.normal(0.0, 0.25))
        to = SIDE / 2 + self.rng.uniform(-70, 70, 2)
        motion = self._motion(scale, (width / 2, height / 2), (to[0], to[1]))
        view = _warped(scene.levels, motion, _ALL, self.glass)
        boxes, _ = moved_boxes(scene.boxes, motion, _ALL)
        spots = cv2.resize(
            _stain(view, self.glass), (_MAPS, _MAPS), interpolation=cv2.INTER_AREA
        )
        unknown = cv2.dilate(
            (spots > _STAINED).astype(np.uint8), np.ones((5, 5), np.uint8)
        )
        known[:] = unknown == 0
        known[RED] = 0
        for label, *edges in boxes:
            own = _entries(edges)
            known[WHITE][own] = known[PLATELET][own] = 1
            known[RED][own] = label == WHITE
        return view, boxes, known if len(boxes) else np.zeros_like(known)

    def _pasted(self, view: Levels, boxes: Boxes, kind: int, red: float) -> Boxes:
        """Puts a cell of another image into a view, if it finds room.

        Returns:
            The boxes, without red cells that it covers.
        """
        cuts = self._cuts[kind]
        scene, box, beside = cuts[int(self.rng.integers(len(cuts)))]
        middle = ((box[1] + box[3]) / 2, (box[2] + box[4]) / 2)
        size = red / beside * math.exp(self.rng.normal(0, _SPREAD[kind]))
        to = self.rng.uniform(8, SIDE - 8, 2)
        motion = self._motion(size, middle, (to[0], to[1]))
        new, _ = moved_boxes(box[None], motion, _ALL)
        shared = shared_areas(boxes, new[0]) if len(new) else None
        if shared is None or _taken(boxes, new[0], shared, kind, self.rng.random()):
            return boxes
        half = np.abs(motion[:, :2]) @ (box[3:] - box[1:3]) / 2 + 1
        low = np.maximum(np.floor(to - half), 0).astype(int)
        high = np.minimum(np.ceil(to + half), SIDE).astype(int)
        here = slice(low[1], high[1]), slice(low[0], high[0])
        cell = _warped(scene.levels, motion, (*low, *high), self.glass)
        down, across = np.ogrid[here]
        away = np.hypot(
            (across + 0.5 - to[0]) / half[0], (down + 0.5 - to[1]) / half[1]
        )
        alpha = np.clip((1 - away) * half.min() / 2, 0, 1)[..., None]
        mixed = view[here] + (cell.astype(np.float32) - view[here]) * alpha
        view[here] = mixed.astype(np.uint8)
        covered = (boxes[:, 0] == RED) & (shared > 0.6 * areas(boxes))
        return np.concatenate([boxes[~covered], new])


def _warped(image: Levels, motion: Motion, region: Region, beyond: float) -> Levels:
    """What a region of the view shows of an image that is moved into it; an image that
    is twice too fine is halved first.

    Returns:
        uint8, of the region's shape.
    """
    linear = motion[:, :2].copy()
    while math.sqrt(abs(np.linalg.det(linear))) < 0.55:
        image = np.asarray(
            cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
            np.uint8,
        )
        linear *= 2
    moved = cv2.warpAffine(
        image,
        np.column_stack([linear, motion[:, 2] - region[:2]]),
        (int(region[2] - region[0]), int(region[3] - region[1])),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(beyond,) * 3,
    )
    return np.asarray(moved, np.uint8)


def _taken(
    boxes: Boxes,
    new: npt.NDArray[np.float32],
    shared: npt.NDArray[np.float32],
    kind: int,
    draw: float,
) -> bool:
    """Whether a place is another cell's: a platelet may lie on a red cell at times, and
    red cells overlap a little."""
    own = float(areas(new[None])[0])
    on_cell = bool((shared[boxes[:, 0] != RED] > 0.08 * own).any())
    on_red = bool((shared > 0.3 * own).any())
    return on_cell or (on_red and (kind == RED or (kind == PLATELET and draw < 0.7)))


def _entries(edges: Sequence[float]) -> tuple[slice, slice]:
    """The entries of a map that a box takes, with a margin of one."""
    x0, y0, x1, y1 = (int(edge / CELL) for edge in edges)
    return slice(max(0, y0 - 1), y1 + 2), slice(max(0, x0 - 1), x1 + 2)


def _forget(boxes: Boxes, known: Known) -> None:
    """Makes unknown, for their own kind, where cells are."""
    for label, *edges in boxes:
        known[int(label)][_entries(edges)] = 0


def _without_tiny(boxes: Boxes, known: Known) -> Boxes:
    """The boxes that are large enough to count; where the others are is unknown."""
    least = np.array([_LEAST_PX[kind] for kind in sorted(_LEAST_PX)])
    tiny = (boxes[:, 3:] - boxes[:, 1:3]).max(1) < least[boxes[:, 0].astype(int)]
    _forget(boxes[tiny], known)
    return np.asarray(boxes[~tiny])


def _stain(view: Levels, glass: float) -> npt.NDArray[np.float32]:
    """How much nucleus is in each pixel, as `edgecell.image.red_cells` has it."""
    levels = np.maximum(np.arange(256), 8) / glass
    density = -np.log(levels).astype(np.float32)[view]
    sums = cv2.transform(density, np.array([STAIN[::-1]], np.float32))
    return np.asarray(cv2.GaussianBlur(sums, (0, 0), 1.2), np.float32)
