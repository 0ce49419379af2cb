"""Random numbers that are a function of a key per sample and of nothing else.

A training step then gives the same result however the batch is spread over processes, and after a resume; and a
decoder draws the same noise wherever it runs. All samples are drawn at once, on the device of the keys.
"""

import math

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND = 0x94D049BB133111EB - (1 << 64)


def _shifted(x: Tensor, by: int) -> Tensor:
    """Logical shift to the right; that of signed integers is arithmetic."""
    return (x >> by) & ((1 << (64 - by)) - 1)


def mix(x: Tensor) -> Tensor:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), a bijection of int64, elementwise."""
    x = (x ^ _shifted(x, 30)) * _FIRST
    x = (x ^ _shifted(x, 27)) * _SECOND
    return x ^ _shifted(x, 31)


def hashes(keys: Tensor, count: int, purpose: int) -> Tensor:
    """64 random bits for each key and position.

    Args:
        keys: int64 (B,).
        count: Positions per key.
        purpose: Tells apart what a step draws for different ends.

    Returns:
        int64 (B, count).
    """
    salt = torch.tensor(purpose, device=keys.device) * _GOLDEN  # a tensor wraps around where an int would grow
    seeds = mix(mix(keys + _GOLDEN) + salt)
    positions = torch.arange(1, count + 1, device=keys.device)
    return mix(seeds[:, None] + positions * _GOLDEN)


def keyed_uniform(keys: Tensor, count: int, purpose: int) -> Tensor:
    """Uniform in (0, 1), float32 (B, count); see `hashes`."""
    return ((_shifted(hashes(keys, count, purpose), 32).double() + 0.5) / 2**32).float()


def keyed_normal(keys: Tensor, count: int, purpose: int) -> Tensor:
    """Standard normal, float32 (B, count), by Box and Muller in float64; see `hashes`. |z| stays below 6.7."""
    bits = hashes(keys, count, purpose)
    radius = ((_shifted(bits, 32).double() + 0.5) / 2**32).log().mul(-2).sqrt()
    angle = (bits & 0xFFFFFFFF).double() * (2 * math.pi / 2**32)
    return (radius * angle.cos()).float()
