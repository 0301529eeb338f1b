"""A microscope that the bundled model does not know: sample cells in other colours."""

from pathlib import Path

import cv2
import numpy as np

from edgecell.model.modelfile import bundled_model

CELLS = bundled_model().parent / "cells"
OTHERS = ("MYE_1", "MYE_2", "SNE_1")  # of another microscope than all the rest
NUMBER = 84
"""Cells that four turns of each make."""


def write_foreign_cells(root: Path, views: int = 4, known: bool = False) -> Path:
    """Writes root/<CODE>/<n>.png: the sample cells, turned, with red and blue swapped.

    Args:
        root: the folder to write.
        views: turns of each cell, 1..4.
        known: leave the colours as they are.
    """
    for path in sorted(CELLS.glob("*.jpg")):
        if path.stem in OTHERS:
            continue
        folder = root / path.stem.partition("_")[0]
        folder.mkdir(parents=True, exist_ok=True)
        image = cv2.imread(str(path))
        assert image is not None
        seen = image if known else np.ascontiguousarray(image[..., ::-1])
        for turn in range(views):
            cv2.imwrite(str(folder / f"{path.stem}-{turn}.png"), np.rot90(seen, turn))
    return root
