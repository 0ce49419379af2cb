"""Coding of label map, hyper-latent and latent of the conditional hyperprior as one stream, in float64.

Why in float64: see `latent_coder`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.codecs.cdf_tables import factorized_tables, gaussian_tables, scale_indexes
from lightning_modules.codecs.entropy import FactorizedPrior, GaussianLikelihood
from lightning_modules.codecs.label_map_prior import LabelMapPrior
from lightning_modules.codecs.labelled_layers import LabelledLayers
from lightning_modules.codecs.range_coder import SymbolDecoder, SymbolEncoder


class HyperLatents(NamedTuple):
    """Quantised latents, float64, and what they are coded with."""

    y_hat: Tensor
    """(B, M, h, w)."""
    scales: Tensor
    means: Tensor
    z_hat: Tensor
    """(B, N, h/4, w/4)."""


def one_hot(maps: Tensor, classes: int) -> Tensor:
    """Label maps int64 (B, h, w) as float32 (B, classes, h, w)."""
    return F.one_hot(maps, classes).movedim(-1, 1).float()


class HyperpriorCoder:
    """A frozen float64 snapshot of the entropy path.

    Args:
        prior: Factorised prior of z.
        h_s: Hyper-synthesis, to scales and means.
        labels: Prior of the label map, or None for a codec without.
    """

    def __init__(self, prior: FactorizedPrior, h_s: LabelledLayers, labels: LabelMapPrior | None) -> None:
        self._prior = copy.deepcopy(prior).double().eval().requires_grad_(False)
        self._h_s = copy.deepcopy(h_s).double().eval().requires_grad_(False)
        self._labels = labels
        self._medians = self._prior.medians()
        self._gaussian = GaussianLikelihood().to(self._medians.device)
        self._z_tables = factorized_tables(copy.deepcopy(self._prior))

    def _z_indexes(self, z: Tensor) -> Tensor:
        return torch.arange(self._prior.channels, device=z.device).view(1, -1, 1, 1).expand(z.shape)

    def _predicted(self, z_hat: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        scales, means = self._h_s(z_hat, y).chunk(2, 1)
        return scales, means

    @torch.no_grad()
    def quantise(self, latent: Tensor, z: Tensor, y: Tensor | None) -> HyperLatents:
        """Round around the predicted means and the prior's medians.

        Args:
            latent: (B, M, h, w).
            z: (B, N, h/4, w/4).
            y: One-hot label map (B, K, ., .), or None.
        """
        z_hat = torch.round(z.double() - self._medians) + self._medians
        scales, means = self._predicted(z_hat, y)
        return HyperLatents(torch.round(latent.double() - means) + means, scales, means, z_hat)

    @torch.no_grad()
    def likelihoods(self, latents: HyperLatents) -> dict[str, Tensor]:
        """Likelihoods of latent and hyper-latent, float64."""
        return {
            "y": self._gaussian(latents.y_hat, latents.scales, latents.means),
            "z": self._prior.likelihood(latents.z_hat),
        }

    @torch.no_grad()
    def write(self, latents: HyperLatents, labels: Tensor | None) -> tuple[bytes, int]:
        """One picture as a stream, label map first, and the checksum of all symbols.

        Args:
            latents: What `quantise` gave, B = 1.
            labels: int64 (h, w), or None.
        """
        encoder = SymbolEncoder()
        if self._labels is not None and labels is not None:
            self._labels.put(encoder, labels)
        encoder.put(torch.round(latents.z_hat - self._medians), self._z_indexes(latents.z_hat), self._z_tables)
        symbols = torch.round(latents.y_hat - latents.means)
        encoder.put(symbols, scale_indexes(latents.scales), gaussian_tables())
        return encoder.finish()

    @torch.no_grad()
    def read(
        self,
        stream: bytes,
        label_size: tuple[int, int],
        cells: tuple[int, int],
        channels: int,
        embed: Callable[[Tensor], Tensor],
    ) -> tuple[Tensor, Tensor | None, int]:
        """Latent, label map and checksum of a stream.

        Args:
            stream: What `write` gave.
            label_size: Rows and columns of the label map.
            cells: Rows and columns of the hyper-latent.
            channels: M.
            embed: Makes of a label map (h, w) what h_s reads.

        Returns:
            y_hat, float64 (1, M, 4 rows, 4 columns); labels, int64 (h, w) on the CPU, or None; 16-bit checksum.
        """
        rows, columns = cells
        limit = 0 if self._labels is None else self._labels.symbol_limit(*label_size)
        decoder = SymbolDecoder(stream, limit + rows * columns * (self._prior.channels + 16 * channels))
        labels = self._labels.get(decoder, *label_size) if self._labels is not None else None
        like = self._medians.new_empty(1, self._prior.channels, rows, columns)
        z_hat = decoder.get(self._z_indexes(like), self._z_tables) + self._medians
        scales, means = self._predicted(z_hat, None if labels is None else embed(labels))
        y_hat = decoder.get(scale_indexes(scales), gaussian_tables()) + means
        return y_hat, labels, decoder.checksum
