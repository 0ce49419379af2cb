"""Perceptual image-error assessment through pairwise preference."""

import piq
import torch
from piq.functional import crop_patches
from piq.pieapp import PieAPPModel
from torch import Tensor

from callbacks.metrics.precision import full_float32
from callbacks.metrics.value import NotAvailable, Value
from callbacks.metrics.weight_file import check_state, read_state, shapes_of

PATCH = 64
"""Side of the patches that the network compares."""
_PATCHES_AT_A_TIME = 32
_PART = "PieAPP network"


def load_pieapp(weights_path: str | None, setting: str) -> PieAPPModel:
    """Build the PieAPP network with its published weights.

    Args:
        weights_path: piq's file `PieAPPv0.1.pth`; `None` takes it from torch.hub.
        setting: the configuration setting that it came from, named in errors.

    Raises:
        PretrainedError: the weights cannot be had, or are those of another network.
    """
    url = piq.PieAPP._weights_url
    state = read_state(_PART, url, weights_path, setting)
    with torch.device("meta"):  # no random weights that would shift the global random state
        network = PieAPPModel()
    scale = "ref_score_subtract.weight"
    if scale in state and state[scale].numel() == 1:
        state[scale] = state[scale].reshape(1, 1)  # the published file has it as a vector
    check_state(state, shapes_of(network), _PART, weights_path or url, setting)
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)


@torch.no_grad()
def pieapp_score(network: PieAPPModel, image: Tensor, x_hat: Tensor, stride: int = 27) -> list[Value]:
    """PieAPP per image (Prashnani et al., "PieAPP: perceptual image-error assessment through pairwise preference",
    CVPR 2018, eq. 6), in float32 without TF32: the weighted mean of the errors of 64 x 64 patches.

    Equal to `piq.PieAPP`, which holds the activations of all patches of all images at once; here a few patches are
    worked on at a time.

    Args:
        network: from `load_pieapp`, on the device of the images.
        image: float (B, 1 or 3, H, W) in [0, 1]. One channel is repeated to three.
        x_hat: like `image`.
        stride: distance of neighbouring patches in pixels.

    Returns:
        B errors (lower is better; 0 for equal images, negative where the network prefers the reconstruction), or
        `NotAvailable` for images with a side under 64 pixels.
    """
    if min(image.shape[-2:]) < PATCH:
        return [NotAvailable(f"PieAPP needs both sides of at least {PATCH} pixels")] * len(image)
    return [_score(network, x, y, stride) for x, y in zip(image, x_hat, strict=True)]


def _score(network: PieAPPModel, image: Tensor, x_hat: Tensor, stride: int) -> float:
    pairs = [crop_patches(255 * side.float().expand(3, -1, -1)[None], PATCH, stride) for side in (image, x_hat)]
    errors, weights = [], []
    with full_float32():
        for real, fake in zip(*(patches.split(_PATCHES_AT_A_TIME) for patches in pairs), strict=True):
            features, coarse = network(real)
            features_hat, coarse_hat = network(fake)
            error, weight = network.compute_difference(features - features_hat, coarse - coarse_hat)
            errors.append(error.double())
            weights.append(weight.double())
    weight = torch.cat(weights)
    return ((torch.cat(errors) * weight).sum() / weight.sum()).item()
