"""Learned perceptual image patch similarity."""

from typing import Literal

import torch
from torch import Tensor

from callbacks.metrics.precision import full_float32
from callbacks.metrics.value import NotAvailable, Value
from lightning_modules.losses.lpips_network import LpipsNet, LpipsNetwork

InputRange = Literal["[-1,1]", "[0,1]"]

MIN_SIDE: dict[LpipsNet, int] = {"alex": 31, "vgg": 16}
"""Below this, pooling leaves the backbone no pixel."""


@torch.no_grad()
def lpips_distance(
    network: LpipsNetwork, net: LpipsNet, image: Tensor, x_hat: Tensor, input_range: InputRange = "[-1,1]"
) -> list[Value]:
    """LPIPS per image, in float32 without TF32.

    Args:
        network: from `load_lpips(net, ...)`, on the device of the images.
        net: its backbone.
        image: float (B, 3, H, W) in [0, 1].
        x_hat: like `image`.
        input_range: what the network is fed. It was trained on [-1, 1]; "[0,1]" feeds the images as they are,
            which is what the TACO authors did, so it is needed to compare with their published figures.

    Returns:
        B distances, at least 0 (lower is better), or `NotAvailable` for images too small for the backbone.
    """
    if min(image.shape[-2:]) < MIN_SIDE[net]:
        return [NotAvailable(f"LPIPS ({net}) needs both sides of at least {MIN_SIDE[net]} pixels")] * len(image)
    if input_range == "[-1,1]":
        image, x_hat = 2 * image - 1, 2 * x_hat - 1
    with full_float32():
        return network(image, x_hat).tolist()
