"""Fréchet distance between two sets of features: FID with Inception's."""

import torch
from torch import Tensor

_QR_ROWS = 8192
"""Rows that are reduced at a time: bounds the float64 copy, whatever the number of samples."""


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """Squared Fréchet distance of the Gaussians fitted to two sets (Heusel et al., 2017), exact, in float64.

    |μ₁ - μ₂|² + tr(Σ₁ + Σ₂ - 2 (Σ₁ Σ₂)^½), with covariances divided by n - 1. They are never formed: with the
    centred samples divided by √(n - 1) as the rows of A and B, Σ₁ = AᵀA and Σ₂ = BᵀB, so the traces are squared
    Frobenius norms and tr (Σ₁ Σ₂)^½ is the nuclear norm of A Bᵀ. That holds for singular covariances (fewer samples
    than dimensions) without a matrix root or an offset on the diagonal. With more samples than dimensions the
    triangular factors of A and B stand for them, so no matrix is larger than min(n, D) x min(n, D).

    Args:
        real: float (N, D).
        fake: float (M, D).

    Returns:
        At least 0. It is biased upwards by about 1/n, strongly where n is below D: compare at equal n only.

    Raises:
        ValueError: fewer than 2 samples, different widths, or values that are not finite.

    >>> x = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    >>> frechet_distance(x, x + torch.tensor([3.0, 4.0]))
    25.0
    """
    check_features(real, fake, least=2)
    shift, a = _fitted(real)
    other, b = _fitted(fake)
    cross = torch.linalg.svdvals(a @ b.T).sum()
    distance = (shift - other).square().sum() + a.square().sum() + b.square().sum() - 2 * cross
    return max(distance.item(), 0.0)  # rounding can take the distance of equal sets below 0


def check_features(real: Tensor, fake: Tensor, least: int) -> None:
    """Refuse sets of features that have no distance.

    Args:
        real: (N, D).
        fake: (M, D).
        least: the samples that each set needs.

    Raises:
        ValueError: fewer than `least` samples, different widths, or values that are not finite.
    """
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        raise ValueError(
            f"features must be (N, D) and (M, D) with one D, not {tuple(real.shape)} and {tuple(fake.shape)}"
        )
    for side, features in (("real", real), ("fake", fake)):
        if len(features) < least:
            raise ValueError(f"{len(features)} {side} samples; at least {least} are needed")
        if not features.isfinite().all():
            rows = (~features.isfinite().all(dim=1)).nonzero().flatten().tolist()
            raise ValueError(f"{side} features are not finite, in rows {rows[:5]} and {len(rows)} in all")


def _fitted(features: Tensor) -> tuple[Tensor, Tensor]:
    """The mean (D,), and a factor F of at most D rows with FᵀF = the covariance, both float64."""
    blocks = features.split(_QR_ROWS)
    mean = torch.stack([rows.double().sum(dim=0) for rows in blocks]).sum(dim=0) / len(features)
    scale = (len(features) - 1) ** -0.5
    if len(features) <= features.shape[1]:
        return mean, (features.double() - mean) * scale
    factor = mean.new_empty(0, features.shape[1])
    for rows in blocks:
        factor = torch.linalg.qr(torch.cat([factor, (rows.double() - mean) * scale]), mode="r").R
    return mean, factor
