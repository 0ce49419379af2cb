"""The networks of the digits codec: encoder, decoders and critic for images of 32x32.

Two variants. `fig8` is what Fig. 8 of Xu et al. (arXiv 2308.08154) prints, with padding 1 in every layer, the only
value that makes its stack consistent: 32-16-8-4-2-1 and back. `yan` is the network in Yan et al.'s published code
(2021), which the paper says it follows: three layers of stride 2, one from 4x4 to 1x1, and a 1x1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from lightning_modules.codecs.batch_norm import SharedBatchNorm2d

SIDE = 32
"""Height and width of the images, in pixels."""

Variant = Literal["fig8", "yan"]


class _Layer(NamedTuple):
    """A convolution, or its transpose: output channels and geometry."""

    channels: int
    kernel: int
    stride: int
    padding: int


def _halving(channels: int) -> _Layer:
    return _Layer(channels, 4, 2, 1)


def _stack(
    kind: type[nn.Conv2d] | type[nn.ConvTranspose2d], channels: int, layers: Sequence[_Layer]
) -> nn.Sequential:
    """Convolutions with batch normalisation and ReLU between them; weights N(0, 0.02²), biases 0 (Yan's code)."""
    modules: list[nn.Module] = []
    for i, layer in enumerate(layers):
        convolution = kind(channels, layer.channels, layer.kernel, layer.stride, layer.padding)
        nn.init.normal_(convolution.weight, 0.0, 0.02)
        assert convolution.bias is not None
        nn.init.zeros_(convolution.bias)
        modules.append(convolution)
        if i < len(layers) - 1:
            modules += [SharedBatchNorm2d(layer.channels), nn.ReLU(inplace=True)]
        channels = layer.channels
    # The faster layout for narrow layers on CPUs, and on tensor cores.
    return nn.Sequential(*modules).to(memory_format=torch.channels_last)


def encoder(variant: Variant, width: int, bits: int) -> nn.Sequential:
    """f: images (B, 1, 32, 32) to values in (-1, 1), (B, bits, 1, 1), whose signs are the code.

    Args:
        variant: See the module.
        width: Channels of the first layer: 128 in Fig. 8, 64 in Yan's training script.
        bits: Of the code.
    """
    w = width
    layers = {
        "fig8": [_halving(w), _halving(2 * w), _halving(4 * w), _halving(w), _halving(bits)],
        "yan": [_halving(w), _halving(2 * w), _halving(4 * w), _Layer(w, 4, 1, 0), _Layer(bits, 1, 1, 0)],
    }[variant]
    return nn.Sequential(*_stack(nn.Conv2d, 1, layers), nn.Tanh())


def decoder(variant: Variant, width: int, channels: int) -> nn.Sequential:
    """g1 or g2: (B, channels, 1, 1) to images (B, 1, 32, 32), without an activation at the end.

    Args:
        variant: See the module. In `yan` it mirrors the encoder.
        width: As of the encoder.
        channels: Code, embedded side information and noise together.
    """
    w = width
    layers = {
        "fig8": [_halving(w), _halving(4 * w), _halving(2 * w), _halving(w), _halving(1)],
        "yan": [_Layer(w, 1, 1, 0), _Layer(4 * w, 4, 1, 0), _halving(2 * w), _halving(w), _halving(1)],
    }[variant]
    return _stack(nn.ConvTranspose2d, channels, layers)


def perceptual_decoder(variant: Variant, width: int, channels: int) -> nn.Sequential:
    """g2. In `fig8` it has the shape of g1, as printed; Yan's is a layer shorter and half as wide."""
    if variant == "fig8":
        return decoder(variant, width, channels)
    w = max(1, width // 2)
    return _stack(nn.ConvTranspose2d, channels, [_Layer(4 * w, 4, 1, 0), _halving(2 * w), _halving(w), _halving(1)])


def copy_decoder(source: nn.Sequential, target: nn.Sequential) -> None:
    """Start a decoder with noise inputs from one without: the same function plus an untrained part for the noise.

    Args:
        source: g1, whose inputs are the first of the target's.
        target: g2. Weights of its further inputs keep their values.

    Raises:
        ValueError: The networks differ in more than their number of inputs.
    """
    mine, theirs = target.state_dict(), source.state_dict()
    if mine.keys() != theirs.keys():
        raise ValueError("the two decoders have different layers: set start: random, or use variant fig8")
    for name, value in theirs.items():
        if mine[name].shape == value.shape:
            mine[name].copy_(value)
        elif mine[name].dim() == 4 and mine[name].shape[1:] == value.shape[1:]:
            mine[name][: len(value)].copy_(value)
        else:
            raise ValueError(
                f"{name} is {tuple(mine[name].shape)} in one decoder and {tuple(value.shape)} in the other"
            )


class DigitCritic(nn.Module):
    """D(x, c) of Yan et al.'s code: how real an image looks beside its condition, unbounded.

    No normalisation: the gradient penalty is per sample, which batch statistics would mix. Weights start as torch
    draws them: with N(0, 0.02²) and nothing that normalises, scores would begin at zero and stay there for long.

    Args:
        condition_channels: Of c: code and one-hot label, or the label alone; 0 for an unconditional critic.
    """

    def __init__(self, condition_channels: int) -> None:
        super().__init__()
        self.condition_channels = condition_channels
        widths = ((1, 16, 2, 1), (16, 32, 2, 1), (32, 64, 2, 1), (64, 128, 1, 0))
        image: list[nn.Module] = []
        for before, after, stride, padding in widths:
            image += [nn.Conv2d(before, after, 4, stride, padding), nn.LeakyReLU(0.2)]
        self.image = nn.Sequential(*image)
        self.condition = nn.Conv2d(condition_channels, 128, 1) if condition_channels else None
        self.head = nn.Sequential(
            nn.LeakyReLU(0.2),
            nn.Conv2d(256 if condition_channels else 128, 64, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(64, 1, 1),
        )
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """Scores (B,) of images (B, 1, 32, 32) under conditions (B, C, 1, 1), None if C = 0."""
        features = self.image(x)
        if self.condition is not None:
            assert condition is not None, "this critic takes a condition"
            features = torch.cat((features, self.condition(condition)), 1)
        scores: Tensor = self.head(features).flatten()
        return scores
