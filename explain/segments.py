"""Segments that suit cells: none crosses the edge of the nucleus or of the cell."""

import warnings

import cv2
import numpy as np
import numpy.typing as npt

from edgecell.image.preprocess import Rgb
from edgecell.image.regions import nucleus_and_cell
from edgecell.optional import require

Segments = npt.NDArray[np.int32]
"""int32 (S, S), 0..M-1, every pixel in one."""

_COUNT = 42
_NUCLEUS, _CYTOPLASM = 14, 12
"""Segments in all, and the most of them in the nucleus and in the rest of the cell: the
classes differ there. The surroundings get the others."""

_SMALLEST = 0.003
"""Least size of a segment as a share of the image; regions smaller than that join their
surroundings."""

_COMPACTNESS = 0.3
"""Weight of distance against stain density in SLIC."""


def cell_segments(image: Rgb) -> Segments:
    """Cuts an image into 30 to 60 segments, the same for the same image.

    Nucleus, cytoplasm and surroundings are found by their stain and cut one by one into
    compact superpixels of optical density (SLIC, Achanta et al., IEEE TPAMI 2012; in a
    mask, Irving, arXiv:1606.09518).

    Args:
        image: uint8 RGB (S, S, 3), one cell in the middle.

    Raises:
        MissingPackageError: scikit-image is not installed.
    """
    slic = require("skimage.segmentation", "explain").slic
    density = -np.log(np.maximum(image, 8) / np.float64(255))
    density = cv2.GaussianBlur(density, (0, 0), 1)
    nucleus, cell = nucleus_and_cell(image)
    least = round(_SMALLEST * nucleus.size)
    segments = np.full(nucleus.shape, -1, np.int32)
    count = 0
    regions = (nucleus, cell & ~nucleus, ~cell)
    for region, most in zip(regions, (_NUCLEUS, _CYTOPLASM, _COUNT), strict=True):
        pieces = min(most, _COUNT - count, np.count_nonzero(region) // least)
        if not pieces:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of k-means that leave a centre empty
            cut = slic(
                density,
                n_segments=pieces,
                compactness=_COMPACTNESS,
                mask=region,
                channel_axis=-1,
                convert2lab=False,
                start_label=1,
            )
        for label in np.unique(cut[cut > 0]):
            piece = cut == label
            if np.count_nonzero(piece) >= least:
                segments[piece] = count
                count += 1
    return _filled(segments)


def _filled(segments: Segments) -> Segments:
    """Gives pixels without a segment to the nearest one."""
    missing = segments < 0
    if not missing.any():
        return segments
    _, nearest = cv2.distanceTransformWithLabels(
        missing.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    # Each pixel's label names the pixel that it is nearest to.
    owner = np.zeros(nearest.max() + 1, np.int32)
    owner[nearest[~missing]] = segments[~missing]
    return np.asarray(owner[nearest], np.int32)
