"""Pictures that show the same thing: copies turned, mirrored, re-saved or shifted.

Images of cells look alike: a dark nucleus in the middle, pale red cells around it.
Plain correlation of small pictures therefore says much about the subject and little
about the picture. Here each point is divided by the contrast around it, so that fine
structure counts the same everywhere and tells copies from look-alikes.

Two steps. Every pair is compared in all eight orientations at 16x16 pixels, which is
a matrix product; the few that agree are laid over each other at 64x64, shifted to the
best fit, and compared window by window.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from edgecell.image.preprocess import Image

Thumbnail = npt.NDArray[np.uint8]
Descriptors = npt.NDArray[np.float32]
_T = TypeVar("_T", bound=np.generic)

THUMBNAIL_SIDE = 64
# Measured on 1,500 real cells: copies shifted by 2 % or cropped by 5 % agree by at
# least 0.80, re-saved, brightened or blurred ones by 0.98; of 130 million pairs of
# different cells 1,106 reach 0.6.
CANDIDATE = 0.6
# Those pairs of different cells reach 0.47. Re-saved, brightened or blurred copies
# reach at least 0.93, those shifted by up to 2 % 0.87.
SAME = 0.65
# The most look-alikes per image that are examined, so that a set of very similar
# pictures doesn't take hours. Copies agree better than anything and come first.
MAX_CANDIDATES = 8
_SIDE = 16
_SIGMA = 2.0
_SHIFT = 5
_WINDOW = (7, 7)
_TRIED = 2
_BLOCK = 512


@dataclass(frozen=True)
class Pair:
    """Two pictures that show the same thing.

    Attributes:
        first: position of the first picture.
        second: position of the second one, greater than ``first``.
        similarity: how far the details agree, `SAME` to 1.
    """

    first: int
    second: int
    similarity: float


def thumbnail(image: Image) -> Thumbnail:
    """The central square of an image, small and grey.

    Args:
        image: uint8 RGB (H, W, 3).

    Returns:
        uint8 (64, 64).
    """
    height, width = image.shape[:2]
    side = min(height, width)
    y, x = (height - side) // 2, (width - side) // 2
    grey = cv2.cvtColor(image[y : y + side, x : x + side], cv2.COLOR_RGB2GRAY)
    size = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)


def orientations(images: npt.NDArray[_T]) -> npt.NDArray[_T]:
    """The eight ways in which a square can lie: four turns, each mirrored as well.

    Args:
        images: (..., S, S).

    Returns:
        (8, ..., S, S), as they are first.
    """
    turned = [np.rot90(images, k, (-2, -1)) for k in range(4)]
    return np.stack([*turned, *(np.flip(t, -1) for t in turned)])


def descriptors(thumbnails: Sequence[Thumbnail]) -> Descriptors:
    """Describes pictures so that a product of two says how much they agree.

    Args:
        thumbnails: N times uint8 (64, 64).

    Returns:
        float32 (N, 16, 16), each with mean 0 and norm 1; all 0 for a plain picture.
    """
    described = np.empty((len(thumbnails), _SIDE, _SIDE), np.float32)
    for i, picture in enumerate(thumbnails):
        x = cv2.resize(
            picture.astype(np.float32), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA
        )
        x = x - cv2.GaussianBlur(x, (0, 0), _SIGMA, borderType=cv2.BORDER_REFLECT)
        power = cv2.GaussianBlur(x * x, (0, 0), _SIGMA, borderType=cv2.BORDER_REFLECT)
        x = x / np.sqrt(power + 1.0)  # one grey level keeps noise from counting
        x -= x.mean()
        described[i] = x / max(float(np.linalg.norm(x)), 1e-6)
    return described


def detail_similarity(a: Thumbnail, b: Thumbnail) -> float:
    """How far the fine structure of two pictures agrees, at the best shift.

    Args:
        a: uint8 (64, 64).
        b: uint8 (64, 64), in the same orientation; it may be shifted by 5 pixels.

    Returns:
        Median over all 7x7 windows of their correlation, -1 to 1. In look-alikes
        large shapes agree, but the windows between them don't.
    """
    inner = a[_SHIFT:-_SHIFT, _SHIFT:-_SHIFT]
    fit = cv2.matchTemplate(b, inner, cv2.TM_CCOEFF_NORMED)
    y, x = np.unravel_index(int(fit.argmax()), fit.shape)
    p = inner.astype(np.float32)
    q = b[y : y + len(p), x : x + len(p)].astype(np.float32)

    def mean(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return np.asarray(cv2.boxFilter(values, -1, _WINDOW), np.float32)

    mean_p, mean_q = mean(p), mean(q)
    power = (mean(p * p) - mean_p**2) * (mean(q * q) - mean_q**2)
    # Windows without any structure have correlation 0, not 0 / 0.
    correlation = (mean(p * q) - mean_p * mean_q) / np.sqrt(np.maximum(power, 1e-3))
    return float(np.median(correlation))


def _candidates(described: Descriptors) -> list[tuple[int, int]]:
    """All pairs that agree at 16x16, each image's best `MAX_CANDIDATES` at most."""
    n = len(described)
    flat = described.reshape(n, _SIDE * _SIDE)
    found: list[tuple[int, int]] = []
    starts = range(0, n, _BLOCK)
    for start in tqdm(starts, "comparing images", disable=None, leave=False):
        best = np.full((min(_BLOCK, n - start), n - start), -1, np.float32)
        # Turning one picture equals turning the other one back, so half the pairs
        # suffice.
        for turned in orientations(described[start : start + _BLOCK]):
            np.maximum(best, turned.reshape(len(best), -1) @ flat[start:].T, out=best)
        best[np.tril_indices(len(best))] = -1
        for i in np.flatnonzero((best > CANDIDATE).any(1)):
            others = np.flatnonzero(best[i] > CANDIDATE)
            strongest = others[np.argsort(-best[i, others])][:MAX_CANDIDATES]
            found += [(start + int(i), start + int(j)) for j in strongest]
    return found


def near_duplicates(thumbnails: Sequence[Thumbnail]) -> list[Pair]:
    """Finds pictures that show the same thing, in any orientation.

    16,000 take some 20 s on two cores; the time grows with the square.

    Args:
        thumbnails: N times uint8 (64, 64), see `thumbnail`.

    Returns:
        The pairs found, in ascending order.
    """
    described = descriptors(thumbnails)
    pairs = []
    for i, j in sorted(_candidates(described)):
        agreement = (orientations(described[i]) * described[j]).sum((1, 2))
        # A round cell may agree better when turned wrongly, if the copy is shifted.
        turned = orientations(thumbnails[i])[np.argsort(-agreement)[:_TRIED]]
        similarity = max(detail_similarity(t, thumbnails[j]) for t in turned)
        if similarity >= SAME:
            pairs.append(Pair(i, j, similarity))
    return pairs


def joined(size: int, pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Joins places that are the same, if only by way of a third.

    Args:
        size: number of places.
        pairs: which of them are the same.

    Returns:
        Groups, each in ascending order, by their first place; also those of one.
    """
    root = list(range(size))

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    for one, other in pairs:
        low, high = sorted((find(one), find(other)))
        root[high] = low
    members: dict[int, list[int]] = {}
    for i in range(size):
        members.setdefault(find(i), []).append(i)
    return list(members.values())


def groups(size: int, pairs: Sequence[Pair]) -> list[list[int]]:
    """Joins pairs that share a picture.

    Args:
        size: number of pictures.
        pairs: which of them are the same.

    Returns:
        Positions of each group of two or more, ascending.
    """
    each = joined(size, ((pair.first, pair.second) for pair in pairs))
    return [group for group in each if len(group) > 1]
