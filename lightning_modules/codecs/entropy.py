"""Quantisation and likelihoods: Gaussian with predicted mean and scale for y, a learned factorised prior for z."""

from typing import cast

import torch
from compressai.entropy_models import EntropyBottleneck
from compressai.ops import LowerBound
from torch import Tensor, nn

SCALE_BOUND = 0.11
"""Smallest standard deviation of a latent (Ballé et al. 2018, as in CompressAI)."""
LIKELIHOOD_BOUND = 1e-9
"""Smallest likelihood of a symbol: 29.9 bits at most."""


def ste_round(x: Tensor) -> Tensor:
    """Round to the nearest integer with the gradient of the identity."""
    return x + (torch.round(x) - x).detach()


def uniform_noise(shapes: list[torch.Size], keys: Tensor | None, device: torch.device) -> list[Tensor]:
    """Noise in [-0.5, 0.5), float32, one tensor per shape (B, ...).

    With `keys` (int64 (B,)) the noise of sample i is a function of keys[i] alone: a training step then gives the
    same result however the batch is spread over processes, and after a resume. Without, torch's global generator.
    """
    if keys is None:
        return [torch.rand(shape, device=device) - 0.5 for shape in shapes]
    noise = [torch.empty(shape, device=device) for shape in shapes]
    generator = torch.Generator(device)
    for i, key in enumerate(keys.tolist()):
        generator.manual_seed(key)
        for tensor in noise:
            tensor[i].uniform_(-0.5, 0.5, generator=generator)
    return noise


class GaussianLikelihood(nn.Module):
    """P(y) under N(mean, scale) convolved with a unit box: the mass of the quantisation bin of y."""

    def __init__(self) -> None:
        super().__init__()
        self.scale_bound = LowerBound(SCALE_BOUND)
        self.likelihood_bound = LowerBound(LIKELIHOOD_BOUND)

    def forward(self, y: Tensor, scales: Tensor, means: Tensor) -> Tensor:
        """Likelihood in (0, 1]; all tensors share one shape. Gradients pass the bounds as in CompressAI."""
        inverse = 0.5**0.5 / self.scale_bound(scales)
        distance = (y - means).abs()
        mass = 0.5 * (torch.erfc((distance - 0.5) * inverse) - torch.erfc((distance + 0.5) * inverse))
        return cast(Tensor, self.likelihood_bound(mass))


class FactorizedPrior(EntropyBottleneck):
    """CompressAI's entropy bottleneck, minus what costs time or needs the user's care.

    The noise comes from outside, there is no permutation built on the device in every call, and no CDF state: tables
    are made when coding, from the weights as they are (`cdf_tables.py`).
    """

    def medians(self) -> Tensor:
        """Medians of the channels, (1, C, 1, 1), without gradient: only the auxiliary loss moves them."""
        return self.quantiles[:, 0, 1].detach().view(1, -1, 1, 1)

    def likelihood(self, z: Tensor) -> Tensor:
        """Likelihood of (B, C, h, w), same shape, bounded below by 1e-9."""
        values = z.transpose(0, 1)
        likelihood, _, _ = self._likelihood(values.reshape(values.shape[0], 1, -1))
        return cast(Tensor, self.likelihood_lower_bound(likelihood).view(values.shape).transpose(0, 1))

    def auxiliary_loss(self) -> Tensor:
        """Distance of the quantiles from the tail masses they stand for; its gradient reaches only them."""
        return cast(Tensor, self.loss())
