"""Small street-scenes codecs and modules, always with the same weights, and label maps with structure."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from lightning_modules.codecs.conditional_hyperprior import ConditionalHyperprior
from lightning_modules.codecs.label_map_prior import LabelMapPrior

CLASSES = 5


def random_maps(count: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Label maps int64 (count, height, width): a row of rectangles over a background."""
    generator = torch.Generator().manual_seed(seed)
    maps = torch.zeros(count, height, width, dtype=torch.int64)
    for each in maps:
        for label in range(1, CLASSES):
            top, left = (int(torch.randint(0, side, (), generator=generator)) for side in (height, width))
            each[top : top + height // 2 + 1, left : left + width // 3 + 1] = label
    return maps


def small_hyperprior(classes: int = CLASSES, fitted: bool = True, **overrides: Any) -> ConditionalHyperprior:
    """A narrow codec that uses its entropy model: latents of some size, a fitted label prior."""
    torch.manual_seed(0)
    codec = ConditionalHyperprior(**{"classes": classes, "N": 8, "M": 12, **overrides})
    with torch.no_grad():
        codec.g_a.layers[-1].weight *= 20  # so that latents are not all zero
        codec.h_a.layers[-1].weight *= 20
    if classes and fitted:
        assert codec.label_prior is not None
        codec.label_prior.load_state_dict(fitted_prior(classes))
    return codec.eval()


@lru_cache
def fitted_prior(classes: int) -> dict[str, Tensor]:
    """What a label prior has learned of `random_maps`; fitting takes seconds."""
    prior = LabelMapPrior(classes)
    prior.fit(random_maps(5, 64, 96, seed=1), 8)
    return prior.state_dict()


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    """(1, 3, H, W) with structure."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, -(-height // 8), -(-width // 8), generator=generator)
    fine = torch.nn.functional.interpolate(coarse, scale_factor=8, mode="bilinear")[..., :height, :width]
    return (fine + 0.1 * torch.rand(fine.shape, generator=generator)).clamp(0, 1)
