"""What two-stage training asks of a codec: a code that an MSE decoder g1 and a perceptual decoder g2 both read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lightning_modules.codecs.codec import Codec, CodecOutput


class ConditionalOutput(CodecOutput):
    """Result of a conditional codec's forward pass."""

    code: Tensor
    """What decoders read, (B, C, h, w): the quantised code, and Y embedded beside it."""


class PerceptualDecoder(nn.Module, ABC):
    """g2: reads the code and noise W, and draws an image from p(X | M, Y)."""

    noise_dim: int
    """Length of W; 0 for a deterministic decoder."""

    @abstractmethod
    def forward(self, code: Tensor, noise: Tensor) -> Tensor:
        """Images (B, C, H, W), not clamped, from a code as in `ConditionalOutput` and noise (B, noise_dim)."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Constructor arguments as plain values."""


class ConditionalCodec(Codec):
    """A codec with side information Y, decoded by g1 and, once attached, by g2.

    Between the two lie all x_a = (1 - a) g1 + a g2: fidelity at a = 0, realism at a = 1, from the same bits. Since g1
    is nearly the conditional mean, MSE(a) = MSE_1 + a² (MSE_2 - MSE_1) (Freirich et al., 2021; Yan et al., 2022).
    """

    g1: nn.Sequential
    perceptual: PerceptualDecoder | None
    """g2, where a checkpoint of the second stage was loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.perceptual = None

    @abstractmethod
    def side_information(self, batch: Mapping[str, Any]) -> Any:
        """Y of a batch, None for a codec without side information.

        Raises:
            ValueError: The batch lacks it, or it is out of range.
        """

    @abstractmethod
    def forward(self, x: Tensor, y: Any = None, keys: Tensor | None = None) -> ConditionalOutput:
        """As `Codec.forward`, with the code."""

    def fingerprint_parts(self) -> dict[str, nn.Module]:
        """The networks that a file cannot be read without: all but encoder and g2."""
        return {name: part for name, part in self.named_children() if name not in ("f", "perceptual")}


def interpolate(x_mse: Tensor, x_perceptual: Tensor, realism: float) -> Tensor:
    """x_a = (1 - a) x_mse + a x_perceptual (section 4.2); the ends are exact.

    Args:
        x_mse: Picture by g1.
        x_perceptual: Picture by g2, of the same shape.
        realism: a in [0, 1].

    Raises:
        ValueError: a is outside.
    """
    check_realism(realism)
    if realism in (0, 1):
        return x_perceptual if realism else x_mse
    return torch.lerp(x_mse, x_perceptual, realism)


def check_realism(realism: float) -> None:
    """Refuse what is no place between the two decoders.

    Raises:
        ValueError: It is outside [0, 1].
    """
    if not 0 <= realism <= 1:
        raise ValueError(f"realism {realism} is outside 0 (fidelity) to 1 (realism)")
