"""Random views of frames with their labels.

Levels are relative to the glass. A view is a frame, four small ones of one microscope
side by side, or a single-cell image; cells of other images are put into frames. Then
the stain changes, the lamp, the lens and the camera, as for the classifier
(`edgecell.train.job.views`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edgecell.data.frames import PLATELET, RED, WHITE
from edgecell.edge.find.finder import CELL
from edgecell.image.red_cells import STAIN

SIDE = 224
"""Side of a view, pixels: a part of a working image, which costs less than all."""

_MAPS = SIDE // CELL
_WORKING = 256
"""Longest side of a frame at zoom 1."""

_SINGLE = 0.4
_MOSAIC = 0.12
_PASTED = {WHITE: 0.35, PLATELET: 0.45}
_SINGLE_PLATELET = 0.22
"""Shares of the views that are single cells, four frames, that get cells put in; and of
the single cells that are platelets."""

_RED_IN_SINGLE = 52.0 / 224
"""Size of red cells in single-cell images, as a share of the side."""

_STAINED = 0.12
"""Stain of an unlabelled spot that may be a cell."""

Boxes = npt.NDArray[np.float32]
Levels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Scene:
    """An image to make views of.

    Attributes:
        levels: uint8 RGB (H, W, 3), relative to the glass.
        boxes: float32 (N, 5), label and edges.
        whole: whether all cells are labelled; else the one in the middle is.
        shape: height and width of the packed image: those of one shape are taken to be
            of one microscope.
    """

    levels: Levels
    boxes: Boxes
    whole: bool
    shape: tuple[int, int]


class Views:
    """Draws views."""

    def __init__(
        self, scenes: Sequence[Scene], glass: float, rng: np.random.Generator
    ) -> None:
        """
        Args:
            scenes: images, some of them whole.
            glass: level of the glass.
            rng: source of all draws.
        """
        self.glass, self.rng = glass, rng
        self.frames = [scene for scene in scenes if scene.whole]
        self.cells = {
            kind: [s for s in scenes if not s.whole and s.boxes[0, 0] == kind]
            for kind in (WHITE, PLATELET)
        }
        self._groups: dict[tuple[int, int], list[Scene]] = {}
        for frame in self.frames:
            self._groups.setdefault(frame.shape, []).append(frame)
        # Cells to put into frames, each with the size of the red cells beside it.
        self._cuts = {
            kind: [
                (scene, box, red)
                for scene in self.frames
                if (red := _red_px(scene.boxes)) is not None
                for box in scene.boxes
                if box[0] == kind and _inside(box, scene.levels.shape)
            ]
            + [
                (s, s.boxes[0], _RED_IN_SINGLE * min(s.levels.shape[:2]))
                for s in self.cells[kind]
            ]
            for kind in (WHITE, PLATELET)
        }

    def __call__(self) -> tuple[Levels, Boxes, npt.NDArray[np.float32]]:
        """One view.

        Returns:
            uint8 RGB (SIDE, SIDE, 3); boxes; float32 (3, SIDE / 4, SIDE / 4), 0 where
            nobody labelled what is there.
        """
        draw = self.rng.random()
        known = np.ones((3, _MAPS, _MAPS), np.float32)
        if draw < _SINGLE and (self.cells[WHITE] or self.cells[PLATELET]):
            return self._single(known)
        if draw < _SINGLE + _MOSAIC:
            view, boxes = self._mosaic()
        else:
            scene = self._one(self.frames)
            zoom = math.exp(self.rng.normal(0, 0.22))
            view, boxes = self._placed(scene, (0, 0, SIDE, SIDE), zoom)
        red = _red_px(boxes)
        if red is not None:
            for kind, most in ((WHITE, 2), (PLATELET, 5)):
                if self._cuts[kind] and self.rng.random() < _PASTED[kind]:
                    for _ in range(int(self.rng.integers(1, most))):
                        boxes = self._pasted(view, boxes, kind, red)
        return view, boxes, known

    def _one(self, scenes: Sequence[Scene]) -> Scene:
        return scenes[int(self.rng.integers(len(scenes)))]

    def _motion(
        self, scale: float, middle: tuple[float, float], to: tuple[float, float]
    ) -> npt.NDArray[np.float64]:
        """A map (2, 3) that turns by quarters, mirrors and scales."""
        turn = np.linalg.matrix_power(
            np.array([[0.0, -1.0], [1.0, 0.0]]), int(self.rng.integers(4))
        )
        mirror = -1.0 if self.rng.random() < 0.5 else 1.0
        stretch = math.exp(self.rng.normal(0, 0.04))
        linear = scale * turn @ np.diag([mirror * stretch, 1.0])
        offset = np.array(to) - linear @ np.array(middle)
        return np.asarray(np.column_stack([linear, offset]), np.float64)

    def _warped(
        self, image: Levels, motion: npt.NDArray[np.float64], beyond: float
    ) -> Levels:
        """An image moved into a view; twice too fine a one is halved first."""
        motion = motion.copy()
        if math.sqrt(abs(np.linalg.det(motion[:, :2]))) < 0.55:
            image = np.asarray(
                cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
                np.uint8,
            )
            motion[:, :2] *= 2
        moved = cv2.warpAffine(
            image,
            motion,
            (SIDE, SIDE),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=(beyond,) * 3,
        )
        return np.asarray(moved, np.uint8)

    def _placed(
        self, scene: Scene, region: tuple[int, int, int, int], zoom: float
    ) -> tuple[Levels, Boxes]:
        """A frame moved so that it fills a region of the view, as far as it can."""
        height, width = scene.levels.shape[:2]
        x0, y0, x1, y1 = region
        scale = _WORKING / max(height, width) * zoom
        free = [
            max(0.0, length / 2 - span / 2 / scale) + 4
            for length, span in ((width, x1 - x0), (height, y1 - y0))
        ]
        at = np.array([width, height]) / 2 + self.rng.uniform(-1, 1, 2) * free
        motion = self._motion(scale, (at[0], at[1]), ((x0 + x1) / 2, (y0 + y1) / 2))
        return (
            self._warped(scene.levels, motion, self.glass),
            moved_boxes(scene.boxes, motion, region),
        )

    def _mosaic(self) -> tuple[Levels, Boxes]:
        """Four frames of one microscope: a wide field with small cells."""
        group = self._groups[self._one(self.frames).shape]
        x, y = (int(n) for n in self.rng.integers(80, SIDE - 79, 2))
        zoom = math.exp(self.rng.uniform(-0.95, -0.35))
        view = np.empty((SIDE, SIDE, 3), np.uint8)
        boxes = []
        for region in (
            (0, 0, x, y),
            (x, 0, SIDE, y),
            (0, y, x, SIDE),
            (x, y, SIDE, SIDE),
        ):
            part, own = self._placed(self._one(group), region, zoom)
            here = slice(region[1], region[3]), slice(region[0], region[2])
            view[here] = part[here]
            boxes.append(own)
        return view, np.concatenate(boxes)

    def _single(
        self, known: npt.NDArray[np.float32]
    ) -> tuple[Levels, Boxes, npt.NDArray[np.float32]]:
        """A single-cell image: what is stained elsewhere in it is unknown, as are all
        red cells."""
        platelet = self.rng.random() < _SINGLE_PLATELET
        kind = PLATELET if platelet and self.cells[PLATELET] else WHITE
        scene = self._one(self.cells[kind] or self.cells[PLATELET])
        height, width = scene.levels.shape[:2]
        scale = SIDE / max(height, width) * math.exp(self.rng.normal(0.05, 0.22))
        to = SIDE / 2 + self.rng.uniform(-70, 70, 2)
        motion = self._motion(scale, (width / 2, height / 2), (to[0], to[1]))
        view = self._warped(scene.levels, motion, self.glass)
        boxes = moved_boxes(scene.boxes, motion, (0, 0, SIDE, SIDE))
        spots = cv2.resize(
            _stain(view, self.glass), (_MAPS, _MAPS), interpolation=cv2.INTER_AREA
        )
        unknown = cv2.dilate(
            (spots > _STAINED).astype(np.uint8), np.ones((5, 5), np.uint8)
        )
        known[:] = unknown == 0
        known[RED] = 0
        for label, x0, y0, x1, y1 in boxes:
            own = (
                slice(max(0, int(y0 / CELL) - 1), int(y1 / CELL) + 2),
                slice(max(0, int(x0 / CELL) - 1), int(x1 / CELL) + 2),
            )
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
        size = red / beside * math.exp(self.rng.normal(0, 0.25 if kind else 0.12))
        to = self.rng.uniform(8, SIDE - 8, 2)
        motion = self._motion(size, middle, (to[0], to[1]))
        new = moved_boxes(box[None], motion, (0, 0, SIDE, SIDE))
        shared = _shared(boxes, new[0]) if len(new) else None
        if shared is None or _taken(boxes, new[0], shared, kind, self.rng.random()):
            return boxes
        mask = np.zeros(scene.levels.shape[:2], np.uint8)
        cv2.ellipse(mask, (middle, (box[3] - box[1], box[4] - box[2]), 0), 255, -1)
        soft = np.asarray(cv2.GaussianBlur(mask, (0, 0), 1.5), np.uint8)
        alpha = self._warped(soft, motion, 0)[..., None]
        cell = self._warped(scene.levels, motion, self.glass)
        mixed = view + (cell.astype(np.float32) - view) * (alpha / np.float32(255))
        view[:] = mixed.astype(np.uint8)
        covered = (boxes[:, 0] == RED) & (shared > 0.6 * _areas(boxes))
        return np.concatenate([boxes[~covered], new])


def _taken(
    boxes: Boxes, new: npt.NDArray[np.float32], shared: Boxes, kind: int, draw: float
) -> bool:
    """Whether a place is another cell's: a platelet may lie on a red cell at times."""
    own = float(_areas(new[None])[0])
    on_cell = bool((shared[boxes[:, 0] != RED] > 0.08 * own).any())
    return on_cell or (
        kind == PLATELET and bool((shared > 0.3 * own).any()) and draw < 0.7
    )


def moved_boxes(
    boxes: Boxes,
    motion: npt.NDArray[np.float64],
    region: tuple[int, int, int, int],
) -> Boxes:
    """Boxes after a motion, cut at a region's edges.

    Args:
        boxes: (N, 5), label and edges.
        motion: (2, 3), an affine map of x and y.
        region: left, upper, right and lower edge; a cell that shows less than a fifth
            of itself, or less than three pixels, has no box.
    """
    corners = np.stack([boxes[:, 1:3], boxes[:, 3:5]], 1) @ motion[:, :2].T
    corners = corners + motion[:, 2]
    low, high = corners.min(1), corners.max(1)
    seen_low, seen_high = np.maximum(low, region[:2]), np.minimum(high, region[2:])
    sides = seen_high - seen_low
    keep = (sides.min(1, initial=np.inf) > 3) & (
        sides.prod(1) > 0.2 * (high - low).prod(1)
    )
    moved = np.concatenate([boxes[:, :1], seen_low, seen_high], 1)[keep]
    return np.asarray(moved, np.float32)


def _areas(boxes: Boxes) -> npt.NDArray[np.float32]:
    return np.asarray((boxes[:, 3] - boxes[:, 1]) * (boxes[:, 4] - boxes[:, 2]))


def _shared(boxes: Boxes, new: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Area that each box shares with a new one."""
    sides = np.minimum(boxes[:, 3:], new[3:]) - np.maximum(boxes[:, 1:3], new[1:3])
    return np.asarray(np.maximum(sides, 0).prod(1))


def _red_px(boxes: Boxes) -> float | None:
    """Median longer side of the red cells."""
    red = boxes[boxes[:, 0] == RED]
    return float(np.median((red[:, 3:] - red[:, 1:3]).max(1))) if len(red) else None


def _inside(box: npt.NDArray[np.float32], shape: tuple[int, ...]) -> bool:
    return bool(min(box[1:3]) > 3 and box[3] < shape[1] - 3 and box[4] < shape[0] - 3)


def _stain(view: Levels, glass: float) -> npt.NDArray[np.float32]:
    """How much nucleus is in each pixel, as `edgecell.image.red_cells` has it."""
    sums = cv2.transform(density(view, glass), np.array([STAIN[::-1]], np.float32))
    return np.asarray(cv2.GaussianBlur(sums, (0, 0), 1.2), np.float32)


def density(view: Levels, glass: float) -> npt.NDArray[np.float32]:
    """Optical densities, natural log, float32 of the view's shape."""
    levels = np.maximum(np.arange(256), 8) / glass
    return np.asarray(-np.log(levels).astype(np.float32)[view])


def developed(
    view: Levels, glass: float, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """A view under another stain, lamp, lens and camera.

    Args:
        view: uint8 RGB (h, w, 3).
        glass: level of the glass.
        rng: source of all draws.

    Returns:
        float32 (h, w, 3), levels 0..255.
    """
    mixing = np.eye(3) + rng.normal(0, 0.09, (3, 3))
    mixing *= np.exp(rng.normal(0, 0.18, 3) + rng.normal(0, 0.25))
    flat = density(view, glass).reshape(-1, 3) @ mixing.astype(np.float32)
    light = np.exp(-np.maximum(flat, -0.1)).reshape(view.shape)
    if rng.random() < 0.25:  # over-exposed: glass and pale cells are cut off
        light = np.minimum(light * np.float32(rng.uniform(1, 1.35)), 1)
    if rng.random() < 0.5:  # the glass is misjudged
        light *= np.exp(rng.normal(0, 0.04, 3) + rng.normal(0, 0.05)).astype(np.float32)
    if rng.random() < 0.3:
        down, across = (np.linspace(-1, 1, n, dtype=np.float32) for n in view.shape[:2])
        slope = rng.normal(0, 0.1, 2).astype(np.float32)
        light *= 1 + slope[0] * across[None, :, None] + slope[1] * down[:, None, None]
    if rng.random() < 0.3:
        light = cv2.GaussianBlur(light, (0, 0), rng.uniform(0.4, 1.5))
    if rng.random() < 0.3:
        noise = rng.standard_normal(view.shape, dtype=np.float32)
        light += noise * np.float32(rng.uniform(0, 0.03))
    return np.asarray(np.clip(light * glass, 0, 255), np.float32)
