"""What stain, lamp, lens and camera do to views, on the device that trains."""

import torch

from edgecell.train.job.views import jpeg_like, out_of_focus

_DARKEST = 8.0
"""Level below which optical density does not grow."""

_BLUR_PX = (0.4, 1.5)
_RADIUS = 3
"""Deviations of the blur, pixels, and how far it reaches."""

_COARSEST_JPEG = 2.5
"""Logarithm of the coarsest step of a JPEG."""


def developed(
    views: torch.Tensor, glass: float, generator: torch.Generator
) -> torch.Tensor:
    """Views under other stains, lamps, lenses and cameras.

    Args:
        views: uint8 (N, h, w, 3), relative to the glass.
        glass: level of the glass.
        generator: source of all draws, on the device of the views.

    Returns:
        float32 (N, 3, h, w), levels 0..255.
    """
    draw = _Draws(len(views), generator)
    x = views.permute(0, 3, 1, 2).float()
    density = -torch.log(x.clamp(min=_DARKEST) / glass)
    own = torch.eye(3, device=views.device)
    mixing = own + 0.09 * draw.normal(3, 3)
    mixing = mixing * torch.exp(0.18 * draw.normal(3, 1) + 0.25 * draw.normal(1, 1))
    flat = mixing @ density.flatten(2)
    x = torch.exp(-flat.clamp(min=-0.1)).view_as(x)
    # over-exposed: glass and pale cells are cut off
    brighter = 1 + draw.some(0.25) * 0.35 * draw.uniform(1, 1, 1)
    x = torch.where(brighter > 1, (x * brighter).clamp(max=1), x)
    # the glass is misjudged
    shift = 0.04 * draw.normal(3, 1, 1) + 0.05 * draw.normal(1, 1, 1)
    x = x * torch.exp(draw.some(0.5) * shift)
    x = x * (1 + draw.some(0.3) * _slopes(draw, *x.shape[2:]))
    x = _blurred(x, draw)
    x = _compressed(x, draw)
    noise = draw.some(0.3) * 0.03 * draw.uniform(1, 1, 1)
    x = x + noise * draw.normal(*x.shape[1:])
    return (x * glass).clamp(0, 255)


class _Draws:
    """Random numbers for each of n views."""

    def __init__(self, n: int, generator: torch.Generator) -> None:
        self.n, self.generator = n, generator
        self.device = generator.device

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(self.n, *shape, generator=self.generator, device=self.device)

    def uniform(self, *shape: int) -> torch.Tensor:
        return torch.rand(self.n, *shape, generator=self.generator, device=self.device)

    def some(self, share: float) -> torch.Tensor:
        """1 for a share of the views, 0 for the others; (N, 1, 1, 1)."""
        return (self.uniform(1, 1, 1) < share).float()


def _slopes(draw: _Draws, height: int, width: int) -> torch.Tensor:
    """Light that falls off to one side: (N, 1, h, w)."""
    slope = 0.1 * draw.normal(2, 1, 1, 1)
    across = torch.linspace(-1, 1, width, device=draw.device)
    down = torch.linspace(-1, 1, height, device=draw.device)
    return slope[:, 0] * across + slope[:, 1] * down[:, None]


def _blurred(x: torch.Tensor, draw: _Draws) -> torch.Tensor:
    """Puts some views out of focus, each by a deviation of its own."""
    chosen = torch.nonzero(draw.some(0.3).flatten())[:, 0]
    low, high = _BLUR_PX
    sigma = low + (high - low) * draw.uniform(1)[chosen]
    if not len(chosen):
        return x
    return x.index_copy(0, chosen, out_of_focus(x[chosen], sigma, _RADIUS))


def _compressed(x: torch.Tensor, draw: _Draws) -> torch.Tensor:
    """Compresses some views as JPEG does."""
    chosen = torch.nonzero(draw.some(0.2).flatten())[:, 0]
    step = torch.exp(_COARSEST_JPEG * draw.uniform()[chosen]) / 255
    if not len(chosen):
        return x
    return x.index_copy(0, chosen, jpeg_like(x[chosen].clamp(0, 1), step))
