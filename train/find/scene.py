"""Images to make views of, and the boxes of their cells under motions."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgecell.data.frames import RED

Boxes = npt.NDArray[np.float32]
"""(N, 5): label, left, upper, right and lower edge."""

Levels = npt.NDArray[np.uint8]
"""(H, W, 3), RGB, relative to the glass."""

Motion = npt.NDArray[np.float64]
"""(2, 3), an affine map of x and y."""

Region = tuple[int, int, int, int]
"""Left, upper, right and lower edge."""

_LEAST_SHARE = 0.2
_LEAST_PX = 3
"""A cell that shows less than this share of itself, or fewer pixels, has no box."""


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


def moved_boxes(
    boxes: Boxes, motion: Motion, region: Region
) -> tuple[Boxes, npt.NDArray[np.float32]]:
    """Boxes after a motion, cut at a region's edges.

    Args:
        boxes: (N, 5).
        motion: what moves them.
        region: what is seen.

    Returns:
        Boxes of the cells that are seen; share of each that is seen, 0..1.
    """
    corners = np.stack([boxes[:, 1:3], boxes[:, 3:5]], 1) @ motion[:, :2].T
    corners = corners + motion[:, 2]
    low, high = corners.min(1), corners.max(1)
    seen_low, seen_high = np.maximum(low, region[:2]), np.minimum(high, region[2:])
    sides = np.maximum(seen_high - seen_low, 0)
    shares = sides.prod(1) / np.maximum((high - low).prod(1), 1e-9)
    keep = (sides.min(1, initial=np.inf) > _LEAST_PX) & (shares > _LEAST_SHARE)
    moved = np.concatenate([boxes[:, :1], seen_low, seen_high], 1)[keep]
    return moved.astype(np.float32), shares[keep].astype(np.float32)


def areas(boxes: Boxes) -> npt.NDArray[np.float32]:
    """Area of each box."""
    return np.asarray((boxes[:, 3] - boxes[:, 1]) * (boxes[:, 4] - boxes[:, 2]))


def shared_areas(boxes: Boxes, new: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Area that each box shares with a new one, (5,)."""
    sides = np.minimum(boxes[:, 3:], new[3:]) - np.maximum(boxes[:, 1:3], new[1:3])
    return np.asarray(np.maximum(sides, 0).prod(1))


def red_px(boxes: Boxes) -> float | None:
    """Median longer side of the red cells; None without any."""
    red = boxes[boxes[:, 0] == RED]
    return float(np.median((red[:, 3:] - red[:, 1:3]).max(1))) if len(red) else None


def lies_inside(box: npt.NDArray[np.float32], shape: tuple[int, ...]) -> bool:
    """Whether an image's edge is well away from a box, (5,)."""
    return bool(min(box[1:3]) > 3 and box[3] < shape[1] - 3 and box[4] < shape[0] - 3)
