from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from edgecell.data.pack import Pack
from edgecell.errors import InputError
from edgecell.train.job.config import JobConfig
from edgecell.train.job.networks.network import GRsNet
from edgecell.train.job.styles import StyleMix
from tests.train.job.runs import config, half_way, job, same


def mixed(maps: Any, share: float, training: bool = True) -> Any:
    module = torch.nn.Identity().train(training)
    module.register_forward_hook(
        StyleMix(share, torch.Generator().manual_seed(4)),
    )
    return module(maps)


def test_statistics_are_mixed_and_nothing_else() -> None:
    torch.manual_seed(0)
    scales = torch.tensor([1.0, 10.0]).view(2, 1, 1, 1)
    x = scales * torch.randn(2, 3, 8, 8, dtype=torch.float64) + 5 * scales
    y = mixed(x.float(), 1.0).double()
    for before, after in zip(x, y, strict=True):
        for a, b in zip(before.flatten(1), after.flatten(1), strict=True):
            pattern = [(v - v.mean()) / v.std() for v in (a, b)]
            assert torch.allclose(*pattern, atol=1e-4)
    means = x.mean((2, 3))
    shares = (y.mean((2, 3)) - means) / (means.flip(0) - means)
    assert torch.allclose(shares, shares[:, :1].expand(2, 3), atol=1e-4)
    assert ((shares >= -1e-6) & (shares <= 1 + 1e-6)).all()
    spreads = x.std((2, 3))
    expected = spreads + shares * (spreads.flip(0) - spreads)
    assert torch.allclose(y.std((2, 3)), expected, rtol=1e-3)


def test_the_share_of_images_is_mixed_and_none_outside_training() -> None:
    torch.manual_seed(1)
    x = torch.randn(2000, 2, 4, 4) + torch.randn(2000, 2, 1, 1)
    changed = ((mixed(x, 0.5) - x).abs() > 1e-5).flatten(1).any(1)
    assert 0.45 < changed.float().mean() < 0.55
    assert torch.equal(mixed(x, 1.0, training=False), x)
    assert mixed(x.bfloat16(), 0.5).dtype == torch.bfloat16


def test_shares_are_of_the_arcsine_distribution() -> None:
    pattern = torch.tensor([[-1.0, 1.0], [1.0, -1.0]]).expand(10_000, 1, 2, 2)
    places = (torch.arange(10_000) % 2).view(-1, 1, 1, 1)
    moved = (mixed(pattern + places, 1.0) - pattern - places).mean((1, 2, 3)).abs()
    # Half of the lenders are at the same place. P(share > 0.9) = 1 - 2 asin(0.9 ** 0.5)
    # / pi = 0.205, and P(share > 0.5) = 0.5.
    assert abs((moved > 0.9).float().mean() - 0.1024) < 0.015
    assert abs((moved > 0.5).float().mean() - 0.25) < 0.02


def test_a_run_mixes_styles_and_resumes_to_the_same(
    pack: Pack, tiny_preset: str, tmp_path: Path
) -> None:
    settings = replace(config(tiny_preset), style=0.5)
    whole, second = half_way(pack, settings, tmp_path)
    assert same(whole.network, second.network)
    plain = job(pack, config(tiny_preset))
    for _ in range(6):
        plain.train_step()
    assert not same(whole.network, plain.network)
    assert isinstance(whole.network, GRsNet)
    with pytest.raises(InputError, match="mixes no styles"):
        job(pack, replace(settings, model="mobilenet-v2"))


def test_only_a_share_is_taken() -> None:
    with pytest.raises(ValueError, match="style must be"):
        JobConfig(style=1.5)
