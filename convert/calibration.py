"""The calibration set: the images whose activations set the int8 ranges."""

from collections.abc import Sequence

import numpy as np

from edgecell.data.dataset import CellFile
from edgecell.errors import InputError


def calibration_set(
    files: Sequence[CellFile], codes: Sequence[str], size: int, seed: int
) -> list[CellFile]:
    """Draws a class-balanced calibration set from the training split.

    Validation and test images are never taken: figures measured on them would
    flatter the quantised model.

    Args:
        files: labelled images of any split.
        codes: the classes that the model was trained on, all of which must be present.
        size: number of images; rounded up to the same number for each class, less
            where a class has fewer.
        seed: of the draw. The order of ``files`` does not matter.

    Returns:
        The chosen images, classes in turn.

    Raises:
        InputError: a class has no training image, or an image is of a class that
            the model does not know.
    """
    pools: dict[str, list[CellFile]] = {code: [] for code in codes}
    for file in sorted(files, key=lambda f: f.sha256):
        if file.code not in pools:
            raise InputError(
                f"calibration image {file.name} is {file.code}, which the model does "
                f"not know; its classes are {', '.join(codes)}"
            )
        if file.split == "train":
            pools[file.code].append(file)
    missing = [code for code, pool in pools.items() if not pool]
    if missing:
        raise InputError(
            f"the calibration data has no training image of {', '.join(missing)}; "
            "give the data that the model was trained on"
        )
    rng = np.random.default_rng(seed)
    each = -(-size // len(codes))
    drawn = [
        [pool[i] for i in rng.permutation(len(pool))[:each]] for pool in pools.values()
    ]
    return [row[i] for i in range(each) for row in drawn if i < len(row)]
