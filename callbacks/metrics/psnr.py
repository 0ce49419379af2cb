"""Peak signal-to-noise ratio."""

import torch
from torch import Tensor

from callbacks.metrics.mse import mse


def psnr(image: Tensor, x_hat: Tensor) -> Tensor:
    """PSNR per image over all pixels and channels, 10 log10(1 / MSE), in float64.

    The mean of these over a dataset is the customary "PSNR of the dataset"; the PSNR of the mean MSE is
    lower.

    Args:
        image: float (B, C, H, W) in [0, 1].
        x_hat: like `image`.

    Returns:
        float64 (B,) in dB; `inf` for identical images.

    >>> psnr(torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.1)).item()  # doctest: +ELLIPSIS
    19.99999...
    """
    return -10 * torch.log10(mse(image, x_hat))
