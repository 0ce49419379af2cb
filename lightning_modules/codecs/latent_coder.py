"""The entropy path in float64: a frozen snapshot of the hyperprior and context model that can code.

Which table a symbol is coded with depends on a predicted scale. In float32 the last bits of that scale change with
the number of threads, the instruction set and the batch size, and one flipped table index destroys all that follows.
In float64 a flip needs a scale within about 1e-13 of a boundary between tables.
"""

from __future__ import annotations

import copy
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from lightning_modules.codecs.cdf_tables import factorized_tables, gaussian_tables, scale_indexes
from lightning_modules.codecs.checkerboard import pack
from lightning_modules.codecs.entropy import FactorizedPrior, GaussianLikelihood
from lightning_modules.codecs.range_coder import SymbolDecoder, SymbolEncoder
from lightning_modules.codecs.space_channel_context import LatentPrediction, SpaceChannelContext

Part = TypeVar("Part", bound=nn.Module)


def _frozen(part: Part) -> Part:
    return copy.deepcopy(part).double().eval().requires_grad_(False)


class CodedLatents(NamedTuple):
    """Result of `LatentCoder.encode`; every tensor is float64."""

    stream: bytes
    checksum: int
    """16-bit checksum of the integer symbols."""
    predicted: LatentPrediction
    """y_hat, and the scales and means it was coded with."""
    z_hat: Tensor


class LatentCoder:
    """Quantises, codes and decodes latents in float64.

    Args:
        prior: Factorised prior of z.
        h_s: Hyper-synthesis.
        context: Space-channel context model of y.
    """

    def __init__(self, prior: FactorizedPrior, h_s: nn.Module, context: SpaceChannelContext) -> None:
        self._prior = _frozen(prior)
        self._h_s = _frozen(h_s)
        self._context = _frozen(context)
        self._medians = self._prior.medians()
        self._gaussian = GaussianLikelihood().to(self._prior.quantiles.device)
        self._z_tables = factorized_tables(copy.deepcopy(self._prior))

    def _z_indexes(self, z: Tensor) -> Tensor:
        return torch.arange(self._prior.channels, device=z.device).view(1, -1, 1, 1).expand(z.shape)

    @torch.no_grad()
    def encode(self, y: Tensor, z: Tensor, *, write: bool = True) -> CodedLatents:
        """Quantise latents and, unless `write` is false, code them as one stream: z first, then y.

        Args:
            y: (B, M, h, w); B must be 1 when writing.
            z: (B, N, h/4, w/4).
            write: False for evaluation from likelihoods: same y_hat, no stream.
        """
        encoder = SymbolEncoder()
        y = y.double()
        halves = [pack(slice_) for slice_ in y.split(self._context.slices, 1)]
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
        stream, checksum = encoder.finish() if write else (b"", 0)
        return CodedLatents(stream, checksum, predicted, z_hat)

    @torch.no_grad()
    def likelihoods(self, coded: CodedLatents) -> dict[str, Tensor]:
        """Likelihoods of what was coded, float64 in the shapes of y and z; coding itself does not need them."""
        return {
            "y": self._gaussian(*coded.predicted),
            "z": self._prior.likelihood(coded.z_hat),
        }

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
        decoder = SymbolDecoder(stream, cells * (self._prior.channels + 16 * sum(self._context.slices)))
        z_indexes = self._z_indexes(torch.empty(1, self._prior.channels, height, width, device=device))
        z_hat = decoder.get(z_indexes, self._z_tables) + self._medians

        def quantise(k: int, half: int, scales: Tensor, means: Tensor) -> Tensor:
            return decoder.get(scale_indexes(scales), gaussian_tables()) + means

        predicted = self._context(self._h_s(z_hat), quantise)
        return predicted.y_hat, decoder.checksum
