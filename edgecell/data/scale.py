"""How training cuts cells out, and how large red cells are then."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from edgecell.data.dataset import CellFile, decode
from edgecell.errors import InputError
from edgecell.image.preprocess import Preprocessing, to_bgr
from edgecell.image.red_cells import red_cell_diameter

INPUT_SIZE = 112
CROP_FRACTION = 0.66
MARGIN = 1.285
WHITE_PERCENTILE = 95.0
WHITE_LEVEL = 240.0
SAMPLE = 300
"""Images that a source's scale is measured on, at most."""


def field_in_red_cells(files: Iterable[CellFile]) -> float:
    """Shorter side of a source's images in red-cell diameters.

    Args:
        files: small fields around a cell, of one microscope and scale.

    Returns:
        Median over a sample of the images in which red cells can be measured.

    Raises:
        InputError: there is no such image, so the scale is not known.
    """
    ratios = []
    for file in sorted(files, key=lambda f: f.sha256)[:SAMPLE]:
        image = to_bgr(decode(file.data, file.name))
        diameter = red_cell_diameter(image)
        if diameter:
            ratios.append(min(image.shape[:2]) / diameter)
    if not ratios:
        raise InputError(
            "no red cells were found around the training cells, so the crop's scale "
            "is unknown; give images that show some of the field around each cell"
        )
    return float(np.median(ratios))


def training_view(
    files: Iterable[CellFile],
    size: int = INPUT_SIZE,
    crop_fraction: float = CROP_FRACTION,
) -> Preprocessing:
    """How training cuts cells out, mean and deviation not yet set.

    Args:
        files: training images, which give the scale.
        size: side of the network's input, pixels.
        crop_fraction: side of the crop over an image's shorter side.

    Raises:
        InputError: see `field_in_red_cells`.
    """
    return Preprocessing(
        size,
        crop_fraction,
        crop_fraction * field_in_red_cells(files),
        WHITE_PERCENTILE,
        WHITE_LEVEL,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )


def crops_at_scale(
    files: Sequence[CellFile], prep: Preprocessing, known: Mapping[str, float]
) -> dict[str, float]:
    """Crops that show the cells of every source at one scale.

    Args:
        files: images of one or more sources.
        prep: its ``crop_red_cells`` is the scale.
        known: crops by source that are not to be measured.

    Returns:
        Side of the crop over an image's shorter side, by source; at most 1, where an
        image shows too little of the field.

    Raises:
        InputError: the scale of a source can't be measured.
    """
    crops = dict(known)
    for source in sorted({f.source for f in files} - set(known)):
        own = (f for f in files if f.source == source)
        crops[source] = min(1.0, prep.crop_red_cells / field_in_red_cells(own))
    return crops
