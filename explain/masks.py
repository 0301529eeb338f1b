"""Cells with expert masks of nucleus and cytoplasm, as in SegWBC."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import numpy.typing as npt

from edgecell.data.dataset import IMAGE_SUFFIXES, decode
from edgecell.data.members import open_files
from edgecell.errors import InputError
from edgecell.files import printable
from edgecell.image.preprocess import (
    Preprocessing,
    Rgb,
    apply_gains,
    crop_square,
    resize,
    white_gains,
)
from edgecell.image.red_cells import red_cell_diameter

_LAYOUT = "expected images/NAME.png beside masks/NAME.png, in a folder or a zip file"
_CYTOPLASM, _NUCLEUS = 64, 192
"""Least grey levels of cytoplasm and nucleus, which are drawn as 128 and 255."""


@dataclass(frozen=True, eq=False)
class MaskedCell:
    """A cell as the network sees it, with its masks.

    Attributes:
        name: of its file.
        seen: uint8 RGB (S, S, 3).
        nucleus: bool (S, S).
        cell: bool (S, S), nucleus and cytoplasm.
    """

    name: str
    seen: Rgb
    nucleus: npt.NDArray[np.bool_]
    cell: npt.NDArray[np.bool_]


def read_masked(data: Path, prep: Preprocessing) -> list[MaskedCell]:
    """Reads cells with masks and crops them at the scale of the training images.

    The median red cell of all images gives the scale: they are taken to come from one
    microscope, and in many the white cell leaves no room for red ones.

    Args:
        data: a folder or ZIP file with folders ``images`` and ``masks`` beside each
            other anywhere in it.
        prep: the model's preprocessing.

    Raises:
        InputError: no such folders, an image without a mask, or no red cells at all.
    """
    pairs = list(_pairs(data))
    bgr = [cv2.cvtColor(image, cv2.COLOR_RGB2BGR) for _, image, _ in pairs]
    measured = [red_cell_diameter(np.asarray(image, np.uint8)) for image in bgr]
    known = [d for d in measured if d is not None]
    if not known:
        raise InputError(f"{data}: no red cells were found that would give the scale")
    side = prep.crop_red_cells * median(known)
    cells = []
    for name, image, mask in pairs:
        centre = (image.shape[1] / 2, image.shape[0] / 2)
        gains = white_gains(image, prep.white_percentile, prep.white_level)
        seen = apply_gains(
            resize(crop_square(image, centre, side), prep.input_size), gains
        )
        grey = resize(crop_square(mask, centre, side), prep.input_size)[..., 0]
        cells.append(MaskedCell(name, seen, grey >= _NUCLEUS, grey >= _CYTOPLASM))
    return cells


def _pairs(data: Path) -> Iterator[tuple[str, Rgb, Rgb]]:
    with open_files(data) as files:
        images = [
            path
            for path in files
            if path.parent.name == "images" and path.suffix.lower() in IMAGE_SUFFIXES
        ]
        if not images:
            raise InputError(f"{data} has no images in a folder 'images': {_LAYOUT}")
        for path in images:
            mask = path.parent.parent / "masks" / path.name
            name = printable(path.name)
            if mask not in files:
                raise InputError(f"{name} in {data} has no mask: {_LAYOUT}")
            yield (
                name,
                decode(files[path](), name),
                decode(files[mask](), f"masks/{name}"),
            )
