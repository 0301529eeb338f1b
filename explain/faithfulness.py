"""How faithfully an explanation shows what the model does: removal, imputation, masks.

Definitions are those of the papers named; Quantus 0.6 (Hedstrom et al., JMLR 2023) has
the same under the names PixelFlipping, ROAD and RelevanceMassAccuracy.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from edgecell.image.preprocess import Image
from edgecell.model.classifier import Classifier
from edgecell.model.probabilities import softmax
from edgecell.optional import require

Heat = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

STEPS = 28
"""Steps in which all pixels are removed or put back."""

ROAD_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
_ROAD_NOISE = 0.01
"""Deviation of the imputed pixels' noise, in standardised units, as in Quantus."""

_INSERTION_BLUR = 0.1
"""Deviation of the Gaussian that insertion starts from, as a share of the side."""

_TIE_BLUR = 0.03


def ranking(heat: Heat) -> npt.NDArray[np.intp]:
    """Pixels by descending heat.

    Equal pixels, as within a segment, come in the order of the heat around them, so
    that a region goes as a whole and not as noise.

    Args:
        heat: float32 (S, S).

    Returns:
        intp (S * S,), flat indices.
    """
    around = cv2.GaussianBlur(heat, (0, 0), _TIE_BLUR * len(heat))
    return np.lexsort((-around.ravel(), -heat.ravel()))


def exchanged(
    image: Image, other: npt.NDArray[np.floating], order: npt.NDArray[np.intp]
) -> npt.NDArray[np.uint8]:
    """An image that turns into another one, pixel by pixel.

    Args:
        image: uint8 (S, S, 3).
        other: (S, S, 3), 0..255.
        order: the pixels, as `ranking` gives them.

    Returns:
        uint8 (STEPS + 1, S, S, 3): none, then each STEPS-th more of the pixels, all.
    """
    step = np.empty(len(order), np.intp)
    step[order] = 1 + np.arange(len(order)) * STEPS // len(order)
    gone = step.reshape(image.shape[:2]) <= np.arange(STEPS + 1)[:, None, None]
    replaced = np.rint(other).astype(np.uint8)
    return np.where(gone[..., None], replaced, image)


def probability(
    classifier: Classifier, images: npt.NDArray[np.uint8], index: int
) -> Floats:
    """Probability of a class, float64 (N,), of uint8 images (N, S, S, 3)."""
    logits = classifier.logits(images)
    return softmax(logits, classifier.record.temperature)[:, index]


def deletion(classifier: Classifier, seen: Image, heat: Heat, index: int) -> Floats:
    """The class's probability while the hottest pixels are removed first.

    Petsiuk et al., RISE, BMVC 2018. Removed pixels get the mean colour of the training
    images, 0 after standardisation. A faithful map makes the curve fall at once.

    Args:
        classifier: the model.
        seen: uint8 RGB (S, S, 3).
        heat: float32 (S, S).
        index: the class.

    Returns:
        float64 (STEPS + 1,).
    """
    mean = np.broadcast_to(classifier.record.preprocessing.mean, seen.shape)
    return probability(classifier, exchanged(seen, mean, ranking(heat)), index)


def insertion(classifier: Classifier, seen: Image, heat: Heat, index: int) -> Floats:
    """The class's probability while the hottest pixels return to a blurred image.

    Petsiuk et al., RISE, BMVC 2018. A faithful map makes the curve rise at once.
    Arguments and result as for `deletion`.
    """
    blurred = cv2.GaussianBlur(seen, (0, 0), _INSERTION_BLUR * len(seen))
    kept = exchanged(seen, blurred.astype(np.float64), ranking(heat)[::-1])
    return probability(classifier, kept[::-1], index)


def area(curve: Floats) -> float:
    """Area under a curve over 0..1 at even steps, by trapezoids."""
    return float((curve[1:] + curve[:-1]).mean() / 2)


def road(
    classifier: Classifier, seen: Image, heat: Heat, index: int, seed: int
) -> npt.NDArray[np.bool_]:
    """ROAD: whether the cell is still called the same without its hottest pixels.

    Rong et al., A Consistent and Efficient Evaluation Strategy for Attribution Methods,
    ICML 2022, most relevant first. Pixels are imputed from their neighbours, so that
    the shape of what is missing does not reveal the class.

    Args:
        classifier: the model.
        seen: uint8 RGB (S, S, 3).
        heat: float32 (S, S).
        index: the class.
        seed: of the imputation's noise.

    Returns:
        bool, one for each of `ROAD_SHARES` of the pixels.
    """
    order = ranking(heat)
    noise = _ROAD_NOISE * np.asarray(classifier.record.preprocessing.std)
    rng = np.random.default_rng(seed)
    images = []
    for share in ROAD_SHARES:
        gone = np.zeros(heat.size, np.bool_)
        gone[order[: round(share * heat.size)]] = True
        filled = impute(seen, gone.reshape(heat.shape))
        filled += gone.reshape(*heat.shape, 1) * rng.normal(0, noise, seen.shape)
        images.append(np.clip(np.rint(filled), 0, 255).astype(np.uint8))
    called = classifier.logits(np.stack(images)).argmax(1)
    return np.asarray(called == index, np.bool_)


# Weights of a pixel's eight neighbours in ROAD's imputation (section 4.2).
_NEIGHBOURS = [
    (dy, dx, 1 / 6 if dy * dx == 0 else 1 / 12)
    for dy in (-1, 0, 1)
    for dx in (-1, 0, 1)
    if (dy, dx) != (0, 0)
]


def impute(image: Image, gone: npt.NDArray[np.bool_]) -> Floats:
    """Noisy linear imputation without the noise: each missing pixel is the weighted
    mean of its neighbours, missing ones too (a sparse linear system).

    Args:
        image: uint8 (H, W, 3).
        gone: bool (H, W), not all True.

    Returns:
        float64 (H, W, 3).
    """
    sparse = require("scipy.sparse", "explain")
    linalg = require("scipy.sparse.linalg", "explain")
    height, width = gone.shape
    y, x = np.nonzero(gone)
    number = np.full(gone.shape, -1)
    number[y, x] = np.arange(len(y))
    total = np.zeros(len(y))
    known = np.zeros((len(y), 3))
    rows, columns, values = [], [], []
    for dy, dx, weight in _NEIGHBOURS:
        ny, nx = y + dy, x + dx
        inside = np.flatnonzero((ny >= 0) & (ny < height) & (nx >= 0) & (nx < width))
        near = number[ny[inside], nx[inside]]
        total[inside] += weight
        there = inside[near < 0]
        known[there] += weight * image[ny[there], nx[there]]
        missing = near >= 0
        rows.append(inside[missing])
        columns.append(near[missing])
        values.append(np.full(int(missing.sum()), -weight))
    rows.append(np.arange(len(y)))
    columns.append(np.arange(len(y)))
    values.append(total)
    index = (np.concatenate(rows), np.concatenate(columns))
    shape = (len(y), len(y))
    matrix = sparse.csc_matrix((np.concatenate(values), index), shape)
    # The matrix is symmetric: this ordering fills it up the least.
    solver = linalg.splu(matrix, "MMD_AT_PLUS_A", options={"SymmetricMode": True})
    filled = image.astype(np.float64)
    filled[y, x] = solver.solve(known)
    return filled


def energy_inside(heat: Heat, mask: npt.NDArray[np.bool_]) -> float:
    """Share of the positive heat that lies inside a mask.

    The energy-based pointing game of Wang et al., Score-CAM, CVPR workshops 2020, or
    relevance mass accuracy of Arras et al., Information Fusion 81 (2022).

    Args:
        heat: float32 (S, S), above 0 somewhere.
        mask: bool (S, S).

    Returns:
        0..1; the mask's share of the area for a map that says nothing.
    """
    positive = np.maximum(heat, 0.0)
    return float(positive[mask].sum() / positive.sum())


def rank_correlation(one: Heat, other: Heat) -> float:
    """Spearman's rank correlation of two maps; 0 if either is constant."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    stats = require("scipy.stats", "explain")
    return float(stats.spearmanr(one.ravel(), other.ravel()).statistic)


def paired_interval(differences: Sequence[float]) -> tuple[float, float]:
    """95 % bootstrap interval of a mean of paired differences."""
    rng = np.random.default_rng(0)
    d = np.asarray(differences)
    means = d[rng.integers(0, len(d), (2000, len(d)))].mean(1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)
