"""The entropy model of label maps: p(class | classes already coded, row), and its coding.

A static context model of 20 neighbours and the row. So many neighbours have far more values than a training set can
count: a small network fitted to the maps takes the place of counts with back-off, and is 15 % smaller on CamVid
(`docs/results/streets/label_maps.md`). It is computed in integers, so that every machine reads what another wrote.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from lightning_modules.codecs.causal_context import Wavefront, table_rows
from lightning_modules.codecs.deflated_labels import LENGTH_BYTES, deflated_bits, get_deflated, put_deflated
from lightning_modules.codecs.fixed_point_network import (
    BIAS_LIMIT,
    HIDDEN1,
    HIDDEN2,
    SCALE,
    FixedPointNetwork,
    quantised,
)
from lightning_modules.codecs.integer_frequencies import TOTAL, tables_of_frequencies
from lightning_modules.codecs.label_map_training import TrainingPixels, trained_network
from lightning_modules.codecs.range_coder import SymbolDecoder, SymbolEncoder

_AT_ONCE = 1 << 14
"""Pixels whose tables are in memory at one time."""


class LabelMapPrior(nn.Module):
    """Entropy model of maps of classes, to be fitted on training maps; until then a generic coder takes its place.

    What `fit` has learned lies in integer buffers, of a shape that depends on `classes` alone, and so is part of the
    checkpoint and of the fingerprint of a codec that holds this module. It always computes on the CPU.

    Args:
        classes: Number of classes, 2 to 255.

    Raises:
        ValueError: `classes` is out of range.
    """

    tables: Tensor
    hidden_weight: Tensor
    hidden_bias: Tensor
    output_weight: Tensor
    output_bias: Tensor
    maps_fitted: Tensor
    """int64 (): number of maps that the model has been fitted on."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        if not 2 <= classes <= 255:
            raise ValueError(f"{classes} classes: maps of 2 to 255 classes can be coded")
        self.classes = classes
        shapes: dict[str, tuple[int, ...]] = {
            "tables": (table_rows(classes), HIDDEN1 + classes),
            "hidden_weight": (HIDDEN1, HIDDEN2),
            "hidden_bias": (HIDDEN2,),
            "output_weight": (HIDDEN2, classes),
            "output_bias": (classes,),
        }
        # int32, since process groups do not send int16.
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape, dtype=torch.int32))
        self.register_buffer("maps_fitted", torch.tensor(0))

    @property
    def fitted(self) -> bool:
        """Whether maps are coded by what training maps are like."""
        return bool(self.maps_fitted)

    def fit(self, maps: Iterable[Tensor], scale: int = 1) -> None:
        """Learn what maps are like; what had been learned before is forgotten. Takes some 20 seconds of one core.

        The result is a function of the maps, their order and the scale, up to the rounding of training in float32.

        Args:
            maps: Training maps, int64 (h, w) with values 0 to classes - 1, of any sizes.
            scale: 1 for maps of the size that is coded, 8 for maps of which every eighth row and column will be:
                then all 64 ways to choose them serve as training maps, which gives 3 to 4 % fewer bits on CamVid.

        Raises:
            ValueError: There is no map, or one has a value out of range, or `scale` is less than 1.
        """
        if scale < 1:
            raise ValueError(f"scale {scale}: at least 1")
        pixels = TrainingPixels(maps, self.classes, scale)
        network = trained_network(pixels, self.classes)
        weights = {name: value.detach() for name, value in network.named_parameters()}
        bits = math.log2(math.e)  # natural logits to base 2
        weights["tables"][:, HIDDEN1:] *= bits
        weights["output_weight"] *= bits
        weights["output_bias"] *= bits
        for name in ("tables", "hidden_weight", "output_weight"):
            self.get_buffer(name).copy_(quantised(weights[name]))
        for name in ("hidden_bias", "output_bias"):
            self.get_buffer(name).copy_(quantised(weights[name], SCALE**2, BIAS_LIMIT))
        self.maps_fitted.fill_(pixels.maps)

    @torch.no_grad()
    def likelihood(self, maps: Tensor) -> Tensor:
        """Probability of each pixel as it is coded, float64 (B, h, w) on the device of the maps.

        Before `fit` the pixels of a map have equal parts of its cost.

        Args:
            maps: int64 (B, h, w), 0 to classes - 1; h and w at least 1.
        """
        batch, height, width = maps.shape
        result = torch.empty(batch, height * width, dtype=torch.float64)
        for row, labels in zip(result, maps.cpu(), strict=True):
            if self.fitted:
                coded = [rows.gather(1, symbols[:, None]) for symbols, rows in self.coded(labels)]
                row[Wavefront(height, width, self.classes).order] = torch.cat(coded)[:, 0].double() / TOTAL
            else:
                row[:] = 2 ** (-deflated_bits(labels.flatten(), self.classes) / (height * width))
        return result.view(maps.shape).to(maps.device)

    def symbol_limit(self, height: int, width: int) -> int:
        """The most symbols that `get` may ask its decoder for."""
        return height * width + (0 if self.fitted else LENGTH_BYTES)

    @torch.no_grad()
    def put(self, encoder: SymbolEncoder, labels: Tensor) -> None:
        """Code one map.

        Args:
            encoder: What the map is appended to.
            labels: int64 (h, w), 0 to classes - 1; h and w at least 1.

        Raises:
            ValueError: A class is out of range.
        """
        labels = labels.cpu()
        if int(labels.min()) < 0 or int(labels.max()) >= self.classes:
            raise ValueError(f"label map holds a class that is not in 0..{self.classes - 1}")
        if not self.fitted:
            put_deflated(encoder, labels.flatten(), self.classes)
            return
        for symbols, rows in self.coded(labels):
            encoder.put(symbols, torch.arange(len(symbols)), tables_of_frequencies(rows))

    @torch.no_grad()
    def get(self, decoder: SymbolDecoder, height: int, width: int) -> Tensor:
        """Decode what `put` wrote, int64 (height, width) on the CPU; a damaged stream gives any map."""
        if not self.fitted:
            return get_deflated(decoder, height * width, self.classes).view(height, width)
        return self.decoded(
            height,
            width,
            lambda rows: decoder.get(torch.arange(len(rows)), tables_of_frequencies(rows)).long(),
        )

    def coded(self, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """What an entropy coder needs of a known map, in the order of coding, piece by piece.

        Yields:
            Symbols, int64 (n,), and frequencies, int64 (n, classes), whose rows add up to 65536.
        """
        height, width = labels.shape
        wave, network = Wavefront(height, width, self.classes), self._network()
        wave.fill(labels)
        symbols = labels.flatten()[wave.order]
        for first in range(0, len(symbols), _AT_ONCE):
            piece = symbols[first : first + _AT_ONCE]
            yield piece, network.frequencies(wave.contexts(first, len(piece)))

    def decoded(self, height: int, width: int, read: Callable[[Tensor], Tensor]) -> Tensor:
        """The map, int64 (height, width), that an entropy decoder gives.

        Args:
            height: Of the map.
            width: Of the map.
            read: Gives the next symbols, int64 (n,), for their frequencies, int64 (n, classes).
        """
        wave, network = Wavefront(height, width, self.classes), self._network()
        result = torch.empty(height * width, dtype=torch.int64)
        first = 0
        for count in wave.counts:
            symbols = read(network.frequencies(wave.contexts(first, count)))
            wave.set(first, symbols)
            result[wave.order[first : first + count]] = symbols
            first += count
        return result.view(height, width)

    def _network(self) -> FixedPointNetwork:
        tables, *rest = (
            self.get_buffer(name).cpu()
            for name in ("tables", "hidden_weight", "hidden_bias", "output_weight", "output_bias")
        )
        return FixedPointNetwork(tables.float(), *(weight.double() for weight in rest))
