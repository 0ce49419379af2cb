"""Random views of street scenes for training a segmentation network, each a function of its sample's key."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_modules.codecs.keyed_noise import keyed_uniform

_WINDOW, _COLOUR = 0x5E6A, 0x5E6B  # of keyed_uniform: no other draws of a step take them
_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601


def random_windows(images: Tensor, target: Tensor, keys: Tensor, zoom: float) -> tuple[Tensor, Tensor]:
    """Cut a window out of each image and its label map, and magnify both back to the size of the image.

    The window is H / z x W / z pixels with log z uniform from 0 to log `zoom`; its position is uniform over the
    image. Images are interpolated bilinearly; label maps take the nearest value.

    Args:
        images: float32 (B, C, H, W).
        target: int64 (B, H, W), of small numbers: they pass through float32.
        keys: int64 (B,).
        zoom: Greatest magnification, at least 1.

    Returns:
        float32 (B, C, H, W) and int64 (B, H, W).
    """
    u = keyed_uniform(keys, 3, _WINDOW)
    extent = torch.exp(-math.log(zoom) * u[:, 0])
    # Extent and centre in the coordinates of grid_sample, where the image reaches from -1 to 1.
    theta = torch.zeros(len(keys), 2, 3, device=images.device)
    theta[:, 0, 0] = theta[:, 1, 1] = extent
    theta[:, :, 2] = (1 - extent[:, None]) * (2 * u[:, 1:] - 1)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    seen = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    labels = target.unsqueeze(1).float()
    labels = F.grid_sample(labels, grid, mode="nearest", padding_mode="border", align_corners=False)
    return seen, labels.squeeze(1).round().long()


def random_colours(images: Tensor, keys: Tensor, strength: float) -> Tensor:
    """Change brightness, then contrast, then saturation by factors uniform in 1 - strength to 1 + strength.

    Contrast is the distance from the image's mean grey value, saturation that from each pixel's grey value.

    Args:
        images: float32 (B, 3, H, W) in [0, 1].
        keys: int64 (B,).
        strength: From 0 to 1.

    Returns:
        float32 (B, 3, H, W) in [0, 1].
    """
    factors = 1 + strength * (2 * keyed_uniform(keys, 3, _COLOUR) - 1)
    brightness, contrast, saturation = factors.to(images.device)[:, :, None, None, None].unbind(1)
    images = images * brightness
    mean = _grey(images).mean(dim=(1, 2, 3), keepdim=True)
    images = mean + contrast * (images - mean)
    grey = _grey(images)
    return (grey + saturation * (images - grey)).clamp(0, 1)


def _grey(images: Tensor) -> Tensor:
    weights = torch.tensor(_GREY, device=images.device)[None, :, None, None]
    return (images * weights).sum(dim=1, keepdim=True)
