from dataclasses import replace

import numpy as np

from edgecell.train.augment import AugmentConfig, augment

STILL = AugmentConfig(0, 0, 0, 0, 0, 0, 0)
RNG = np.random.default_rng(0)


def views(images: np.ndarray, size: int, scale: float, cfg: AugmentConfig, seed: int):  # type: ignore[no-untyped-def]
    import tensorflow as tf

    return augment(tf.constant(images), size, scale, tf.constant([1, seed]), cfg)


def test_without_strengths_some_views_are_exact_quarter_turns() -> None:
    image = RNG.integers(0, 255, (24, 24, 3), np.uint8)
    out = views(np.repeat(image[None], 64, 0), 16, 1.0, STILL, 3).numpy()
    middle = image[4:20, 4:20].astype(np.float32)
    turned = [np.rot90(m, k) for m in (middle, middle[:, ::-1]) for k in range(4)]
    exact = [any(np.allclose(v, t, atol=0.05) for t in turned) for v in out]
    # Half of 64 views, give or take four standard deviations.
    assert 16 <= sum(exact) <= 48
    kinds = {next(i for i, t in enumerate(turned) if np.allclose(v, t, atol=0.05))
             for v, e in zip(out, exact, strict=True) if e}  # fmt: skip
    assert kinds == set(range(8))


def test_smaller_views_show_the_same_field() -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    image[10:30, 10:30] = 200
    full = views(image[None], 32, 1.0, STILL, 5).numpy()
    half = views(image[None], 16, 2.0, STILL, 5).numpy()
    assert abs((full > 100).mean() - (half > 100).mean()) < 0.05


def test_same_seed_same_views_and_values_in_range() -> None:
    images = RNG.integers(0, 255, (8, 24, 24, 3), np.uint8)
    cfg = AugmentConfig()
    a, b, c = (views(images, 16, 1.0, cfg, s).numpy() for s in (1, 1, 2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
    assert a.min() >= 0
    assert a.max() <= 255
    assert a.shape == (8, 16, 16, 3)


def test_gain_changes_each_channel_on_its_own() -> None:
    images = np.full((64, 24, 24, 3), 100, np.uint8)
    out = views(images, 16, 1.0, replace(STILL, gain=0.2), 1).numpy()
    gains = out[:, 8, 8] / 100
    assert gains.min() >= 0.8 - 1e-6
    assert gains.max() <= 1.2 + 1e-6
    assert gains.std(0).min() > 0.05
    assert abs(np.corrcoef(gains[:, 0], gains[:, 1])[0, 1]) < 0.5


def test_density_changes_cells_and_leaves_the_background() -> None:
    images = np.full((64, 24, 24, 3), 255, np.uint8)
    images[:, 8:16, 8:16] = 100
    out = views(images, 16, 1.0, replace(STILL, density=0.5), 1).numpy()
    np.testing.assert_allclose(out[:, 0, 0], 255, atol=1e-3)
    # Transmission 100/255 to the power of 1/2.25 to 2.25: both scales are 1.5.
    cell = out[:, 8, 8] / 255
    assert cell.min() >= (100 / 255) ** 2.25 - 1e-4
    assert cell.max() <= (100 / 255) ** (1 / 2.25) + 1e-4
    assert cell.std(0).min() > 0.05


def test_blur_takes_detail_away_from_its_share_of_images() -> None:
    image = RNG.integers(0, 255, (24, 24, 3), np.uint8)
    images = np.repeat(image[None], 200, 0)
    sharp = views(images, 16, 1.0, STILL, 1).numpy().std((1, 2, 3))
    out = views(images, 16, 1.0, replace(STILL, blur=0.5), 1).numpy().std((1, 2, 3))
    blurred = out < 0.7 * sharp
    assert 70 <= blurred.sum() <= 130
    assert np.array_equal(out[~blurred], sharp[~blurred])
