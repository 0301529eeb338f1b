import numpy as np
import pytest

from edgecell.explain.faithfulness import (
    STEPS,
    area,
    deletion,
    energy_inside,
    exchanged,
    impute,
    insertion,
    paired_interval,
    rank_correlation,
    ranking,
    road,
)
from tests.explain.stand_ins import classifier_of

SIDE = 28
RNG = np.random.default_rng(0)


def corner(images: np.ndarray) -> np.ndarray:
    """12 logits for a bright corner on top of -6, a quarter of the image."""
    bright = (images[:, : SIDE // 2, : SIDE // 2] - 100).mean((1, 2, 3)) / 100
    return np.asarray(12 * bright - 6)


@pytest.fixture
def seen() -> np.ndarray:
    image = np.full((SIDE, SIDE, 3), 100, np.uint8)
    image[: SIDE // 2, : SIDE // 2] = 200
    return image


@pytest.fixture
def right() -> np.ndarray:
    heat = np.zeros((SIDE, SIDE), np.float32)
    heat[: SIDE // 2, : SIDE // 2] = 1
    return heat


def test_the_hottest_come_first_and_equal_ones_as_a_region() -> None:
    heat = np.array([[0, 3], [2, 1]], np.float32)
    assert ranking(heat).tolist() == [1, 2, 3, 0]
    flat = np.zeros((8, 8), np.float32)
    flat[2:4, 2:4] = 1
    flat[6:, :] = -1
    order = ranking(flat).tolist()
    assert set(order[:4]) == {18, 19, 26, 27}
    assert order.index(5 * 8 + 7) > order.index(4 * 8 + 3)  # nearer to the heat


def test_pixels_go_in_even_steps(seen: np.ndarray) -> None:
    other = np.full(seen.shape, 7.0)
    images = exchanged(seen, other, RNG.permutation(SIDE * SIDE))
    gone = (images == 7).all(-1).mean((1, 2))
    assert gone == pytest.approx(np.arange(STEPS + 1) / STEPS)


def test_deletion_and_insertion_by_hand(seen: np.ndarray, right: np.ndarray) -> None:
    classifier = classifier_of(corner)
    # Removed at a quarter of the pixels: the logit falls from 6 by 12 * 4 k / 28.
    lost = deletion(classifier, seen, right, 0)
    logit = 6 - 12 * np.minimum(4 * np.arange(STEPS + 1) / STEPS, 1)
    assert lost == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-6)
    late = deletion(classifier, seen, -right, 0)
    assert area(lost) == pytest.approx(0.125, abs=0.01)
    assert area(late) == pytest.approx(0.875, abs=0.01)


def test_insertion_brings_back_what_blurring_took(right: np.ndarray) -> None:
    def texture(images: np.ndarray) -> np.ndarray:
        part = images[:, : SIDE // 2, : SIDE // 2].reshape(len(images), -1)
        return np.asarray(12 * part.std(1) / 50 - 6)

    chequered = np.full((SIDE, SIDE, 3), 100, np.uint8)
    chequered[(np.indices((SIDE, SIDE)).sum(0) % 2) == 0] = 200
    classifier = classifier_of(texture)
    early = insertion(classifier, chequered, right, 0)
    late = insertion(classifier, chequered, -right, 0)
    assert early[0] == late[0] < 0.05
    assert early[-1] == late[-1] == pytest.approx(1 / (1 + np.exp(-6)), abs=1e-6)
    assert early[STEPS // 4] == early[-1]
    assert late[STEPS // 2] < 0.05
    assert area(early) > area(late) + 0.5


def test_area_by_hand() -> None:
    # Trapezoids of 0.75 and 0.25, each half as wide as the axis.
    assert area(np.array([1.0, 0.5, 0.0])) == 0.5
    assert area(np.array([1.0, 0.0, 0.0, 0.0])) == pytest.approx(1 / 6)


def test_imputation_continues_a_slope_and_solves_its_own_equations() -> None:
    y, x = np.mgrid[:20, :20]
    slope = np.stack([5 * x, 5 * y, 100 + 2 * x + 3 * y], -1).astype(np.uint8)
    gone = np.zeros((20, 20), np.bool_)
    gone[5:12, 6:15] = True
    assert impute(slope, gone) == pytest.approx(slope.astype(float), abs=1e-6)
    noise = RNG.integers(0, 255, (20, 20, 3)).astype(np.uint8)
    gone = RNG.random((20, 20)) < 0.6
    filled = impute(noise, gone)
    assert (filled[~gone] == noise[~gone]).all()
    straight, diagonal = 1 / 6, 1 / 12
    for r, c in ((0, 0), (0, 7), (9, 9), (19, 3)):
        gone[r, c] = True
    filled = impute(noise, gone)
    for r, c in ((0, 0), (0, 7), (9, 9), (19, 3)):
        total = np.zeros(3)
        weights = 0.0
        for dr in (-1, 0, 1):
            for dc in (-1, 0, 1):
                if (dr or dc) and 0 <= r + dr < 20 and 0 <= c + dc < 20:
                    weight = diagonal if dr and dc else straight
                    total += weight * filled[r + dr, c + dc]
                    weights += weight
        assert filled[r, c] == pytest.approx(total / weights)


def test_road_loses_the_class_with_the_right_pixels_only(
    seen: np.ndarray, right: np.ndarray
) -> None:
    classifier = classifier_of(corner)
    assert road(classifier, seen, right, 0, seed=0).tolist()[1:] == [False] * 4
    assert road(classifier, seen, -right, 0, seed=0).tolist()[:4] == [True] * 4


def test_energy_inside_by_hand() -> None:
    heat = np.array([[3, 1], [-5, 0]], np.float32)
    assert energy_inside(heat, np.array([[True, False], [True, True]])) == 0.75


def test_rank_correlation() -> None:
    heat = RNG.random((6, 6)).astype(np.float32)
    assert rank_correlation(heat, np.exp(3 * heat)) == pytest.approx(1)
    assert rank_correlation(heat, -heat) == pytest.approx(-1)
    assert rank_correlation(heat, np.zeros_like(heat)) == 0


def test_the_paired_interval_covers_the_mean() -> None:
    differences = RNG.normal(0.5, 1, 400)
    low, high = paired_interval(differences.tolist())
    # 1.96 standard errors of 1 / 20.
    middle = differences.mean()
    assert (low, high) == pytest.approx((middle - 0.098, middle + 0.098), abs=0.015)
