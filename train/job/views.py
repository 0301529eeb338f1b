"""Random views of a batch of cells, made on the device that trains.

Geometry first, then the stain (as optical density), the lamp, the lens and the camera:
the order in which a microscope changes a picture. All strengths at 0 give the middle of
the packed image unchanged.
"""

from dataclasses import dataclass, fields

import torch
from torch.nn import functional

DARKEST = 1.0 / 255
"""Transmission that optical density is bounded by."""


@dataclass(frozen=True)
class ViewConfig:
    """How far a view may stray from the image.

    Attributes:
        turn: share of the views that are turned by any angle; the others are turned
            by quarter turns, which need no interpolation.
        mirror: share that is mirrored.
        zoom: the logarithm of the scale is drawn from [-zoom, zoom].
        shift: largest shift either way, as a share of the view's side.
        mix: standard deviation of each entry that is added to the identity in the
            3x3 matrix that mixes the channels' optical densities: another stain.
        stain: deviation of the logarithm of each channel's density gain.
        strength: deviation of the logarithm of a density gain common to all channels.
        density: deviation of a density added to each channel: the lamp's colour and
            what the white balance leaves of it.
        gamma: deviation of the logarithm of the camera's gamma.
        uneven: largest density that is added at the edge of the view by uneven light.
        blur: share out of focus.
        blur_px: largest deviation of the blur, pixels of the view.
        coarse: share taken at a lower resolution.
        coarsest: lowest resolution as a share of the view's, in (0, 1].
        jpeg: share compressed as a JPEG would.
        noise: largest standard deviation of noise, share of full scale.
        borrow: share of the views that take on, in part, the stain of another cell of
            the batch, which may come from another microscope: a class is then less
            easily told by the colour of the microscope that it came from.
        mild: share of the views that stray a quarter as far in zoom and stain, and are
            neither blurred, coarse, compressed nor noisy: the known microscopes as they
            are.
    """

    turn: float = 0.5
    mirror: float = 0.5
    zoom: float = 0.34
    shift: float = 0.10
    mix: float = 0.10
    stain: float = 0.18
    strength: float = 0.25
    density: float = 0.03
    gamma: float = 0.10
    uneven: float = 0.12
    blur: float = 0.30
    blur_px: float = 1.6
    coarse: float = 0.20
    coarsest: float = 0.45
    jpeg: float = 0.25
    noise: float = 0.03
    borrow: float = 0.25
    mild: float = 0.4

    def __post_init__(self) -> None:
        if min(getattr(self, f.name) for f in fields(self)) < 0:
            raise ValueError("strengths must not be negative")
        if not 0 < self.coarsest <= 1:
            raise ValueError("coarsest must be in (0, 1]")


FAR = ViewConfig(
    mix=0.30, stain=0.35, strength=0.35, density=0.06, gamma=0.20, mild=0.3
)
"""Views for microscopes that are not among the sources."""

_MILD = 0.25
"""How far a mild view strays, as a share of the others."""

_LEAST_DENSITY = 0.01
"""Density added in every direction, so that stains of blank images can be compared."""


class Views:
    """Draws views; all draws come from one generator, so that a run can be resumed."""

    def __init__(
        self, config: ViewConfig, size: int, generator: torch.Generator
    ) -> None:
        """
        Args:
            config: strengths.
            size: side of the views, pixels.
            generator: source of all draws, on the device of the images.
        """
        self.config, self.size, self.generator = config, size, generator
        self.device = generator.device

    def __call__(self, images: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        """One view of each image.

        Args:
            images: uint8 (N, M, M, 3), the crop with a margin around it.
            scale: image pixels a view pixel at zoom 1.

        Returns:
            float32 (N, 3, S, S) in 0..255, channels_last in memory.
        """
        n = len(images)
        mild = self._uniform(n, low=0.0) < self.config.mild
        x = images.permute(0, 3, 1, 2).float() / 255
        x = self._turned(x, scale, mild)
        x = torch.exp(-self._stained(-torch.log(x.clamp(min=DARKEST)), mild))
        x = self._blurred(x, mild)
        x = self._coarse(x, mild)
        x = self._developed(x, mild)
        x = self._compressed(x, mild)
        return (x.clamp(0, 1) * 255).contiguous(memory_format=torch.channels_last)

    def _uniform(
        self, *shape: int, low: float = -1.0, high: float = 1.0
    ) -> torch.Tensor:
        u = torch.rand(*shape, generator=self.generator, device=self.device)
        return low + (high - low) * u

    def _normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator, device=self.device)

    def _some(self, share: float, mild: torch.Tensor) -> torch.Tensor:
        """Indices of a random share of the images that are not mild."""
        drawn = self._uniform(len(mild), low=0.0) < share
        return torch.nonzero(drawn & ~mild)[:, 0]

    def _turned(
        self, x: torch.Tensor, scale: float, mild: torch.Tensor
    ) -> torch.Tensor:
        """Turns, mirrors, zooms and shifts; mirrored beyond the border."""
        cfg, n, side = self.config, len(x), x.shape[-1]
        any_angle = self._uniform(n) * torch.pi
        quarter = torch.round(any_angle / (torch.pi / 2)) * (torch.pi / 2)
        free = self._uniform(n, low=0.0) < cfg.turn
        angle = torch.where(free, any_angle, quarter)
        if not cfg.turn and not cfg.mirror:
            angle = torch.zeros_like(angle)
        mirror = torch.where(self._uniform(n, low=0.0) < cfg.mirror, -1.0, 1.0)
        zoom = scale * torch.exp(cfg.zoom * _reach(mild) * self._uniform(n))
        reach = self.size / side * zoom
        a, b = reach * torch.cos(angle), reach * torch.sin(angle)
        shift = 2 * cfg.shift * self.size * scale / side * self._uniform(n, 2)
        rows = torch.stack(
            [
                torch.stack([a * mirror, -b, shift[:, 0]], 1),
                torch.stack([b * mirror, a, shift[:, 1]], 1),
            ],
            1,
        )
        grid = functional.affine_grid(
            rows, [n, 3, self.size, self.size], align_corners=False
        )
        return functional.grid_sample(
            x, grid, "bilinear", padding_mode="reflection", align_corners=False
        )

    def _stained(self, density: torch.Tensor, mild: torch.Tensor) -> torch.Tensor:
        """Changes optical densities (natural log): stain, lamp and uneven light."""
        cfg, n = self.config, len(density)
        reach = _reach(mild).view(n, 1, 1)
        own = torch.eye(3, device=self.device)
        mixing = own + cfg.mix * reach * self._normal(n, 3, 3)
        gain = torch.exp(
            cfg.stain * reach * self._normal(n, 3, 1)
            + cfg.strength * reach * self._normal(n, 1, 1)
        )
        mixing = mixing * gain
        flat = density.flatten(2)
        if cfg.borrow:
            mixing = mixing @ self._borrowed(flat, mild)
        flat = mixing @ flat + cfg.density * reach * self._normal(n, 3, 1)
        density = flat.view_as(density)
        if cfg.uneven:
            density = density + reach[..., None] * self._light(n)
        return density

    def _borrowed(self, density: torch.Tensor, mild: torch.Tensor) -> torch.Tensor:
        """Maps that give some images, in part, the stain of another one.

        Each is the optimal transport between the second moments of the densities of
        both. It has no offset, so bare glass stays bare.

        Args:
            density: float32 (N, 3, pixels).
            mild: bool (N,), images that keep their own stain.

        Returns:
            float32 (N, 3, 3).
        """
        n = len(density)
        own = torch.eye(3, device=self.device)
        moments = density @ density.transpose(1, 2) / density.shape[2]
        moments = moments + _LEAST_DENSITY**2 * own
        donors = torch.randperm(n, generator=self.generator, device=self.device)
        root = _power(moments, 0.5)
        back = _power(moments, -0.5)
        there = back @ _power(root @ moments[donors] @ root, 0.5) @ back
        takes = (self._uniform(n, low=0.0) < self.config.borrow) & ~mild
        amount = (takes * self._uniform(n, low=0.0)).view(n, 1, 1)
        return (1 - amount) * own + amount * there

    def _light(self, n: int) -> torch.Tensor:
        """Density of uneven light: a slope across the view and a dark rim."""
        axis = torch.linspace(-1, 1, self.size, device=self.device)
        slope = self._uniform(n, 2, 1, 1)
        across = slope[:, 0] * axis[None, None, :] + slope[:, 1] * axis[None, :, None]
        rim = self._uniform(n, 1, 1, low=0.0) * (
            axis[None, :] ** 2 + axis[:, None] ** 2
        )
        field = self.config.uneven / 2 * (0.5 * across + 0.5 * rim)
        return field[:, None]

    def _blurred(self, x: torch.Tensor, mild: torch.Tensor) -> torch.Tensor:
        """Puts some images out of focus, each by a deviation of its own."""
        chosen = self._some(self.config.blur, mild)
        if not len(chosen) or not self.config.blur_px:
            return x
        sigma = self._uniform(len(chosen), 1, low=0.3) * self.config.blur_px
        radius = max(1, round(2 * self.config.blur_px))
        return x.index_copy(0, chosen, out_of_focus(x[chosen], sigma, radius))

    def _coarse(self, x: torch.Tensor, mild: torch.Tensor) -> torch.Tensor:
        """Takes some images at a lower resolution, the same for all of a batch."""
        chosen = self._some(self.config.coarse, mild)
        share = float(self._uniform(1, low=self.config.coarsest))
        small = round(self.size * share)
        if not len(chosen) or small >= self.size:
            return x
        part = functional.interpolate(
            x[chosen], (small, small), mode="bilinear", antialias=True
        )
        part = functional.interpolate(part, (self.size, self.size), mode="bilinear")
        return x.index_copy(0, chosen, part)

    def _developed(self, x: torch.Tensor, mild: torch.Tensor) -> torch.Tensor:
        """The camera's gamma and noise."""
        cfg, n = self.config, len(x)
        if cfg.gamma:
            reach = _reach(mild).view(n, 1, 1, 1)
            gamma = torch.exp(cfg.gamma * reach * self._normal(n, 1, 1, 1))
            x = x.clamp(min=DARKEST / 4).pow(gamma)
        if cfg.noise:
            level = cfg.noise * self._uniform(n, 1, 1, 1, low=0.0) ** 2
            level = level * ~mild.view(n, 1, 1, 1)
            x = x + level * self._normal(*x.shape)
        return x

    def _compressed(self, x: torch.Tensor, mild: torch.Tensor) -> torch.Tensor:
        """Compresses some images as JPEG does: 8x8 cosines, coarsely quantised."""
        chosen = self._some(self.config.jpeg, mild)
        if not len(chosen):
            return x
        step = torch.exp(self._uniform(len(chosen), low=0.0, high=3.0)) / 255
        part = jpeg_like(x[chosen].clamp(0, 1), step)
        return x.index_copy(0, chosen, part)


def _reach(mild: torch.Tensor) -> torch.Tensor:
    """How far each view strays: float32 (N,), 1 or less for mild ones."""
    return torch.where(mild, _MILD, 1.0)


def _power(symmetric: torch.Tensor, exponent: float) -> torch.Tensor:
    """Powers of positive definite matrices: float32 (N, 3, 3)."""
    values, vectors = torch.linalg.eigh(symmetric)
    powers = values.clamp(min=_LEAST_DENSITY**4) ** exponent
    return (vectors * powers[:, None, :]) @ vectors.transpose(1, 2)


def out_of_focus(x: torch.Tensor, sigma: torch.Tensor, radius: int) -> torch.Tensor:
    """Blurs each image by a Gaussian of its own, mirrored at the border.

    Args:
        x: float32 (N, C, H, W).
        sigma: float32 (N, 1), deviations, pixels.
        radius: pixels that the blur reaches.

    Returns:
        float32 (N, C, H, W).
    """
    place = torch.arange(-radius, radius + 1, device=x.device)
    kernel = torch.exp(-(place**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum(1, keepdim=True)
    kernel = kernel.repeat_interleave(x.shape[1], 0)
    part = x.reshape(1, -1, *x.shape[2:])
    part = functional.pad(part, (radius,) * 4, mode="reflect")
    part = functional.conv2d(part, kernel[:, None, None], groups=len(kernel))
    part = functional.conv2d(part, kernel[:, None, :, None], groups=len(kernel))
    return part.view_as(x)


def _cosines(device: torch.device) -> torch.Tensor:
    """The orthonormal 8-point cosine transform: float32 (8, 8), rows frequencies."""
    k = torch.arange(8, device=device, dtype=torch.float32)
    table = torch.cos(torch.pi / 8 * (k[None, :] + 0.5) * k[:, None]) / 2
    table[0] /= 2**0.5
    return table


def jpeg_like(x: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
    """Quantises the 8x8 cosine coefficients of luminance and colour.

    Args:
        x: float32 (N, 3, S, S) in 0..1, RGB.
        step: float32 (N,), the step at frequency 0 of luminance; steps grow fourfold
            to the highest frequency and are twice as large for colour.

    Returns:
        float32 (N, 3, S, S); may leave 0..1 slightly.
    """
    n, _, side, _ = x.shape
    to_ycc = torch.tensor(
        [[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]],
        device=x.device,
    )
    pad = -side % 8
    ycc = torch.einsum("ij,njhw->nihw", to_ycc, x)
    ycc = functional.pad(ycc, (0, pad, 0, pad), mode="replicate")
    blocks = ycc.unfold(2, 8, 8).unfold(3, 8, 8)
    cosines = _cosines(x.device)
    waves = cosines @ blocks @ cosines.T
    k = torch.arange(8, device=x.device)
    growth = 1 + 3 * (k[None, :] + k[:, None]) / 14
    by_channel = torch.tensor([1.0, 2.0, 2.0], device=x.device)
    steps = step.view(n, 1, 1, 1, 1, 1) * by_channel.view(1, 3, 1, 1, 1, 1) * growth
    waves = torch.round(waves / steps) * steps
    blocks = cosines.T @ waves @ cosines
    ycc = blocks.permute(0, 1, 2, 4, 3, 5).reshape(n, 3, side + pad, side + pad)
    rgb = torch.einsum("ij,njhw->nihw", torch.linalg.inv(to_ycc), ycc)
    return rgb[..., :side, :side]
