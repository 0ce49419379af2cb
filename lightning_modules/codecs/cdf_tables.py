"""Integer CDF tables for the range coder, always computed in float64.

Tables are a pure function of the weights, so nobody has to remember to "update" a codec. They do not use the learned
tail quantiles either: the support of each channel is searched, so an under-trained auxiliary loss costs no bits.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from compressai._CXX import pmf_to_quantized_cdf
from torch import Tensor

from lightning_modules.codecs.entropy import SCALE_BOUND, FactorizedPrior

PRECISION = 16
TAIL_MASS = 1e-9
_LARGEST_SUPPORT = 4096


@dataclass(frozen=True)
class CdfTables:
    """Ragged integer CDFs in the form that CompressAI's rANS coder takes; the last bin of each is the escape."""

    cdfs: list[list[int]]
    sizes: list[int]
    offsets: list[int]


def _tables(pmfs: list[Tensor], tails: list[float], offsets: list[int]) -> CdfTables:
    cdfs = [pmf_to_quantized_cdf([*pmf.tolist(), tail], PRECISION) for pmf, tail in zip(pmfs, tails, strict=True)]
    return CdfTables(cdfs, [len(cdf) for cdf in cdfs], offsets)


@lru_cache(maxsize=1)
def gaussian_scales() -> Tensor:
    """Standard deviations of the tables, float64, ascending.

    Steps of 3 % up to 2, where a wrong scale costs most relative to the entropy and tables are short, and of 11 %
    from there to 256. With the nearest level taken, quantised scales and 16-bit probabilities together cost under
    0.15 % of the rate up to a scale of 30, and under 0.5 % beyond. The usual 64 levels of 13 %, rounded up, cost
    several percent at scales of 0.2.
    """
    fine = torch.logspace(0, 1, 97, base=2.0 / SCALE_BOUND, dtype=torch.float64) * SCALE_BOUND
    coarse = torch.logspace(0, 1, 49, base=128.0, dtype=torch.float64) * 2.0
    return torch.cat((fine, coarse[1:]))


@lru_cache(maxsize=1)
def _scale_boundaries() -> Tensor:
    scales = gaussian_scales()
    return (scales[1:] * scales[:-1]).sqrt()


def scale_indexes(scales: Tensor) -> Tensor:
    """Index of the nearest table (in log scale) for each float64 scale; NaN and out-of-range scales are clamped."""
    boundaries = _scale_boundaries().to(scales.device)
    return torch.bucketize(torch.nan_to_num(scales).contiguous(), boundaries)


@lru_cache(maxsize=1)
def gaussian_tables() -> CdfTables:
    """One table per scale of `gaussian_scales`, for integer symbols round(y - mean)."""
    pmfs, tails, offsets = [], [], []
    reach = -torch.special.ndtri(torch.tensor(TAIL_MASS / 2, dtype=torch.float64)).item()
    for scale in gaussian_scales().tolist():
        center = int(-(-scale * reach // 1))
        edges = (torch.arange(-center, center + 2, dtype=torch.float64) - 0.5) / scale
        # Mass between two edges on the negative side, mirrored: differences near 1 would lose the tail's digits.
        below = 0.5 * torch.special.erfc(edges.abs() * 0.5**0.5)
        mass = (below[1:] - below[:-1]).abs()
        mass[center] = 1.0 - 2.0 * below[center + 1]
        pmfs.append(mass)
        tails.append(2.0 * below[0].item())
        offsets.append(-center)
    return _tables(pmfs, tails, offsets)


@torch.no_grad()
def factorized_tables(prior: FactorizedPrior) -> CdfTables:
    """One table per channel of a float64 prior, for integer symbols round(z - median)."""
    medians = prior.quantiles[:, :, 1:2].cpu()
    prior = prior.cpu()
    reach = 16
    while True:
        edges = medians + torch.arange(-reach, reach + 2, dtype=torch.float64) - 0.5
        logits = prior._logits_cumulative(edges, stop_gradient=True)[:, 0]
        below, above = torch.sigmoid(logits), torch.sigmoid(-logits)
        covered = (below[:, 0] < TAIL_MASS) & (above[:, -1] < TAIL_MASS)
        if bool(covered.all()) or reach >= _LARGEST_SUPPORT:
            break
        reach *= 2
    pmfs, tails, offsets = [], [], []
    for cdf, survival in zip(below, above, strict=True):
        mass = torch.where(cdf[1:] < 0.5, cdf[1:] - cdf[:-1], survival[:-1] - survival[1:]).clamp_min(0)
        kept = torch.nonzero((cdf[1:] > TAIL_MASS / 2) & (survival[:-1] > TAIL_MASS / 2)).flatten()
        first, last = int(kept[0]), int(kept[-1])
        pmfs.append(mass[first : last + 1])
        tails.append(float(cdf[first] + survival[last + 1]))
        offsets.append(first - reach)
    return _tables(pmfs, tails, offsets)


def tables_of_probabilities(probabilities: Tensor) -> CdfTables:
    """One table per row of probabilities, for symbols 0, 1, ...; nothing escapes.

    Args:
        probabilities: float64 (T, S); rows add up to 1.
    """
    rows = [row.clamp_min(0) for row in probabilities]
    return _tables(rows, [0.0] * len(rows), [0] * len(rows))
