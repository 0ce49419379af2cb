"""Multi-scale structural similarity."""

from pytorch_msssim import ms_ssim as _ms_ssim
from torch import Tensor

from callbacks.metrics.value import NotAvailable, Value

MIN_SIDE = 161
"""Four halvings of the image must leave room for the 11-pixel window: sides over (11 - 1) * 16 pixels."""


def ms_ssim(image: Tensor, x_hat: Tensor) -> list[Value]:
    """MS-SSIM per image (Wang et al., 2003: five scales, 11-pixel Gaussian window, σ = 1.5, RGB channels
    averaged).

    Computed in float64, because the variances are differences of near-equal numbers.

    Args:
        image: float (B, C, H, W) in [0, 1].
        x_hat: like `image`.

    Returns:
        B values in [0, 1], or `NotAvailable` where a side has 160 pixels or fewer.
    """
    height, width = image.shape[-2:]
    if min(height, width) < MIN_SIDE:
        reason = f"MS-SSIM needs both sides over {MIN_SIDE - 1} pixels"
        return [NotAvailable(reason)] * len(image)
    return _ms_ssim(image.double(), x_hat.double(), data_range=1, size_average=False).tolist()
