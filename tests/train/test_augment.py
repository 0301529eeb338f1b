from dataclasses import replace

import numpy as np

from edgecell.train.augment import AugmentConfig, augment

STILL = AugmentConfig(
    zoom=0, shift=0, density=0, gain=0, offset=0, saturation=0, blur=0
)
RNG = np.random.default_rng(0)


def views(
    images: np.ndarray, size: int, scale: float, cfg: AugmentConfig, seed: int
) -> np.ndarray:
    return augment(images, size, scale, (1, seed), cfg)


def test_without_strengths_some_views_are_exact_quarter_turns() -> None:
    image = RNG.integers(0, 255, (24, 24, 3), np.uint8)
    out = views(np.repeat(image[None], 64, 0), 16, 1.0, STILL, 3)
    middle = image[4:20, 4:20].astype(np.int16)
    turned = [np.rot90(m, k) for m in (middle, middle[:, ::-1]) for k in range(4)]
    exact = [any(np.allclose(v, t, atol=1) for t in turned) for v in out]
    # Half of 64 views, give or take four standard deviations.
    assert 16 <= sum(exact) <= 48
    kinds = {next(i for i, t in enumerate(turned) if np.allclose(v, t, atol=1))
             for v, e in zip(out, exact, strict=True) if e}  # fmt: skip
    assert kinds == set(range(8))


def test_smaller_views_show_the_same_field() -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    image[10:30, 10:30] = 200
    full = views(image[None], 32, 1.0, STILL, 5)
    half = views(image[None], 16, 2.0, STILL, 5)
    assert abs((full > 100).mean() - (half > 100).mean()) < 0.05


def test_same_seed_same_views() -> None:
    images = RNG.integers(0, 255, (8, 24, 24, 3), np.uint8)
    cfg = AugmentConfig()
    a, b, c = (views(images, 16, 1.0, cfg, s) for s in (1, 1, 2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
    assert a.shape == (8, 16, 16, 3)
    assert a.dtype == np.uint8


def test_gain_changes_each_channel_on_its_own() -> None:
    images = np.full((64, 24, 24, 3), 100, np.uint8)
    out = views(images, 16, 1.0, replace(STILL, gain=0.2), 1)
    gains = out[:, 8, 8] / 100
    assert gains.min() >= 0.8
    assert gains.max() <= 1.2
    assert gains.std(0).min() > 0.05
    assert abs(np.corrcoef(gains[:, 0], gains[:, 1])[0, 1]) < 0.5


def test_density_changes_cells_and_leaves_the_background() -> None:
    images = np.full((64, 24, 24, 3), 255, np.uint8)
    images[:, 8:16, 8:16] = 100
    out = views(images, 16, 1.0, replace(STILL, density=0.5), 1)
    assert (out[:, 0, 0] == 255).all()
    # Transmission 100/255 to the power of 1/2.25 to 2.25: both scales are 1.5.
    cell = out[:, 8, 8] / 255
    assert cell.min() >= (100 / 255) ** 2.25 - 0.002
    assert cell.max() <= (100 / 255) ** (1 / 2.25) + 0.002
    assert cell.std(0).min() > 0.05


def test_blur_takes_detail_away_from_its_share_of_images() -> None:
    image = RNG.integers(0, 255, (24, 24, 3), np.uint8)
    images = np.repeat(image[None], 200, 0)
    sharp = views(images, 16, 1.0, STILL, 1).std((1, 2, 3))
    out = views(images, 16, 1.0, replace(STILL, blur=0.5), 1).std((1, 2, 3))
    blurred = out < 0.7 * sharp
    assert 70 <= blurred.sum() <= 130
    assert np.array_equal(out[~blurred], sharp[~blurred])


def test_a_small_rotation_stays_small() -> None:
    image = np.zeros((81, 81, 3), np.uint8)
    image[40, 41:] = 255  # a hand of a clock at three
    cfg = replace(STILL, rotation=0.02, flip=0.0)
    out = views(np.repeat(image[None], 100, 0), 81, 1.0, cfg, 1)
    rows = out[:, :, 75, 0].argmax(1) - 40
    # At 35 pixels from the axis: 35 tan(7.2 degrees) = 4.4, drawn uniformly.
    assert np.abs(rows).max() in (4, 5)
    assert rows.min() < -2
    assert rows.max() > 2


def test_flips_are_as_frequent_as_asked() -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    image[:, :8] = 255
    cfg = replace(STILL, rotation=0.0, flip=0.25)
    out = views(np.repeat(image[None], 400, 0), 16, 1.0, cfg, 1)
    flipped = out[:, 8, 0, 0] == 0
    assert 65 <= flipped.sum() <= 135  # 100, give or take four standard deviations
    assert (out[flipped] == image[:, ::-1]).all()
    assert (out[~flipped] == image).all()


def test_saturation_zero_colours_and_grey_stay() -> None:
    images = np.full((50, 24, 24, 3), 128, np.uint8)
    images[:, :, 12:] = (200, 100, 60)
    out = views(images, 16, 1.0, replace(STILL, rotation=0, flip=0, saturation=0.5), 2)
    assert (out[:, :, :7] == 128).all()
    spread = np.ptp(out[:, 8, 12].astype(int), 1) / 140
    assert spread.min() >= 0.48
    assert spread.max() <= 1.52
    assert spread.std() > 0.1
