"""Multi-scale structural similarity in float64, fast on CPUs."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

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
    "dtype": "float64",
}
"""What exactly `ms_ssim` computes, for records."""

_STRIP, _BLOCK = 32, 16
"""Rows and columns that are filtered at once: this fits into a CPU's cache, whatever the size of the image."""


@torch.no_grad()
def ms_ssim(image: Tensor, x_hat: Tensor) -> list[Value]:
    """MS-SSIM per image (Wang, Simoncelli and Bovik, "Multiscale structural similarity for image quality
    assessment", Asilomar 2003, eq. 7): five scales, 11-pixel Gaussian window with σ = 1.5, channels averaged.

    Computed in float64, because the variances are differences of near-equal numbers; each image by itself, so
    that its value does not depend on the batch. A channel's negative mean contrast counts as 0.

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
    return [_ms_ssim(x.double(), y.double()) for x, y in zip(image, x_hat, strict=True)]


def _ms_ssim(x: Tensor, y: Tensor) -> float:
    """MS-SSIM of one image, float64 (C, H, W).

    In p = x + y and q = x - y the terms need two filtered maps and their squares where x and y need five
    maps: 2 μx μy = (μp² - μq²) / 2, μx² + μy² = (μp² + μq²) / 2, and likewise for the (co)variances. What is
    measured is the small difference from 1, which is exactly 0 for equal images.
    """
    maps = torch.stack([x + y, x - y])
    value = torch.ones(len(x), dtype=torch.float64, device=x.device)
    last = len(WEIGHTS) - 1
    for scale, weight in enumerate(WEIGHTS):
        value = value * _similarity(maps, with_luminance=scale == last).relu() ** weight
        if scale < last:
            maps = _halve(maps)
    return value.mean().item()


def _similarity(maps: Tensor, with_luminance: bool) -> Tensor:
    """Mean over all positions of the window of the contrast-structure term, or of its product with the
    luminance term.

    Args:
        maps: (2, C, H, W), x + y and x - y.
        with_luminance: whether to multiply by the luminance term.

    Returns:
        (C,), at most 1.
    """
    channels, height, width = maps.shape[1:]
    rows, columns = height - WINDOW + 1, width - WINDOW + 1
    strip, block = min(_STRIP, rows), min(_BLOCK, columns)
    blocks = -(-columns // block)
    padded = blocks * block + WINDOW - 1
    planes = maps.new_empty(2, 2, channels, strip + WINDOW - 1, padded)  # map, its square; x + y, x - y; ...
    planes[..., width:] = 0
    down = _filter_matrix(strip, maps.device).expand(4 * channels, -1, -1)
    across = _filter_matrix(block, maps.device).T.expand(blocks, -1, -1)
    loss = maps.new_zeros(blocks, channels, block)
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


def _halve(maps: Tensor) -> Tensor:
    """Mean of 2 x 2 pixels; an odd side is padded with a zero on both ends, as pytorch_msssim does."""
    height, width = maps.shape[-2:]
    if height % 2 or width % 2:
        maps = F.pad(maps, (width % 2, width % 2, height % 2, height % 2))
    # Slices and not avg_pool2d, which is several times slower in float64.
    pairs = maps[..., 0:-1:2, :] + maps[..., 1::2, :]
    return (pairs[..., 0:-1:2] + pairs[..., 1::2]).mul_(0.25)


@lru_cache(maxsize=32)
def _filter_matrix(n: int, device: torch.device) -> Tensor:
    """float64 (n, n + 10): the matrix that filters n + 10 values to the n where the window fits."""
    offsets = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    window = torch.exp(-offsets.square() / (2 * SIGMA**2))
    matrix = torch.zeros(n, n + WINDOW - 1, dtype=torch.float64)
    for row in range(n):
        matrix[row, row : row + WINDOW] = window / window.sum()
    return matrix.to(device)
