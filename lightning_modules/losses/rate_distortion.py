"""Rate and distortion."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F


def bits(likelihoods: Tensor) -> Tensor:
    """Information of each sample, -log2 likelihood summed over all but the batch, (B,)."""
    return -torch.log2(likelihoods).flatten(1).sum(1)


def bits_per_pixel(likelihoods: Mapping[str, Tensor], pixels: int) -> dict[str, Tensor]:
    """Rate of each latent, averaged over the batch.

    Args:
        likelihoods: Likelihoods by latent name, each with the batch first.
        pixels: H·W of the image before padding.
    """
    return {name: bits(values).mean() / pixels for name, values in likelihoods.items()}


def squared_error_255(x: Tensor, x_hat: Tensor) -> Tensor:
    """Mean squared error in units of 8-bit levels: 255²·MSE for pictures in [0, 1].

    The factor is in the authors' code but not in TACO's eq. 6; with it λ = 4e-4 weighs the MSE on [0, 1] by 26.
    """
    return 255.0**2 * F.mse_loss(x_hat, x)
