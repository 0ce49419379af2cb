"""ConFID: Fréchet distance within each class."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from callbacks.metrics.frechet import check_features, frechet_distance


class ConditionalFrechet(NamedTuple):
    """ConFID and its classes."""

    value: float
    per_class: dict[int, float]
    """Class -> Fréchet distance within it, sorted by class."""
    samples: dict[int, tuple[int, int]]
    """Class -> number of real and of fake samples."""


def conditional_frechet(real: Tensor, fake: Tensor, labels: Tensor) -> ConditionalFrechet:
    """Σ_y p(y) FID(X | y, X̂ | y) (Xu et al., 2023), p(y) being the share of the class among the samples.

    Args:
        real: float (N, D): features of the originals.
        fake: float (N, D): those of the reconstructions, in the same order.
        labels: int64 (N,): class of each sample.

    Raises:
        ValueError: a class with fewer than 2 samples, different shapes, or values that are not finite.
    """
    _check(real, fake, labels)
    rows = _rows(labels, least=2, purpose="ConFID")
    distances = {y: frechet_distance(real[at], fake[at]) for y, at in rows.items()}
    return _weighted(distances, {y: (len(at), len(at)) for y, at in rows.items()})


def real_floor(real: Tensor, labels: Tensor, seed: int = 0) -> ConditionalFrechet:
    """What `conditional_frechet` gives between originals and originals: the part of it that is bias.

    Each class is split into two random halves; an odd one leaves the larger half to the second side. Halves have half
    the samples, and the bias goes with 1/n, so this floor is about twice that of the value it stands beside.

    Args:
        real: float (N, D): features of the originals.
        labels: int64 (N,): class of each sample.
        seed: of the split. The split depends on the order of the rows, so bring them in one that is reproducible.

    Raises:
        ValueError: a class with fewer than 4 samples, different lengths, or values that are not finite.
    """
    _check(real, real, labels)
    generator = torch.Generator().manual_seed(seed)
    distances, samples = {}, {}
    for y, at in _rows(labels, least=4, purpose="the floor of ConFID").items():
        at = at[torch.randperm(len(at), generator=generator)]
        first, second = at[: len(at) // 2], at[len(at) // 2 :]
        distances[y] = frechet_distance(real[first], real[second])
        samples[y] = (len(first), len(second))
    return _weighted(distances, samples)


def _check(real: Tensor, fake: Tensor, labels: Tensor) -> None:
    check_features(real, fake, least=1)
    if not len(real) == len(fake) == len(labels):
        raise ValueError(
            f"{len(real)} real and {len(fake)} fake samples with {len(labels)} labels; all must be equal"
        )


def _rows(labels: Tensor, least: int, purpose: str) -> dict[int, Tensor]:
    """Class -> its rows."""
    rows = {int(y): (labels == y).nonzero().flatten() for y in labels.unique(sorted=True)}
    if short := {y: len(at) for y, at in rows.items() if len(at) < least}:
        listed = ", ".join(f"class {y} has {count}" for y, count in short.items())
        raise ValueError(f"{purpose} needs at least {least} samples of each class; {listed}")
    return rows


def _weighted(distances: dict[int, float], samples: dict[int, tuple[int, int]]) -> ConditionalFrechet:
    total = sum(sum(counts) for counts in samples.values())
    value = math.fsum(sum(samples[y]) * distance for y, distance in distances.items()) / total
    return ConditionalFrechet(value, distances, samples)
