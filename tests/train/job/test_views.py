from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from edgecell.train.job.views import (
    ViewConfig,
    Views,
    jpeg_like,
)

NO_CHANGE = ViewConfig(**{f.name: 0.0 for f in fields(ViewConfig)} | {"coarsest": 1.0})
"""The middle of the image as it is."""


def images(n: int = 6, side: int = 42) -> Any:
    rng = np.random.default_rng(2)
    coarse = rng.integers(30, 240, (n, 7, 7, 3))
    blocks = coarse.repeat(side // 7, 1).repeat(side // 7, 2)
    return torch.from_numpy(blocks.astype(np.uint8))


def views(config: ViewConfig, seed: int = 1, size: int = 32) -> Any:
    drawn = Views(config, size, torch.Generator().manual_seed(seed))
    return drawn(images())


def test_without_strength_a_view_is_the_middle_of_the_image() -> None:
    middle = images()[:, 5:37, 5:37].permute(0, 3, 1, 2).float()
    found = views(NO_CHANGE)
    assert found.shape == (6, 3, 32, 32)
    assert (found - middle).abs().max() < 0.02


def test_a_view_is_a_function_of_the_seed() -> None:
    assert torch.equal(views(ViewConfig()), views(ViewConfig()))
    assert not torch.equal(views(ViewConfig()), views(ViewConfig(), seed=2))


@pytest.mark.parametrize(
    "change",
    [
        {"mirror": 0.5},
        {"turn": 0.5},
        {"zoom": 0.3},
        {"shift": 0.1},
        {"mix": 0.1},
        {"stain": 0.2},
        {"strength": 0.2},
        {"density": 0.05},
        {"gamma": 0.1},
        {"uneven": 0.2},
        {"blur": 1.0, "blur_px": 1.5},
        {"coarse": 1.0, "coarsest": 0.1},
        {"jpeg": 1.0},
        {"noise": 0.05},
        {"borrow": 1.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_strength_changes_the_view_within_bounds(
    change: dict[str, float],
) -> None:
    found = views(replace(NO_CHANGE, **change), seed=2)
    assert found.dtype == torch.float32
    assert 0 <= found.min()
    assert found.max() <= 255
    assert (found - views(NO_CHANGE)).abs().max() > 2


def test_quarter_turns_and_mirrors_keep_every_pixel() -> None:
    turned = views(replace(NO_CHANGE, mirror=0.5), seed=3)
    plain = views(NO_CHANGE)
    for one, other in zip(turned, plain, strict=True):
        ways = [
            torch.rot90(way, k, (1, 2))
            for way in (other, other.flip(2))
            for k in range(4)
        ]
        assert min(float((one - way).abs().max()) for way in ways) < 0.1


def test_bare_glass_stays_bare_under_another_stain() -> None:
    drawn = Views(
        replace(NO_CHANGE, mix=0.3, stain=0.5, strength=0.5, borrow=1.0),
        8,
        torch.Generator().manual_seed(1),
    )
    cells = torch.full((4, 8, 8, 3), 255, dtype=torch.uint8)
    cells[:, 2:6, 2:6] = torch.tensor([120, 60, 150], dtype=torch.uint8)
    assert drawn(cells)[:, :, [0, 0, 7, 7], [0, 7, 0, 7]].min() > 254.9


def test_a_borrowed_stain_lies_between_the_cell_s_own_and_another_s() -> None:
    cells = torch.full((2, 8, 8, 3), 255, dtype=torch.uint8)
    cells[0, 2:6, 2:6] = torch.tensor([200, 40, 200], dtype=torch.uint8)
    cells[1, 2:6, 2:6] = torch.tensor([60, 120, 220], dtype=torch.uint8)
    stains = cells[:, 4, 4].float()
    low, high = stains.min(0).values, stains.max(0).values
    changed = 0
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        found = Views(replace(NO_CHANGE, borrow=1.0), 8, generator)(cells)[:, :, 4, 4]
        assert (found > low - 8).all()
        assert (found < high + 8).all()
        changed += int(((found - stains).abs().max(1).values > 10).sum())
    # Half of the draws name the cell itself as the other.
    assert 6 <= changed <= 18


def test_mild_views_stray_less() -> None:
    plain = views(NO_CHANGE)
    far = replace(ViewConfig(), turn=0.0, mirror=0.0, zoom=0.0, shift=0.0)
    strays = [
        float((views(replace(far, mild=share)) - plain).abs().mean())
        for share in (0.0, 0.5, 1.0)
    ]
    assert strays[2] < strays[1] < strays[0]
    assert strays[2] < 0.5 * strays[0]


def test_coarse_quantisation_loses_detail_and_keeps_the_mean() -> None:
    x = views(NO_CHANGE) / 255
    fine = jpeg_like(x, torch.full((6,), 1e-4))
    coarse = jpeg_like(x, torch.full((6,), 0.3))
    assert (fine - x).abs().max() < 2e-3
    assert (coarse - x).abs().max() > 0.05
    assert (coarse.mean((2, 3)) - x.mean((2, 3))).abs().max() < 0.08


def test_negative_strengths_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        ViewConfig(blur=-0.1)
    with pytest.raises(ValueError, match="coarsest"):
        ViewConfig(coarsest=0.0)
