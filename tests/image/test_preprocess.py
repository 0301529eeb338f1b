import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecell.image.preprocess import (
    Preprocessing,
    Rgb,
    apply_gains,
    cell_image,
    crop_square,
    halving_grid,
    inside,
    mirrored,
    network_view,
    resize,
    square,
    standardise,
    view_in,
    white_gains,
)

PREP = Preprocessing(56, 0.5, 3.3, 95.0, 240.0, (10.0, 20.0, 30.0), (1.0, 2.0, 4.0))


def flat(colour: tuple[int, int, int], side: int = 112) -> np.ndarray:
    return np.full((side, side, 3), colour, np.uint8)


def test_white_balance_brings_every_lamp_to_the_same_white() -> None:
    for lamp in ((250, 230, 200), (200, 200, 255), (120, 120, 120)):
        image = flat(lamp)
        image[40:60, 40:60] = 30  # a dark cell is not background
        balanced = apply_gains(image, white_gains(image, 95.0, 240.0))
        assert np.all(balanced[0, 0] == 240)


def test_gains_are_bounded_on_a_black_frame() -> None:
    gains = white_gains(flat((0, 0, 0)), 95.0, 240.0)
    assert np.all(gains == 4.0)


def test_apply_gains_rounds_and_clips() -> None:
    image = np.array([[[100, 200, 3]]], np.uint8)
    out = apply_gains(image, np.array([1.5, 1.5, 0.5]))
    assert out.tolist() == [[[150, 255, 2]]]  # 1.5 rounds to even


def test_crop_square_inside_is_exact() -> None:
    image = np.arange(100, dtype=np.uint8).reshape(10, 10)[..., None].repeat(3, 2)
    crop = crop_square(image, (5, 5), 4)
    assert np.array_equal(crop, image[3:7, 3:7])


def test_crop_square_mirrors_beyond_the_border() -> None:
    image = np.arange(16, dtype=np.uint8).reshape(4, 4)[..., None].repeat(3, 2)
    crop = crop_square(image, (0, 2), 4)
    assert crop.shape == (4, 4, 3)
    assert crop[0, :, 0].tolist() == [1, 0, 0, 1]
    with pytest.raises(ValueError, match="outside"):
        crop_square(image, (40, 40), 4)


def test_standardise_by_hand() -> None:
    x = standardise(np.array([[[11, 24, 38]]], np.uint8), PREP)
    assert x.dtype == np.float32
    assert x.tolist() == [[[1.0, 2.0, 2.0]]]


def test_a_margin_widens_the_view_at_the_same_scale() -> None:
    rng = np.random.default_rng(0)
    image = Rgb(rng.integers(0, 255, (112, 112, 3), np.uint8))
    tight, wide = cell_image(image, PREP), cell_image(image, PREP, margin=2.0)
    assert tight.shape == (56, 56, 3)
    assert wide.shape == (112, 112, 3)
    assert np.array_equal(wide[28:84, 28:84], tight)


@pytest.mark.parametrize(
    "change",
    [
        {"input_size": 0},
        {"crop_fraction": 1.5},
        {"crop_red_cells": 0.0},
        {"white_percentile": 0.0},
        {"white_level": 300.0},
        {"std": (1.0, 0.0, 1.0)},
    ],
)
def test_nonsense_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Preprocessing(**(PREP.__dict__ | change))


def test_gains_are_those_of_a_histogram() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        height, width = rng.integers(1, 400, 2)
        means, spread = rng.integers(0, 256, 3), rng.uniform(0, 80)
        noise = rng.normal(means, spread, (height, width, 3))
        image = np.clip(noise, 0, 255).astype(np.uint8)
        percent = rng.uniform(1, 100)
        levels = np.array(
            [
                np.searchsorted(
                    np.bincount(channel.ravel()).cumsum(),
                    percent / 100 * height * width,
                )
                for channel in np.moveaxis(image, 2, 0)
            ]
        )
        expected = np.minimum(240 / np.maximum(levels, 1), 4.0)
        assert (white_gains(image, percent, 240.0) == expected).all()


@pytest.mark.parametrize("shape", [(480, 640), (1080, 1920), (2, 400_000)])
def test_rows_of_a_large_image_tell_its_background(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image = np.empty((*shape, 3), np.uint8)
    image[:] = rng.normal(120, 20, image.shape).clip(0, 255)
    image[rng.random(shape) < 0.3] = (230, 200, 210)  # the glass
    gains = white_gains(image, 95.0, 240.0)
    assert gains.tolist() == [240 / 230, 240 / 200, 240 / 210]


@pytest.mark.parametrize("side", [50, 112, 113, 150, 224, 225, 279])
def test_a_view_is_opencvs_own(side: int) -> None:
    image = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)
    method = cv2.INTER_AREA if side > 112 else cv2.INTER_LINEAR
    expected = cv2.resize(image, (112, 112), interpolation=method)
    assert (resize(image, 112) == expected).all()


@pytest.mark.parametrize("side", [280, 327, 448, 704, 1121, 2400])
def test_a_large_crop_shows_the_same_in_the_view(side: int) -> None:
    """A picture without detail that a pixel of the view can't show."""
    small = np.random.default_rng(side).integers(0, 256, (10, 10, 3), np.uint8)
    large = cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC)
    image = np.asarray(large, np.uint8)
    even = image[: side // 2 * 2, : side // 2 * 2]
    direct = cv2.resize(even, (112, 112), interpolation=cv2.INTER_AREA)
    view = resize(image, 112)
    assert view.shape == (112, 112, 3)
    away = np.abs(view.astype(int) - direct)
    assert away.mean() < 1.0
    assert away.max() <= 8


@settings(deadline=None)
@given(
    shape=st.tuples(st.integers(200, 700), st.integers(200, 700)),
    at=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    side=st.floats(40, 900),
    aligned=st.booleans(),
)
def test_a_crop_that_is_halved_first_gives_the_same_view(
    shape: tuple[int, int], at: tuple[float, float], side: float, aligned: bool
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    centre = at[1] * (shape[1] - 1), at[0] * (shape[0] - 1)
    box = square(centre, side, halving_grid(side, 112) if aligned else 1)
    gains = np.array([1.1, 1.0, 1.2])
    inner = inside(image, box)
    whole = crop_square(image, box.centre, box.width)
    assert (mirrored(inner, box) == whole).all()
    assert (view_in(inner, box, gains, 112) == network_view(whole, gains, 112)).all()


@pytest.mark.parametrize(("side", "grid"), [(279, 1), (280, 2), (447, 2), (448, 4)])
def test_the_grid_of_a_crop(side: int, grid: int) -> None:
    assert halving_grid(side, 112) == grid
    box = square((1000.3, -7.0), side, grid)
    assert all(edge % grid == 0 for edge in (box.x0, box.y0, box.width))
    assert abs(box.width - side) < grid
    assert np.abs(np.subtract(box.centre, (1000.3, -7.0))).max() <= grid / 2
