"""Side information Y: what the networks see of it, and what the bitstream carries of it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.codecs.cdf_tables import CdfTables, tables_of_probabilities
from lightning_modules.codecs.range_coder import SymbolDecoder, SymbolEncoder
from lightning_modules.errors import SettingError


class ClassLabel:
    """A class per image, sent losslessly at log2(classes) bits (Xu et al., section 4.2).

    Args:
        classes: Number of classes, all equally likely to the coder. (MNIST's empirical entropy is 3.319 bits against
            log2 10 = 3.322: a prior would gain nothing.)
    """

    def __init__(self, classes: int = 10) -> None:
        self.classes = classes

    @property
    def channels(self) -> int:
        """Of the embedding."""
        return self.classes

    def of(self, batch: Mapping[str, Any]) -> Tensor:
        """Y of a batch, int64 (B,).

        Raises:
            SettingError: The batch has no labels, or labels out of range.
        """
        if "label" not in batch:
            raise SettingError(
                f"the data {batch.get('dataset', '')} has no labels, which this codec sends as side information: use "
                "labelled data, or set model.codec.conditional to false"
            )
        labels: Tensor = batch["label"]
        return self.checked(labels)

    def checked(self, labels: Tensor) -> Tensor:
        """The labels themselves.

        Raises:
            SettingError: One is out of range.
        """
        wrong = labels[(labels < 0) | (labels >= self.classes)]
        if len(wrong):
            raise SettingError(f"label {wrong[0].item()} is not in 0..{self.classes - 1}")
        return labels

    def embed(self, labels: Tensor) -> Tensor:
        """One-hot, float32 (B, classes, 1, 1)."""
        return F.one_hot(labels, self.classes).float()[:, :, None, None]

    def likelihood(self, labels: Tensor) -> Tensor:
        """Probability of each label, float64 (B, 1)."""
        return torch.full((len(labels), 1), 1 / self.classes, dtype=torch.float64, device=labels.device)

    @cached_property
    def _tables(self) -> CdfTables:
        return tables_of_probabilities(torch.full((1, self.classes), 1 / self.classes, dtype=torch.float64))

    def put(self, encoder: SymbolEncoder, labels: Tensor) -> None:
        """Code labels (B,)."""
        encoder.put(labels, torch.zeros_like(labels), self._tables)

    def get(self, decoder: SymbolDecoder, count: int) -> Tensor:
        """Decode labels (count,); a damaged stream gives any, which the stream's checksum tells."""
        symbols = decoder.get(torch.zeros(count, dtype=torch.int64), self._tables)
        return symbols.long().clamp(0, self.classes - 1)
