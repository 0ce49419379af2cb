"""CMMD: maximum mean discrepancy between CLIP embeddings."""

import math

import torch
from torch import Tensor

from callbacks.metrics.frechet import check_features

SIGMA = 10.0
SCALE = 1000.0

_TILE = 2048
"""Side of the tiles of the kernel matrix; one takes 34 MB in float64."""


def cmmd(real: Tensor, fake: Tensor, sigma: float = SIGMA, scale: float = SCALE) -> float:
    """Scaled squared MMD with a Gaussian kernel (Jayasumana et al., "Rethinking FID", CVPR 2024).

    The estimator is the original code's, the biased one of Gretton et al. (2012, equation 5): the means of
    k(x, x') and k(y, y'), diagonals included, less twice the mean of k(x, y), with
    k(a, b) = exp(-|a - b|² / (2 σ²)).

    All kernel values of unit vectors lie above exp(-2 / σ²) = 0.98, and differences of their means are what
    matters. So k - 1 is summed, the ones cancelling exactly, on centred vectors, in float64, tile by tile:
    memory does not grow with the number of pairs.

    Args:
        real: float (N, D).
        fake: float (M, D).
        sigma: width of the kernel.
        scale: factor that makes the distance readable.

    Returns:
        At least 0.

    Raises:
        ValueError: no sample, different widths, or values that are not finite.

    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> cmmd(x, x)
    0.0
    """
    check_features(real, fake, least=1)
    centre = real.double().mean(dim=0)
    gamma = 1 / (2 * sigma**2)
    within = _mean_kernel(real, real, centre, gamma) + _mean_kernel(fake, fake, centre, gamma)
    return max(scale * (within - 2 * _mean_kernel(real, fake, centre, gamma)), 0.0)


def _mean_kernel(x: Tensor, y: Tensor, centre: Tensor, gamma: float) -> float:
    """Mean of k - 1 over all pairs. Where `x` is `y`, tiles below the diagonal equal those above it."""
    sums = []
    for i, rows in enumerate(x.split(_TILE)):
        a = rows.double() - centre
        for j, columns in enumerate(y.split(_TILE)):
            if x is y and j < i:
                continue
            b = columns.double() - centre
            distance = torch.addmm(a.square().sum(dim=1, keepdim=True), a, b.T, alpha=-2).add_(b.square().sum(dim=1))
            weight = 2 if x is y and j > i else 1
            sums.append(weight * distance.clamp_(min=0).mul_(-gamma).expm1_().sum().item())
    return math.fsum(sums) / (len(x) * len(y))
