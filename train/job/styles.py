"""Mixes the styles of feature maps, so that a network relies on no microscope's."""

import torch
from torch import nn

from edgecell.train.job.networks.network import GRsNet

_LEAST_VARIANCE = 1e-5


class StyleMix:
    """A forward hook that lends images the feature statistics of others.

    MixStyle (Zhou et al., Domain Generalization with MixStyle, ICLR 2021): mean and
    standard deviation of each channel over an early feature map hold stain, lamp and
    camera rather than the cell. Those of some images are mixed with those of another
    image of the batch, which may come from another microscope. How much is drawn from
    the arcsine distribution, Beta(1/2, 1/2): mostly near none or all.
    """

    def __init__(self, share: float, generator: torch.Generator) -> None:
        """
        Args:
            share: of the images whose statistics are mixed, 0..1.
            generator: source of all draws, on the device of the maps.
        """
        self.share, self.generator = share, generator

    def __call__(
        self, module: nn.Module, _: tuple[torch.Tensor, ...], maps: torch.Tensor
    ) -> torch.Tensor:
        """The maps, (N, C, H, W), in their own type; unchanged outside training."""
        if not module.training:
            return maps
        n, device = len(maps), maps.device
        draws = torch.rand(2, n, 1, 1, 1, generator=self.generator, device=device)
        own = torch.sin(torch.pi / 2 * draws[0]) ** 2
        own = torch.where(draws[1] < self.share, own, 1.0)
        lender = torch.randperm(n, generator=self.generator, device=device)
        x = maps.float()
        with torch.no_grad():
            variance, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
            spread = (variance + _LEAST_VARIANCE).sqrt()
            other_mean, other_spread = mean[lender], spread[lender]
            gain = (own * spread + (1 - own) * other_spread) / spread
            shift = own * mean + (1 - own) * other_mean - gain * mean
        return (gain * x + shift).to(maps.dtype)


def mix_styles(network: GRsNet, share: float, generator: torch.Generator) -> None:
    """Makes a network mix styles after its stem and its first stage, in training.

    Args:
        network: to train.
        share: see `StyleMix`.
        generator: likewise.
    """
    mix = StyleMix(share, generator)
    network.stem.register_forward_hook(mix)
    network.blocks[network.spec.stages[0].blocks - 1].register_forward_hook(mix)
