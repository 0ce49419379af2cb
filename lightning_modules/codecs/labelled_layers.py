"""The transforms of Fig. 9 (Xu et al., arXiv 2308.08154): layers that read the label map beside their input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from compressai.layers import GDN
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.codecs.transforms import conv, deconv

HyperVariant = Literal["fig9", "code"]


class LabelledLayers(nn.Module):
    """Layers in a row, some of which read the label map, one-hot and resized to their scale, beside their input.

    Args:
        layers: Each with whether it reads the map.
    """

    def __init__(self, layers: Sequence[tuple[nn.Module, bool]]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layer for layer, _ in layers)
        self.reads = [reads for _, reads in layers]

    def forward(self, x: Tensor, y: Tensor | None) -> Tensor:
        """(B, C, h, w) and the one-hot map (B, K, any size), or None for layers that were built for none."""
        for layer, reads in zip(self.layers, self.reads, strict=True):
            if reads and y is not None:
                x = torch.cat((x, F.interpolate(y.to(x.dtype), x.shape[-2:], mode="nearest")), 1)
            x = layer(x)
        return x


def analysis(N: int, M: int, K: int) -> LabelledLayers:
    """g_a: image (B, 3, H, W) to latent (B, M, H/16, W/16); the map enters at 1, 1/2, 1/4 and 1/8.

    Fig. 9 prints 128 outputs of the last layer, with which its decoder's 226 = 192 + 34 inputs would not hold.
    """
    return LabelledLayers(
        [
            (conv(3 + K, N), True),
            (GDN(N), False),
            (conv(N + K, N), True),
            (GDN(N), False),
            (conv(N + K, N), True),
            (GDN(N), False),
            (conv(N + K, M), True),
        ]
    )


def synthesis(N: int, M: int, K: int) -> LabelledLayers:
    """g_s: latent to image, not clamped; the map enters at 1/16, 1/8, 1/4 and 1/2."""
    return LabelledLayers(
        [
            (deconv(M + K, N), True),
            (GDN(N, inverse=True), False),
            (deconv(N + K, N), True),
            (GDN(N, inverse=True), False),
            (deconv(N + K, N), True),
            (GDN(N, inverse=True), False),
            (deconv(N + K, 3), True),
        ]
    )


def hyper_analysis(N: int, M: int, K: int, variant: HyperVariant) -> LabelledLayers:
    """h_a: latent to hyper-latent (B, N, H/64, W/64); the map enters at 1/16 and 1/32."""
    activation = _activation(variant)
    return LabelledLayers(
        [
            (conv(M + K, N, kernel=3, stride=1), True),
            (activation(), False),
            (conv(N, N), False),
            (activation(), False),
            (conv(N + K, N), True),
        ]
    )


def hyper_synthesis(N: int, M: int, K: int, variant: HyperVariant) -> LabelledLayers:
    """h_s: hyper-latent to scales and means of the latent, (B, 2M, H/16, W/16).

    `fig9` is as printed, with the map at 1/64 and 1/16. `code` is that of the first author's repository, CompressAI's
    `MeanScaleHyperprior` with the map at 1/64 and 1/32: widths M and 3M/2 in place of N.
    """
    activation = _activation(variant)
    if variant == "fig9":
        return LabelledLayers(
            [
                (deconv(N + K, N), True),
                (activation(), False),
                (deconv(N, N), False),
                (activation(), False),
                (deconv(N + K, 2 * M, kernel=3, stride=1), True),
            ]
        )
    return LabelledLayers(
        [
            (deconv(N + K, M), True),
            (activation(), False),
            (deconv(M + K, 3 * M // 2), True),
            (activation(), False),
            (deconv(3 * M // 2, 2 * M, kernel=3, stride=1), False),
        ]
    )


def _activation(variant: HyperVariant) -> type[nn.Module]:
    return nn.ReLU if variant == "fig9" else nn.LeakyReLU
