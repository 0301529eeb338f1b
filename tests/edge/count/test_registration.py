import cv2
import numpy as np
import pytest

from edgecell.edge.count.registration import (
    LEAST_LIKENESS,
    MINIATURE_SIDE,
    check,
    miniature,
    register,
)
from edgecell.edge.sources import SAMPLES
from edgecell.edge.sources.still import read_image
from edgecell.image.preprocess import Image

FRAMES = sorted((SAMPLES / "frames").glob("*.jpg"))
SLIDE = np.hstack([read_image(p) for p in FRAMES if p.stem.startswith("bccd")])
HEIGHT, WIDTH = 360, 480


def view(x: int, y: int) -> Image:
    return SLIDE[y : y + HEIGHT, x : x + WIDTH]


def under_a_lamp(image: Image) -> Image:
    """As a lamp shows it that leaves the corners half as bright."""
    y, x = np.indices(image.shape[:2]) / np.array(image.shape[:2])[:, None, None] - 0.5
    return np.asarray(image * (1 - x**2 - y**2)[..., None], np.uint8)


@pytest.mark.parametrize(
    ("dx", "dy"), [(0, 0), (13, -7), (100, 60), (-250, 0), (300, 0), (0, -60)]
)
def test_a_shift_is_found_to_a_pixel(dx: int, dy: int) -> None:
    # (300, 0): farther than half the width, where phase correlation wraps around
    offset = register(miniature(view(600, 60)), miniature(view(600 + dx, 60 + dy)))
    assert offset is not None
    scale = WIDTH / MINIATURE_SIDE
    assert (scale * offset.x, scale * offset.y) == pytest.approx((dx, dy), abs=1)
    assert offset.likeness > 0.95


def test_the_lamp_does_not_hide_a_shift() -> None:
    one, other = (miniature(under_a_lamp(view(x, 60))) for x in (600, 690))
    offset = register(one, other)
    assert offset is not None
    assert (offset.x, offset.y) == pytest.approx((30, 0), abs=0.4)


def test_blur_noise_and_light_change_nothing() -> None:
    rng = np.random.default_rng(0)
    poor = 0.8 * cv2.GaussianBlur(view(640, 80), (0, 0), 2)
    poor = np.clip(poor + rng.normal(0, 5, poor.shape), 0, 255).astype(np.uint8)
    offset = register(miniature(view(600, 60)), miniature(np.asarray(poor)))
    assert offset is not None
    assert (3 * offset.x, 3 * offset.y) == pytest.approx((40, 20), abs=1)


def test_different_fields_are_not_taken_for_one_under_the_same_lamp() -> None:
    images = [miniature(under_a_lamp(read_image(path))) for path in FRAMES]
    for i, one in enumerate(images):
        for j, other in enumerate(images):
            if one.shape == other.shape:
                assert (register(one, other) is not None) == (i == j)


@pytest.mark.parametrize("noise", [0, 1])
def test_empty_glass_is_nowhere(noise: int) -> None:
    rng = np.random.default_rng(0)
    blank = np.clip(rng.normal(235, noise, (480, 640, 3)), 0, 255).astype(np.uint8)
    assert register(miniature(blank), miniature(blank)) is None


def test_a_guess_is_corrected_by_a_few_pixels_only() -> None:
    field, image = miniature(view(600, 60)), miniature(view(690, 60))
    offset = check(field, image, (27, 2))
    assert offset is not None
    assert (offset.x, offset.y) == pytest.approx((30, 0), abs=0.4)
    assert offset.likeness > LEAST_LIKENESS
    further = check(field, image, (23, 5))
    assert further is not None, "beyond what one search spans"
    assert (further.x, further.y) == pytest.approx((offset.x, offset.y), abs=0.01)
    assert check(field, image, (15, 0)) is None
    assert check(field, image, (150, 0)) is None, "hardly any overlap"
    assert check(field, image, (-500, 0)) is None, "none at all"


@pytest.mark.parametrize("shape", [(480, 640), (1080, 1920), (100, 90), (20, 300)])
def test_miniatures_are_small(shape: tuple[int, int]) -> None:
    small = miniature(np.zeros((*shape, 3), np.uint8))
    assert small.dtype == np.uint8
    assert max(small.shape) == min(MINIATURE_SIDE, max(shape))
    assert register(small, small) is None
