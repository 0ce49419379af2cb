"""A small network from contexts to frequencies, whose results are the same to the bit wherever they are computed.

All weights and activations are integers, held in floating point but within the range where that is exact, so that no
order of summation, no fused multiplication and no number of threads can change a digit:

    hidden1 = relu(sum of rows of a table, one per feature)       |weights| < 2^15, 21 of them: below 2^20
    hidden2 = floor(relu(hidden1 · A + a) / 2^10)                 64 inputs: below 2^41 before the division
    logits  = hidden2 · B + b + 2^10 (sum of rows of a table)     32 inputs, below 2^32 each: below 2^52

float64 is exact up to 2^53, float32 (for the tables) up to 2^24. Integer-arithmetic inference for entropy models is
due to Ballé, Johnston and Minnen (Integer Networks for Data Compression with Latent-Variable Models, ICLR 2019).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.codecs.integer_frequencies import LOG2_STEPS, frequencies

SCALE = 1 << 10
"""Weights are multiples of 1/1024."""
WEIGHT_LIMIT = (1 << 15) - 1
BIAS_LIMIT = 1 << 30
HIDDEN1, HIDDEN2 = 64, 32
"""Widths of the layers."""


class FixedPointNetwork(NamedTuple):
    """Integer weights, as float32 (tables) and float64 (the rest); see `quantised`."""

    tables: Tensor
    """(T, HIDDEN1 + S): of the first layer, and of the path around it to the S symbols."""
    hidden_weight: Tensor
    """(HIDDEN1, HIDDEN2)."""
    hidden_bias: Tensor
    """(HIDDEN2,), in units of 1/SCALE²."""
    output_weight: Tensor
    """(HIDDEN2, S)."""
    output_bias: Tensor
    """(S,), in units of 1/SCALE²."""

    def frequencies(self, contexts: Tensor) -> Tensor:
        """Frequencies of the symbols, int64 (n, S); see `integer_frequencies`.

        Args:
            contexts: int64 (n, features), numbers of rows of `tables`.
        """
        sums = F.embedding_bag(contexts, self.tables, mode="sum").double()
        hidden = sums[:, :HIDDEN1].clamp_min(0) @ self.hidden_weight + self.hidden_bias
        hidden = (hidden.clamp_min(0) / SCALE).floor()
        logits = hidden @ self.output_weight + self.output_bias + sums[:, HIDDEN1:] * SCALE
        return frequencies((logits * (LOG2_STEPS / SCALE**2)).floor().long())


def quantised(weight: Tensor, scale: int = SCALE, limit: int = WEIGHT_LIMIT) -> Tensor:
    """Weights as integers, int32: round(scale · w), clamped to ±limit; biases take SCALE² and `BIAS_LIMIT`."""
    return (weight.double() * scale).round().clamp(-limit, limit).to(torch.int32)
