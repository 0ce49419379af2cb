"""g2 for digits."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from lightning_modules.codecs.conditional_codec import PerceptualDecoder
from lightning_modules.codecs.digit_networks import Variant, copy_decoder, perceptual_decoder


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

    @torch.no_grad()
    def start_from(self, g1: nn.Module) -> None:
        """Copy g1, and begin with a tenth of the random weights of the inputs for noise."""
        self.network[0].weight[self.code_channels :] *= 0.1  # type: ignore[index, operator]
        copy_decoder(cast(nn.Sequential, g1), self.network)

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {
            "variant": self.variant,
            "width": self.width,
            "code_channels": self.code_channels,
            "noise_dim": self.noise_dim,
        }
