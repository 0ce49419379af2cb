"""ELIC's transforms as TACO uses them: analysis g_a, synthesis g_s, hyper-analysis h_a, hyper-synthesis h_s.

Sources: He et al., "ELIC", CVPR 2022; Lee et al., "Neural Image Compression with Text-guided Encoding for both
Pixel-level and Perceptual Fidelity" (TACO), ICML 2024, section 3.1 and appendix A. The attention block is
CompressAI's (Cheng et al. 2020).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from compressai.layers import AttentionBlock
from torch import Tensor, nn

if TYPE_CHECKING:
    from lightning_modules.codecs.text_adapter import TextAdapter

DOWNSAMPLING = 64
"""Pixels per hyper-latent cell along a side: four strides of 2 in g_a, two more in h_a."""


def conv(in_channels: int, out_channels: int, kernel: int = 5, stride: int = 2) -> nn.Conv2d:
    """Convolution that keeps the size at stride 1 and halves it at stride 2."""
    return nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2)


def deconv(in_channels: int, out_channels: int, kernel: int = 5, stride: int = 2) -> nn.ConvTranspose2d:
    """Transposed convolution that keeps the size at stride 1 and doubles it at stride 2."""
    return nn.ConvTranspose2d(
        in_channels,
        out_channels,
        kernel,
        stride=stride,
        padding=kernel // 2,
        output_padding=stride - 1,
    )


class ResidualBottleneck(nn.Module):
    """1x1 to N/2, 3x3, 1x1 back to N, with ReLUs between and a skip connection (He et al. 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(channels, channels // 2, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // 2, channels // 2, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // 2, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return x + self.branch(x)


def bottlenecks(channels: int, count: int = 3) -> list[nn.Module]:
    """`count` residual bottlenecks in a row."""
    return [ResidualBottleneck(channels) for _ in range(count)]


class AnalysisTransform(nn.Module):
    """g_a: image to latent, in three stages so that a text adapter can act between them.

    Args:
        N: Channels inside the transform.
        M: Channels of the latent y.
    """

    def __init__(self, N: int, M: int) -> None:
        super().__init__()
        self.to_quarter = nn.Sequential(conv(3, N), *bottlenecks(N), conv(N, N), *bottlenecks(N))
        self.to_eighth = nn.Sequential(AttentionBlock(N), conv(N, N), *bottlenecks(N))
        self.to_latent = nn.Sequential(conv(N, M), AttentionBlock(M))

    def forward(self, x: Tensor, adapter: TextAdapter | None = None, tokens: Tensor | None = None) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, M, H/16, W/16); with an adapter, `tokens` (B, L, text_dim) steer it."""
        v = self.to_quarter(x)
        if adapter is None or tokens is None:
            return self.to_latent(self.to_eighth(v))
        v = self.to_eighth(adapter.inject_fine(v, tokens))
        tokens = adapter.extract(tokens, v)
        return self.to_latent(adapter.inject_coarse(v, tokens))


class SynthesisTransform(nn.Sequential):
    """g_s: latent (B, M, H/16, W/16) to image (B, 3, H, W)."""

    def __init__(self, N: int, M: int) -> None:
        super().__init__(
            AttentionBlock(M),
            deconv(M, N),
            *bottlenecks(N),
            deconv(N, N),
            AttentionBlock(N),
            *bottlenecks(N),
            deconv(N, N),
            *bottlenecks(N),
            deconv(N, 3),
        )


class HyperAnalysis(nn.Sequential):
    """h_a: latent (B, M, H/16, W/16) to hyper-latent z (B, N, H/64, W/64)."""

    def __init__(self, N: int, M: int) -> None:
        super().__init__(
            conv(M, N, kernel=3, stride=1),
            nn.ReLU(inplace=True),
            conv(N, N),
            nn.ReLU(inplace=True),
            conv(N, N),
        )


class HyperSynthesis(nn.Sequential):
    """h_s: hyper-latent (B, N, H/64, W/64) to the hyper context (B, 2M, H/16, W/16)."""

    def __init__(self, N: int, M: int) -> None:
        super().__init__(
            deconv(N, M),
            nn.ReLU(inplace=True),
            deconv(M, 3 * M // 2),
            nn.ReLU(inplace=True),
            deconv(3 * M // 2, 2 * M, kernel=3, stride=1),
        )
