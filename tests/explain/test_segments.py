from pathlib import Path

import numpy as np
import pytest

from edgecell.data.dataset import decode
from edgecell.explain.segments import cell_segments
from edgecell.image.preprocess import Rgb, cell_image
from edgecell.image.regions import nucleus_and_cell
from edgecell.model.modelfile import bundled_model, read_tflite
from tests.factories import SAMPLES


@pytest.mark.parametrize(
    "path", sorted((SAMPLES / "cells").glob("*_1.jpg")), ids=lambda path: path.stem
)
def test_segments_of_a_cell(path: Path) -> None:
    prep = read_tflite(bundled_model())[1].preprocessing
    seen = cell_image(decode(path.read_bytes(), path.name), prep)
    segments = cell_segments(seen)
    sizes = np.bincount(segments.ravel())
    assert segments.shape == seen.shape[:2]
    assert 30 <= len(sizes) <= 60
    assert sizes.min() >= 30
    assert (cell_segments(seen) == segments).all()
    # None crosses the edge of nucleus or cell, but for slivers that join a neighbour.
    for region in nucleus_and_cell(seen):
        inside = np.bincount(segments.ravel(), region.ravel()) / sizes
        crossing = np.minimum(inside, 1 - inside) * sizes
        assert crossing.sum() < 0.02 * seen.shape[0] * seen.shape[1]


def test_an_image_without_a_cell_is_cut_as_well() -> None:
    flat = Rgb(np.full((112, 112, 3), 240, np.uint8))
    assert 30 <= cell_segments(flat).max() + 1 <= 60
