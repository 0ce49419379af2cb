"""g2 for digits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_modules.codecs.conditional_codec import PerceptualDecoder
from lightning_modules.codecs.digit_networks import Variant, perceptual_decoder


class DigitDecoder(PerceptualDecoder):
    """g2 for digits: the code with the one-hot label, and noise, to an image.

    Args:
        variant: As of the codec.
        width: As of the codec.
        code_channels: Bits of the code, plus the classes where the codec has side information.
        noise_dim: Length of W.
    """

    def __init__(self, variant: Variant, width: int, code_channels: int, noise_dim: int) -> None:
        super().__init__()
        self.variant, self.width = variant, width
        self.code_channels, self.noise_dim = code_channels, noise_dim
        self.network = perceptual_decoder(variant, width, code_channels + noise_dim)

    def forward(self, code: Tensor, noise: Tensor) -> Tensor:
        """Images (B, 1, 32, 32), not clamped."""
        images: Tensor = self.network(torch.cat((code, noise[:, :, None, None].to(code.dtype)), 1))
        return images

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {
            "variant": self.variant,
            "width": self.width,
            "code_channels": self.code_channels,
            "noise_dim": self.noise_dim,
        }
