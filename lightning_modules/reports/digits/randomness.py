"""How much randomness noise holds, and how much perfect perceptual quality needs (Theorem 4 and appendix B.4)."""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import norm

SOURCE_BITS = 1105.44
"""H(X) of an MNIST image in bits, for which B.4 takes the lossless rate of Townsend et al. (2018), 1.41 bits for each
of 28x28 pixels."""
PRINTED_ENTROPY = 26.55
"""Bits per dimension of float32 noise that B.4 prints."""

_DENSITY_BELOW = 2.0**-12
"""Where the difference of two probabilities near 1/2 loses its digits, and density times width is exact to them."""


def noise_entropy(samples: int = 10**6, seed: int = 0) -> float:
    """Entropy of one float32 number of N(0, 1) noise in bits, by the Monte Carlo estimate of B.4.

    Each sample w is rounded to float32; with its neighbours w- and w+ the width of what rounds to it is taken as
    (w+ - w-) / 2, its probability as that of the interval of this width around it, and its information as
    -log2 of that. Probabilities are float64, from the tail beyond |w|: in float32, and from the other side, they
    vanish. The standard error at 10^6 samples is 0.0015.

    Args:
        samples: how many numbers are drawn.
        seed: of `numpy.random.default_rng`.

    Raises:
        ValueError: `samples` is below 1.
    """
    if samples < 1:
        raise ValueError(f"samples is {samples}; the entropy needs at least 1")
    drawn = np.abs(np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)
    infinity = np.float32(np.inf)
    above, below = np.nextafter(drawn, infinity), np.nextafter(drawn, -infinity)
    w = drawn.astype(np.float64)
    width = (above.astype(np.float64) - below.astype(np.float64)) / 2
    probability = norm.sf(w - width / 2) - norm.sf(w + width / 2)
    probability = np.where(w < _DENSITY_BELOW, norm.pdf(w) * width, probability)
    return float(-np.log2(probability).mean())


def randomness_needed(source_bits: float, code_bits: float) -> float:
    """Least H(W) in bits for perfect perceptual quality: H(X) - (R0 + 1), and not below 0 (Theorem 4).

    Args:
        source_bits: H(X).
        code_bits: R0, the rate of the one-shot codec.
    """
    return max(0.0, source_bits - (code_bits + 1))


def dimensions_needed(source_bits: float, code_bits: float, h: float) -> int:
    """Least number of noise dimensions of `h` bits each that hold `randomness_needed`.

    Raises:
        ValueError: `h` is not above 0.
    """
    if not h > 0:
        raise ValueError(f"h is {h}; a noise dimension has some entropy")
    return math.ceil(randomness_needed(source_bits, code_bits) / h)
