"""Mean squared error."""

import torch
from torch import Tensor


def mse(image: Tensor, x_hat: Tensor) -> Tensor:
    """Mean squared error per image over all pixels and channels, in float64.

    Args:
        image: float (B, C, H, W) in [0, 1].
        x_hat: like `image`.

    Returns:
        float64 (B,) in [0, 1]; on values in [0, 255] it would be 255² times as large.

    >>> mse(torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.5))
    tensor([0.2500], dtype=torch.float64)
    """
    # Image by image: what is in work stays in a CPU's cache.
    return torch.stack([(x.double() - y).square_().mean() for x, y in zip(image, x_hat, strict=True)])
