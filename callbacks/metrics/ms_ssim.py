"""Multi-scale structural similarity, fast on CPUs."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from callbacks.metrics.precision import full_float32
from callbacks.metrics.value import NotAvailable, Value

WINDOW, SIGMA = 11, 1.5
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales, finest first."""
C1, C2 = 0.01**2, 0.03**2
"""(K1 L)^2 and (K2 L)^2 for values in [0, L = 1]."""
MIN_SIDE = (WINDOW - 1) * 2 ** (len(WEIGHTS) - 1) + 1
"""Four halvings of the image must leave room for the 11-pixel window: sides over (11 - 1) * 16 pixels."""

PROTOCOL: dict[str, Any] = {
    "implementation": "own, equal to pytorch_msssim with a float64 window",
    "window": "Gaussian 11, sigma 1.5, no padding",
    "scales": 5,
    "downsampling": "mean of 2x2; an odd side is first padded with a zero on both ends",
    "channels": "RGB, mean of the channels' values",
    "data_range": 1,
    "dtype": "float64; filters of the finest scale float32",
}
"""What exactly `ms_ssim` computes, for records."""

_STRIP, _BLOCK = 64, 16
"""Rows and columns that are filtered at once: this fits into a CPU's cache, whatever the size of the image."""


@torch.no_grad()
def ms_ssim(image: Tensor, x_hat: Tensor) -> list[Value]:
    """MS-SSIM per image (Wang, Simoncelli and Bovik, "Multiscale structural similarity for image quality
    assessment", Asilomar 2003, eq. 7): five scales, 11-pixel Gaussian window with σ = 1.5, channels averaged.

    Accurate to about 1e-8. Variances are differences of near-equal numbers, so float64 it is, but for the filters of
    the finest scale: these take most of the time, and with an exponent of 0.0448 their error of at most 1e-5 hardly
    counts. Each image is measured by itself, so its value does not depend on the batch. A channel's negative mean
    contrast counts as 0.

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
    with full_float32():
        return [_ms_ssim(torch.stack(pair)) for pair in zip(image, x_hat, strict=True)]


def _ms_ssim(pair: Tensor) -> float:
    """MS-SSIM of one image and its reconstruction, float (2, C, H, W)."""
    value = torch.ones(pair.shape[1], dtype=torch.float64, device=pair.device)
    last = len(WEIGHTS) - 1
    for scale, weight in enumerate(WEIGHTS):
        if scale == 0:
            # Variances do not change with the mean, and those of values around 0 have the smaller error.
            terms = _similarity(_sum_and_difference(pair.float() - 0.5), with_luminance=False)
        else:
            pair = _halve(pair)
            terms = _similarity(_sum_and_difference(pair), with_luminance=scale == last)
        value = value * terms.relu() ** weight
    return value.mean().item()


def _sum_and_difference(pair: Tensor) -> Tensor:
    """p = x + y and q = x - y.

    Of these the terms need two filtered maps and their filtered squares, where x and y need five maps:
    2 μx μy = (μp² - μq²) / 2, μx² + μy² = (μp² + μq²) / 2, and likewise for the (co)variances. What is measured is
    the small difference from 1, which is exactly 0 for equal images.
    """
    return torch.stack([pair[0] + pair[1], pair[0] - pair[1]])


def _similarity(maps: Tensor, with_luminance: bool) -> Tensor:
    """Mean over all positions of the window of the contrast-structure term, or of its product with the
    luminance term.

    Args:
        maps: (2, C, H, W), x + y and x - y.
        with_luminance: whether to multiply by the luminance term.

    Returns:
        float64 (C,), at most 1.
    """
    channels, height, width = maps.shape[1:]
    rows, columns = height - WINDOW + 1, width - WINDOW + 1
    strip, block = min(_STRIP, rows), min(_BLOCK, columns)
    blocks = -(-columns // block)
    padded = blocks * block + WINDOW - 1
    planes = maps.new_empty(2, 2, channels, strip + WINDOW - 1, padded)  # map, its square; x + y, x - y; ...
    planes[..., width:] = 0
    down = _filter_matrix(strip, maps.dtype, maps.device).expand(4 * channels, -1, -1)
    across = _filter_matrix(block, maps.dtype, maps.device).T.expand(blocks, -1, -1)
    loss = maps.new_zeros(blocks, channels, block, dtype=torch.float64)
    for top in range(0, rows, strip):
        n = min(strip, rows - top)
        seen = n + WINDOW - 1
        part = maps[:, :, top : top + seen]
        planes[0, :, :, :seen, :width] = part
        torch.mul(part, part, out=planes[1, :, :, :seen, :width])
        filtered = torch.bmm(down[:, :n, :seen], planes[:, :, :, :seen].flatten(0, 2))
        # Overlapping blocks of columns are views, so that one product filters them all and nothing is copied.
        overlapping = filtered.as_strided((blocks, 4 * channels * n, block + WINDOW - 1), (block, padded, 1))
        mean, square = torch.bmm(overlapping, across).view(blocks, 2, 2, channels, n, block).unbind(1)
        variance = square.addcmul_(mean, mean, value=-1)
        term = _distance(variance[:, 0], variance[:, 1], C2)
        if with_luminance:
            mean = mean * mean
            luminance = _distance(mean[:, 0], mean[:, 1], C1)
            term = term + luminance - 2 * term * luminance  # 1 - 2 term = (1 - 2 term)(1 - 2 luminance)
        loss += term.sum(dim=-2)
    total = loss.transpose(0, 1).flatten(1)[:, :columns].sum(dim=1)  # without the padding
    return 1 - 2 * total / (rows * columns)


def _distance(plus: Tensor, minus: Tensor, c: float) -> Tensor:
    """(1 - s) / 2 of the term s = (plus - minus + 2c) / (plus + minus + 2c)."""
    return minus / (plus + minus).add_(2 * c)


def _halve(pair: Tensor) -> Tensor:
    """Mean of 2 x 2 pixels in float64; an odd side is padded with a zero on both ends, as pytorch_msssim does."""
    height, width = pair.shape[-2:]
    if height % 2 or width % 2:
        pair = F.pad(pair, (width % 2, width % 2, height % 2, height % 2))
    # Slices and not avg_pool2d, which is several times slower in float64.
    rows = pair[..., 0:-1:2, :].double() + pair[..., 1::2, :]
    return (rows[..., 0:-1:2] + rows[..., 1::2]).mul_(0.25)


@lru_cache(maxsize=64)
def _filter_matrix(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(n, n + 10): the matrix that filters n + 10 values to the n where the window fits."""
    offsets = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    window = torch.exp(-offsets.square() / (2 * SIGMA**2))
    matrix = torch.zeros(n, n + WINDOW - 1, dtype=torch.float64)
    for row in range(n):
        matrix[row, row : row + WINDOW] = window / window.sum()
    return matrix.to(device, dtype)
