"""H(M|Y): the entropy model of a binary code, and its coding."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.codecs.cdf_tables import CdfTables, tables_of_probabilities
from lightning_modules.codecs.range_coder import SymbolDecoder, SymbolEncoder


def binarise(t: Tensor) -> Tensor:
    """Signs in {-1, +1} of values in (-1, 1), with the gradient of the identity; 0 becomes -1.

    Rounding (t + 1)/2 to {0, 1} as Yan et al.'s code does; torch rounds a half to even, and sign(0) would be 0.
    """
    return t + (2 * torch.round((t + 1) / 2) - 1 - t).detach()


class BernoulliCode(nn.Module):
    """Independent bits, whose probabilities are a function of Y: Linear, Tanh, Linear (Fig. 8), or free without Y.

    Fig. 8 ends in a "categorical distribution" over as many outputs as there are bits, which can only be one
    Bernoulli distribution per bit.

    Args:
        bits: Of the code.
        condition_channels: Of the embedded side information; 0 where there is none.
    """

    def __init__(self, bits: int, condition_channels: int) -> None:
        super().__init__()
        self.bits = bits
        self.condition_channels = condition_channels
        if condition_channels:
            self.network = nn.Sequential(nn.Linear(condition_channels, bits), nn.Tanh(), nn.Linear(bits, bits))
        else:
            self.free = nn.Parameter(torch.zeros(1, bits))

    def logits(self, condition: Tensor | None) -> Tensor:
        """Log-odds of +1: (B, bits) for a condition (B, C, 1, 1), else (1, bits)."""
        if not self.condition_channels:
            return self.free
        assert condition is not None, "this entropy model takes side information"
        logits: Tensor = self.network(condition.flatten(1))
        return logits

    def likelihood(self, code: Tensor, condition: Tensor | None) -> Tensor:
        """Probability of each bit, (B, bits), for a code in {-1, +1} of shape (B, bits, 1, 1).

        Its logarithm is linear in the code, so that the gradient of the rate reaches the encoder.
        """
        code = code.flatten(1).float()
        logits = self.logits(condition).float().expand_as(code)
        share = (code + 1) / 2
        return torch.exp(share * F.logsigmoid(logits) + (1 - share) * F.logsigmoid(-logits))

    @torch.no_grad()
    def tables(self, conditions: Tensor | None) -> CdfTables:
        """One table per condition (in its order) and bit, from probabilities in float64 on the CPU.

        Args:
            conditions: Every condition that there is, (Y, C, 1, 1), or None.
        """
        flat = None if conditions is None else conditions.flatten(1).double().cpu()
        weights = {name: value.detach().double().cpu() for name, value in self.state_dict().items()}
        if flat is None:
            logits = weights["free"]
        else:
            hidden = torch.tanh(flat @ weights["network.0.weight"].T + weights["network.0.bias"])
            logits = hidden @ weights["network.2.weight"].T + weights["network.2.bias"]
        plus = torch.sigmoid(logits).flatten()
        return tables_of_probabilities(torch.stack((1 - plus, plus), 1))

    def put(self, encoder: SymbolEncoder, code: Tensor, rows: Tensor, tables: CdfTables) -> None:
        """Code (B, bits) in {-1, +1} under the conditions number `rows`, int64 (B,)."""
        encoder.put((code > 0).long(), self._indexes(rows), tables)

    def get(self, decoder: SymbolDecoder, rows: Tensor, tables: CdfTables) -> Tensor:
        """Decode what `put` wrote: float32 (B, bits) in {-1, +1}; a damaged stream gives any code."""
        symbols = decoder.get(self._indexes(rows), tables)
        return 2 * (symbols > 0).float() - 1

    def _indexes(self, rows: Tensor) -> Tensor:
        return rows.cpu()[:, None] * self.bits + torch.arange(self.bits)
