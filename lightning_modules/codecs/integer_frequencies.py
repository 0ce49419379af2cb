"""Range-coder frequencies from integer logarithms: the same integers on every machine, by exact arithmetic alone.

A soft-max in floating point may differ in its last digit between processors and thread counts, and one such digit
makes a decoder lose its place. Here exponentials come from a table of integers, which integer square roots fill, and
everything else is integer multiplication and division.
"""

from __future__ import annotations

from functools import lru_cache
from math import isqrt

import torch
from torch import Tensor

from lightning_modules.codecs.cdf_tables import PRECISION, CdfTables

LOG2_STEPS = 256
"""Steps per bit of the logarithms that `frequencies` takes."""
TOTAL = 1 << PRECISION
"""Sum of the frequencies of one table."""
_ONE_BITS = 30
_FRACTION_BITS = LOG2_STEPS.bit_length() - 1


@lru_cache(maxsize=1)
def _powers() -> Tensor:
    """floor(2^(30 - i/256)) for i = 0, 1, ... down to where `frequencies` gives no more than its floor of 1.

    Since floor(sqrt(floor(x))) = floor(sqrt(x)), eight nested integer square roots are the exact floor of the root
    of order 256.
    """
    octave = []
    for step in range(LOG2_STEPS):
        value = 1 << (_ONE_BITS * LOG2_STEPS - step)
        for _ in range(_FRACTION_BITS):
            value = isqrt(value)
        octave.append(value)
    return torch.tensor([value >> shift for shift in range(PRECISION + 1) for value in octave])


def frequencies(logits: Tensor) -> Tensor:
    """Integer frequencies in proportion to 2^(logits / 256).

    Every symbol has at least 1 of 65536, so that all can be coded; what rounding leaves over goes to the first of
    the most probable ones.

    Args:
        logits: int64 (..., S) on the CPU, S from 2 to 256.

    Returns:
        int64 (..., S), each at least 1; rows add up to `TOTAL`.
    """
    powers = _powers()
    below = logits.amax(-1, keepdim=True) - logits
    weights = powers[below.clamp_max(len(powers) - 1)]
    spare = TOTAL - logits.shape[-1]
    result = 1 + torch.div(weights * spare, weights.sum(-1, keepdim=True), rounding_mode="floor")
    # Not `argmax`, whose choice among equals is not specified.
    first = (below == 0) & ((below == 0).cumsum(-1) == 1)
    return result + first * (TOTAL - result.sum(-1, keepdim=True))


def tables_of_frequencies(rows: Tensor) -> CdfTables:
    """One table per row of frequencies, for symbols 0, 1, ...

    The escape that CompressAI's coder expects behind the last symbol has no width: it is never written, and no
    stream, however damaged, decodes to it.

    Args:
        rows: int64 (T, S), each at least 1; rows add up to `TOTAL`.
    """
    count, symbols = rows.shape
    cdfs = torch.zeros(count, symbols + 2, dtype=torch.int64)
    cdfs[:, 1:-1] = rows.cumsum(1)
    cdfs[:, -1] = TOTAL
    return CdfTables(cdfs.tolist(), [symbols + 2] * count, [0] * count)
