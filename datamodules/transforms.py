"""Crops. The published recipe has no flips and no colour changes, so neither has this file; images are resized only
where a policy for small ones asks for it.

A crop is two things: a place `box(size, key)`, so that a reader can decode no more than it must, and a callable
`(image, key) -> image` on PIL images. Cropping before the conversion to float spares converting pixels that are
thrown away.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datamodules.errors import DataError

SmallImages = Literal["drop", "pad", "resize"]
"""What becomes of an image with a side under the crop's. "drop": it is an error here, and loaders leave it out.
"pad": it is continued by its mirror image on both sides. "resize": it is scaled up, bicubic, until its shorter side
is that of the crop."""

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels of the upright image; right and bottom are outside."""


class SmallImageError(DataError):
    """An image is smaller than the crop."""


class Crop(Protocol):
    """What a reader of images needs to know of a crop."""

    def box(self, size: tuple[int, int], key: int) -> Box | None:
        """What it keeps of an image of (width, height); None where it must see the image, to enlarge it."""

    def __call__(self, image: Image.Image, key: int) -> Image.Image:
        """Crop an RGB image."""


@dataclass(frozen=True)
class _SquareCrop:
    """A `size` x `size` crop.

    Args:
        size: Side in pixels.
        small_images: See `SmallImages`.

    Raises:
        SmallImageError: the image is smaller than `size` on a side, and `small_images` is "drop".
    """

    size: int
    small_images: SmallImages = "drop"

    def box(self, size: tuple[int, int], key: int) -> Box | None:
        """The place in an image of (width, height); None for an image that is enlarged first."""
        if min(size) < self.size:
            if self.small_images == "drop":
                raise SmallImageError(
                    f"the image is {size[0]}x{size[1]}, smaller than the {self.size}x{self.size} crop: lower "
                    "--data.crop_size (or --data.test_crop), remove the image, or enlarge it with --data.small_images"
                )
            return None
        return self._at(*self._corner(size[0] - self.size, size[1] - self.size, key))

    def __call__(self, image: Image.Image, key: int) -> Image.Image:
        """Enlarge where needed, and crop."""
        box = self.box(image.size, key)
        if box is None:
            image = padded(image, self.size) if self.small_images == "pad" else scaled_up(image, self.size)
            box = self._at(*self._corner(image.width - self.size, image.height - self.size, key))
        return image.crop(box)

    def _at(self, left: int, top: int) -> Box:
        return left, top, left + self.size, top + self.size

    def _corner(self, width: int, height: int, key: int) -> tuple[int, int]:
        """Left and top, where the image is larger than the crop by (width, height)."""
        raise NotImplementedError


class RandomCrop(_SquareCrop):
    """A square crop, uniform over all positions, drawn from a generator seeded with the key alone."""

    def _corner(self, width: int, height: int, key: int) -> tuple[int, int]:
        generator = torch.Generator().manual_seed(key)
        left = int(torch.randint(width + 1, (), generator=generator))
        return left, int(torch.randint(height + 1, (), generator=generator))


class CentreCrop(_SquareCrop):
    """The central pixels, whatever the key; where the margin is odd, the extra pixel is on the right and below."""

    def _corner(self, width: int, height: int, key: int) -> tuple[int, int]:
        return width // 2, height // 2


class _FullSize:
    def box(self, size: tuple[int, int], key: int) -> Box:
        return 0, 0, *size

    def __call__(self, image: Image.Image, key: int) -> Image.Image:
        return image


full_size = _FullSize()
"""The crop that keeps everything."""


def padded(image: Image.Image, side: int) -> Image.Image:
    """Continue an RGB image by its mirror image, as often as needed, until no side is under `side` pixels.

    Both ends get the same; where that cannot be, right and bottom get one pixel more. The mirror keeps edges and
    texture going, where repeating the last pixel would teach a codec streaks.
    """
    missing = [max(0, side - length) for length in (image.height, image.width)]
    widths = [(number // 2, number - number // 2) for number in missing]
    return Image.fromarray(np.pad(np.asarray(image), [*widths, (0, 0)], mode="symmetric"))


def scaled_up(image: Image.Image, side: int) -> Image.Image:
    """Scale an RGB image, bicubic, so that its shorter side is `side` pixels; the aspect ratio is kept."""
    shorter = min(image.size)
    width, height = (round(length * side / shorter) for length in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def to_bytes(image: Image.Image) -> Tensor:
    """Take the channels of an 8-bit RGB image apart: uint8 (3, H, W)."""
    # Pillow does it faster than NumPy transposes. PyTorch is not asked to: it would start threads for each of these
    # small operations.
    planes = np.empty((3, image.height, image.width), dtype=np.uint8)
    for plane, channel in zip(planes, "RGB", strict=True):
        plane[...] = np.frombuffer(image.tobytes("raw", channel), dtype=np.uint8).reshape(plane.shape)
    return torch.from_numpy(planes)


def to_unit_range(pixels: Sequence[Tensor], out: Tensor) -> None:
    """Divide uint8 images, B of (3, H, W), by 255 into `out`, float32 (B, 3, H, W) in [0, 1]."""
    for source, target in zip(pixels, out.numpy(), strict=True):
        np.divide(source.numpy(), np.float32(255), out=target)


def to_tensor(image: Image.Image) -> Tensor:
    """Convert an 8-bit RGB image to float32 (3, H, W) in [0, 1]."""
    out = torch.empty(1, 3, image.height, image.width)
    to_unit_range([to_bytes(image)], out)
    return out[0]
