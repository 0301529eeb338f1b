"""The size of red cells by their outlines, in drawn fields."""

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgecell.image.red_cells import red_cell_diameter

Image = NDArray[np.uint8]
Point = tuple[int, int]
Colour = tuple[int, int, int]

GLASS, RED_CELL = (215, 225, 230), (165, 150, 195)
NUCLEUS, CYTOPLASM = (150, 50, 100), (205, 165, 190)
RED_PX = 50
"""Diameter of the drawn red cells."""

RED_CENTRES = [
    (40, 45), (130, 40), (225, 50), (320, 38), (410, 45),
    (45, 330), (140, 345), (230, 335), (325, 345), (415, 330),
]  # fmt: skip


def disc(frame: Image, centre: Point, diameter: int, colour: Colour) -> None:
    cv2.circle(frame, centre, diameter // 2, colour, -1, cv2.LINE_AA)


def field(
    width: int = 460, height: int = 380, red_centres: Sequence[Point] = RED_CENTRES
) -> Image:
    """Glass with red cells above and below and room for other cells between."""
    frame = np.full((height, width, 3), GLASS, np.uint8)
    for centre in red_centres:
        disc(frame, centre, RED_PX, RED_CELL)
    return frame


def white_cell(
    frame: Image, centre: Point, nucleus_px: int = 60, cell_px: int = 84
) -> None:
    disc(frame, centre, cell_px, CYTOPLASM)
    disc(frame, centre, nucleus_px, NUCLEUS)


@pytest.mark.parametrize("factor", [0.3, 0.6, 1.0, 2.5, 8.0])
def test_red_cells_are_measured_at_any_magnification(factor: float) -> None:
    frame = field()
    white_cell(frame, (230, 190))
    size = (round(460 * factor), round(380 * factor))
    frame = np.asarray(cv2.resize(frame, size), np.uint8)
    # labels are drawn wider than the stain, so that the estimate may be above
    assert red_cell_diameter(frame) == pytest.approx(RED_PX * factor, rel=0.2)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_blank_picture_has_no_scale(level: int) -> None:
    assert red_cell_diameter(np.full((240, 320, 3), level, np.uint8)) is None


@pytest.mark.parametrize("shape", [(1, 1, 3), (8, 200, 3), (15, 15, 3)])
def test_a_tiny_picture_has_no_scale(shape: tuple[int, ...]) -> None:
    assert red_cell_diameter(np.zeros(shape, np.uint8)) is None


@pytest.mark.parametrize("shape", [(16, 16, 3), (17, 900, 3), (33, 31, 3)])
def test_odd_pictures_do_not_fail(shape: tuple[int, ...]) -> None:
    red_cell_diameter(np.random.default_rng(0).integers(0, 256, shape, np.uint8))


def test_what_shows_no_red_cells_has_no_scale() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (350, 450, 3), np.uint8)
    stripes = np.full((350, 450, 3), GLASS, np.uint8)
    stripes[:, ::40] = RED_CELL
    for frame in (noise, stripes, np.full((350, 450, 3), GLASS, np.uint8)):
        assert red_cell_diameter(frame) is None
