"""The entropy path in float64: a frozen snapshot of the hyperprior and context model that can code.

Which table a symbol is coded with depends on a predicted scale. In float32 the last bits of that scale change with
the number of threads, the instruction set and the batch size, and one flipped table index destroys all that follows.
In float64 a flip needs a scale within about 1e-13 of a boundary between tables.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_modules.codecs.cdf_tables import factorized_tables, gaussian_tables, scale_indexes
from lightning_modules.codecs.checkerboard import pack
from lightning_modules.codecs.entropy import FactorizedPrior, GaussianLikelihood
from lightning_modules.codecs.range_coder import SymbolDecoder, SymbolEncoder
from lightning_modules.codecs.space_channel_context import SpaceChannelContext


class CodedLatents(NamedTuple):
    """Result of `LatentCoder.encode`."""

    stream: bytes
    checksum: int
    """16-bit checksum of the integer symbols."""
    y_hat: Tensor
    likelihoods: dict[str, Tensor]


class LatentCoder:
    """Quantises, codes and decodes latents in float64.

    Args:
        prior: Factorised prior of z.
        h_s: Hyper-synthesis.
        context: Space-channel context model of y.
    """

    def __init__(self, prior: FactorizedPrior, h_s: nn.Module, context: SpaceChannelContext) -> None:
        def frozen(module: nn.Module) -> nn.Module:
            return copy.deepcopy(module).double().eval().requires_grad_(False)

        self._prior = frozen(prior)
        self._h_s = frozen(h_s)
        self._context = frozen(context)
        self._channels = prior.channels
        self._medians = self._prior.medians()  # type: ignore[operator]
        self._gaussian = GaussianLikelihood()
        self._z_tables = factorized_tables(copy.deepcopy(self._prior))  # type: ignore[arg-type]

    def _z_indexes(self, z: Tensor) -> Tensor:
        return torch.arange(self._channels, device=z.device).view(1, -1, 1, 1).expand(z.shape)

    @torch.no_grad()
    def encode(self, y: Tensor, z: Tensor, *, write: bool = True) -> CodedLatents:
        """Quantise latents and, unless `write` is false, code them as one stream: z first, then y.

        Args:
            y: (B, M, h, w); B must be 1 when writing.
            z: (B, N, h/4, w/4).
            write: False for evaluation from likelihoods: same y_hat, no stream.

        Returns:
            y_hat is float64, likelihoods "y" and "z" are float64 in the shapes of y and z.
        """
        encoder = SymbolEncoder()
        y = y.double()
        halves = [pack(slice_) for slice_ in y.split(self._context.slices, 1)]  # type: ignore[arg-type]
        z_symbols = torch.round(z.double() - self._medians)
        z_hat = z_symbols + self._medians
        if write:
            encoder.put(z_symbols, self._z_indexes(z), self._z_tables)

        def quantise(k: int, half: int, scales: Tensor, means: Tensor) -> Tensor:
            symbols = torch.round(halves[k][half] - means)
            if write:
                encoder.put(symbols, scale_indexes(scales), gaussian_tables())
            return symbols + means

        predicted = self._context(self._h_s(z_hat), quantise)
        likelihoods = {
            "y": self._gaussian(predicted.y_hat, predicted.scales, predicted.means),
            "z": self._prior.likelihood(z_hat),  # type: ignore[operator]
        }
        stream, checksum = encoder.finish() if write else (b"", 0)
        return CodedLatents(stream, checksum, predicted.y_hat, likelihoods)

    @torch.no_grad()
    def decode(self, stream: bytes, height: int, width: int, device: torch.device) -> tuple[Tensor, int]:
        """Latents of one image from its stream.

        Args:
            stream: What `encode` wrote.
            height: Rows of z.
            width: Columns of z.
            device: Where the networks of this snapshot are.

        Returns:
            y_hat, float64 (1, M, 4 height, 4 width), and the checksum of the decoded symbols.
        """
        cells = height * width
        decoder = SymbolDecoder(stream, cells * (self._channels + 16 * sum(self._context.slices)))  # type: ignore[arg-type]
        z_indexes = self._z_indexes(torch.empty(1, self._channels, height, width, device=device))
        z_hat = decoder.get(z_indexes, self._z_tables) + self._medians

        def quantise(k: int, half: int, scales: Tensor, means: Tensor) -> Tensor:
            return decoder.get(scale_indexes(scales), gaussian_tables()) + means

        predicted = self._context(self._h_s(z_hat), quantise)
        return predicted.y_hat, decoder.checksum
