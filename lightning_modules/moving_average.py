"""The moving average of a network's weights, which is often better than the network."""

import torch
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

_ESTIMATES = ("._u", "._v")  # the last part of the names that torch's spectral_norm gives to its singular vectors


@torch.no_grad()
def average_weights(mean: nn.Module, network: nn.Module, decay: float) -> None:
    """Move an average towards a network: parameters, and statistics such as BatchNorm's.

    Spectral norm's estimates of singular vectors are not averaged: a mean of unit vectors is shorter than one, so the
    norm would come out too small and the layer too large. The average has estimates of its own, of its own weights,
    which take one power iteration here, as those of a network do in each training step.

    Args:
        mean: The average, in eval mode; changed in place.
        network: Of the same architecture.
        decay: Share of the average that stays.
    """
    state = network.state_dict()
    for name, kept in mean.state_dict().items():
        if name.endswith(_ESTIMATES):
            continue
        if kept.is_floating_point():
            kept.lerp_(state[name], 1 - decay)
        else:
            kept.copy_(state[name])
    for module in mean.modules():
        estimated = any(name.endswith(_ESTIMATES) for name, _ in module.named_buffers())
        if isinstance(module, ParametrizationList) and estimated:
            module.train()
            module()  # in training mode this takes the power iteration
            module.eval()
