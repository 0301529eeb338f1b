"""Cells with expert masks of nucleus and cytoplasm, as SegWBC has them."""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import numpy.typing as npt

from edgecell.data.dataset import IMAGE_SUFFIXES, decode
from edgecell.errors import InputError
from edgecell.image.preprocess import (
    Image,
    Preprocessing,
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
    seen: Image
    nucleus: npt.NDArray[np.bool_]
    cell: npt.NDArray[np.bool_]


def read_masked(data: Path, prep: Preprocessing) -> list[MaskedCell]:
    """Reads cells with masks and crops them at the scale of the training images.

    The median red cell of all images gives the scale: they are taken to come from one
    microscope, and in many the white cell leaves no room for red ones.

    Args:
        data: a folder or zip file with ``images`` and ``masks`` in it, or one folder
            below.
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


def _pairs(data: Path) -> Iterator[tuple[str, Image, Image]]:
    try:
        root = data if data.is_dir() else zipfile.Path(data)
        below = [p for p in root.iterdir() if p.is_dir()]
    except (OSError, zipfile.BadZipFile) as e:
        raise InputError(f"{data} cannot be read ({e}): {_LAYOUT}") from e
    folder = next((p for p in (root, *below) if (p / "images").is_dir()), None)
    if folder is None:
        raise InputError(f"{data} has no folder 'images': {_LAYOUT}")
    found = sorted((p for p in (folder / "images").iterdir()), key=lambda p: p.name)
    for path in found:
        if Path(path.name).suffix.lower() not in IMAGE_SUFFIXES:
            continue
        mask = folder / "masks" / path.name
        if not mask.is_file():
            raise InputError(f"{path.name} in {data} has no mask: {_LAYOUT}")
        yield (
            path.name,
            decode(path.read_bytes(), path.name),
            decode(mask.read_bytes(), f"masks/{path.name}"),
        )
