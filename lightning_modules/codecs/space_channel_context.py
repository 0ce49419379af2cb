"""ELIC's space-channel context model: unevenly grouped channels, each coded in two checkerboard passes.

One walk over (slice, pass) serves training, evaluation, encoding and decoding: they differ only in what they do with
the predicted scale and mean of each half slice, which is the `quantise` function they hand in.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_modules.codecs.checkerboard import CheckerboardContext, pack, unpack

Quantise = Callable[[int, int, Tensor, Tensor], Tensor]
"""(slice, pass, scales, means) -> y_hat, all packed (B, C, h, w/2); pass 0 is the anchors."""


class LatentPrediction(NamedTuple):
    """What the context model says about a latent; each tensor is (B, M, h, w)."""

    y_hat: Tensor
    scales: Tensor
    means: Tensor


def _parameter_network(in_channels: int, out_channels: int) -> nn.Sequential:
    """1x1 network to scale and mean; widths 5/3, 4/3 and 1 times the output, as in TACO."""
    wide, narrow = out_channels * 5 // 3, out_channels * 4 // 3
    return nn.Sequential(
        nn.Conv2d(in_channels, wide, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(wide, narrow, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(narrow, out_channels, 1),
    )


def _channel_network(in_channels: int, hidden: Sequence[int], out_channels: int) -> nn.Sequential:
    first, second = hidden
    return nn.Sequential(
        nn.Conv2d(in_channels, first, 5, padding=2),
        nn.ReLU(inplace=True),
        nn.Conv2d(first, second, 5, padding=2),
        nn.ReLU(inplace=True),
        nn.Conv2d(second, out_channels, 5, padding=2),
    )


class SpaceChannelContext(nn.Module):
    """Predicts scale and mean of every latent from the hyper context, earlier slices and the anchors.

    Args:
        slices: Channels per slice, in coding order; their sum is M.
        hyper_channels: Channels of the hyper context (2M).
        hidden: Widths of the channel context networks.
    """

    def __init__(self, slices: Sequence[int], hyper_channels: int, hidden: Sequence[int] = (224, 128)) -> None:
        super().__init__()
        self.slices = tuple(slices)
        self.local = nn.ModuleList()
        self.channel = nn.ModuleList()
        self.anchor_parameters = nn.ModuleList()
        self.nonanchor_parameters = nn.ModuleList()
        for k, c in enumerate(self.slices):
            earlier = 2 * c if k else 0
            self.local.append(CheckerboardContext(c, 2 * c))
            if k:
                self.channel.append(_channel_network(sum(self.slices[:k]), hidden, 2 * c))
            self.anchor_parameters.append(_parameter_network(earlier + hyper_channels, 2 * c))
            self.nonanchor_parameters.append(_parameter_network(2 * c + earlier + hyper_channels, 2 * c))

    def forward(self, hyper: Tensor, quantise: Quantise) -> LatentPrediction:
        """Walk over all half slices.

        Args:
            hyper: (B, 2M, h, w), h and w even.
            quantise: Called once per half slice, in coding order; what it returns is the context of what follows.
        """
        hyper_halves = pack(hyper)
        y_hats: list[Tensor] = []
        scales: list[Tensor] = []
        means: list[Tensor] = []
        for k in range(len(self.slices)):
            supports: tuple[list[Tensor], list[Tensor]] = ([hyper_halves[0]], [hyper_halves[1]])
            if k:
                for support, half in zip(supports, pack(self.channel[k - 1](torch.cat(y_hats, 1))), strict=True):
                    support.insert(0, half)
            scale_a, mean_a = self.anchor_parameters[k](torch.cat(supports[0], 1)).chunk(2, 1)
            anchors = quantise(k, 0, scale_a, mean_a)
            context = torch.cat((self.local[k](anchors), *supports[1]), 1)
            scale_n, mean_n = self.nonanchor_parameters[k](context).chunk(2, 1)
            nonanchors = quantise(k, 1, scale_n, mean_n)
            y_hats.append(unpack(anchors, nonanchors))
            scales.append(unpack(scale_a, scale_n))
            means.append(unpack(mean_a, mean_n))
        return LatentPrediction(torch.cat(y_hats, 1), torch.cat(scales, 1), torch.cat(means, 1))
