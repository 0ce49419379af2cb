"""Kernel Inception distance, by torch-fidelity."""

import math
from typing import NamedTuple

from torch import Tensor
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

from callbacks.metrics.frechet import check_features

SUBSETS = 100
SUBSET_SIZE = 1000
DEGREE = 3
SEED = 2020


class KernelDistance(NamedTuple):
    """KID, and how it was estimated."""

    mean: float
    """Mean of the estimates. It is unbiased, so it can be slightly negative."""
    std: float
    """Standard deviation of the estimates; `nan` for a single one."""
    subsets: int
    subset_size: int


def kernel_distance(real: Tensor, fake: Tensor) -> KernelDistance:
    """Squared MMD with the kernel (x·y / D + 1)³ (Bińkowski et al., "Demystifying MMD GANs", ICLR 2018).

    torch-fidelity's estimator with its defaults: the unbiased estimate on each of 100 random subsets of 1000
    samples, seed 2020. With fewer samples than 1000 it is one unbiased estimate on all of them (with sets of
    different sizes: on as many as the smaller has). It computes in float64: a small distance is the difference of
    float32 sums that agree in nearly all their digits.

    Args:
        real: float (N, D).
        fake: float (M, D).

    Raises:
        ValueError: fewer than 2 samples, different widths, or values that are not finite.
    """
    check_features(real, fake, least=2)
    size = min(len(real), len(fake))
    subsets = SUBSETS if size >= SUBSET_SIZE else 1
    size = min(size, SUBSET_SIZE)
    estimate = kid_features_to_metric(
        real.double(),
        fake.double(),
        kid_subsets=subsets,
        kid_subset_size=size,
        kid_kernel="poly",
        kid_kernel_poly_degree=DEGREE,
        kid_kernel_poly_gamma=None,
        kid_kernel_poly_coef0=1,
        rng_seed=SEED,
        verbose=False,
    )
    std = estimate[KEY_METRIC_KID_STD] if subsets > 1 else math.nan
    return KernelDistance(estimate[KEY_METRIC_KID_MEAN], std, subsets, size)
