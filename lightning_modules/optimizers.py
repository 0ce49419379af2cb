"""Optimisers of the two stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

OptimizerName = Literal["rmsprop", "adam"]


def optimizer_of(
    name: OptimizerName,
    network: nn.Module,
    learning_rate: float,
    *,
    betas: tuple[float, float],
    aux_learning_rate: float | None = None,
) -> torch.optim.Optimizer:
    """RMSprop with torch's defaults (appendix B.1, Yan et al.'s code), or Adam.

    Args:
        name: Which.
        network: Whose parameters.
        learning_rate: Of them all but quantiles.
        betas: Of Adam.
        aux_learning_rate: Of the quantiles of an entropy bottleneck, for networks that have some.
    """
    quantiles = [p for key, p in network.named_parameters() if key.endswith("quantiles")]
    groups = [{"params": [p for key, p in network.named_parameters() if not key.endswith("quantiles")]}]
    if quantiles:
        groups.append({"params": quantiles, "lr": aux_learning_rate})  # type: ignore[dict-item]
    if name == "rmsprop":
        return torch.optim.RMSprop(groups, lr=learning_rate)
    return torch.optim.Adam(groups, lr=learning_rate, betas=betas)


def step_decay(
    optimizer: torch.optim.Optimizer, milestones: Sequence[int], decay: float
) -> torch.optim.lr_scheduler.MultiStepLR:
    """Multiply all learning rates by `decay` at each milestone."""
    return torch.optim.lr_scheduler.MultiStepLR(optimizer, list(milestones), decay)
