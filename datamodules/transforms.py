"""Crops. The published recipe has no flips, no resizes and no colour changes, so neither has this file.

A crop is a callable `(image, key) -> image` on PIL images: cropping before the conversion to float spares
converting pixels that are thrown away.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datamodules.errors import DataError

Crop = Callable[[Image.Image, int], Image.Image]
"""Takes an image and the sample's 63-bit key, and returns an image."""


@dataclass(frozen=True)
class RandomCrop:
    """A `size` x `size` crop, uniform over all positions, drawn from a generator seeded with the key alone.

    Raises:
        DataError: the image is smaller than `size` on a side.
    """

    size: int

    def __call__(self, image: Image.Image, key: int) -> Image.Image:
        """Crop at the position that the key draws."""
        width, height = _room(image, self.size)
        generator = torch.Generator().manual_seed(key)
        left = int(torch.randint(width + 1, (), generator=generator))
        top = int(torch.randint(height + 1, (), generator=generator))
        return image.crop((left, top, left + self.size, top + self.size))


@dataclass(frozen=True)
class CentreCrop:
    """The central `size` x `size` pixels; where the margin is odd, the extra pixel is left on the right and
    below.

    Raises:
        DataError: the image is smaller than `size` on a side.
    """

    size: int

    def __call__(self, image: Image.Image, key: int) -> Image.Image:
        """Crop in the middle, whatever the key."""
        width, height = _room(image, self.size)
        left, top = width // 2, height // 2
        return image.crop((left, top, left + self.size, top + self.size))


def full_size(image: Image.Image, key: int) -> Image.Image:
    """Return the image as it is."""
    return image


def to_tensor(image: Image.Image) -> Tensor:
    """Convert an 8-bit RGB image to float32 (3, H, W) in [0, 1]."""
    # In NumPy: PyTorch would start threads for each of these small operations, which is slower.
    pixels = np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1)).astype(np.float32)
    pixels /= 255
    return torch.from_numpy(pixels)


def _room(image: Image.Image, size: int) -> tuple[int, int]:
    """Return by how much the image is wider and higher than the crop."""
    width, height = image.width - size, image.height - size
    if width < 0 or height < 0:
        raise DataError(
            f"the image is {image.width}x{image.height}, smaller than the {size}x{size} crop: "
            "lower --data.crop_size (or --data.test_crop), or remove the image"
        )
    return width, height
