"""Pictures in and out of the codec: what is converted, and what is refused."""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError
from torch import Tensor

from lightning_modules.codecs.bitstream import MAX_PIXELS
from lightning_modules.commands.errors import CommandError
from lightning_modules.files import write_atomically

PICTURE_SUFFIXES = (".png", ".ppm", ".bmp", ".tif", ".tiff")
"""Lossless formats that decoded pictures can be written in."""

_FORMATS = {".png": "PNG", ".ppm": "PPM", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF"}


class Picture(NamedTuple):
    """A picture as the codec takes it."""

    x: Tensor
    """float32 (1, 3, H, W) in [0, 1]."""
    greyscale: bool
    """The file had one channel."""


def read_picture(path: Path, background: str | None = None) -> Picture:
    """Read an 8-bit picture, upright.

    Greyscale is repeated to three channels and remembered. Transparency has no place in the codec: an opaque alpha
    channel is dropped, any other needs a `background` to be laid on.

    Args:
        path: Any format that Pillow reads.
        background: Colour name or #rrggbb under transparent pixels.

    Raises:
        CommandError: Not a picture, more than 8 bits per channel, several frames, too large, or transparent.
    """
    try:
        with Image.open(path) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise CommandError(f"{path}: {opened.width}x{opened.height} is more than {MAX_PIXELS} pixels")
            if getattr(opened, "n_frames", 1) > 1:
                raise CommandError(f"{path}: has {opened.n_frames} frames; extract the one that you want")  # type: ignore[attr-defined]
            if opened.mode.startswith(("I", "F")):
                raise CommandError(f"{path}: has more than 8 bits per channel ({opened.mode}); convert it to 8 bits")
            image = ImageOps.exif_transpose(opened)
            image.load()
    except CommandError:
        raise
    except FileNotFoundError as error:
        raise CommandError(f"{path}: no such file") from error
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise CommandError(f"{path}: cannot be read as a picture ({error})") from error
    greyscale = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        image = _flatten(image.convert("RGBA"), path, background)
    pixels = np.array(image.convert("RGB"), dtype=np.uint8)
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float().div(255)
    return Picture(x, greyscale and background is None)


def _flatten(image: Image.Image, path: Path, background: str | None) -> Image.Image:
    if background is None:
        if image.getchannel("A").getextrema() == (255, 255):
            return image
        raise CommandError(
            f"{path}: has transparent pixels, which the codec cannot carry; lay it on a colour: --background white"
        )
    try:
        colour = ImageColor.getcolor(background, "RGBA")
    except ValueError as error:
        raise CommandError(f"--background {background}: not a colour; use a name or #rrggbb") from error
    return Image.alpha_composite(Image.new("RGBA", image.size, colour), image)


def write_picture(path: Path, x_hat: Tensor, greyscale: bool) -> None:
    """Write a reconstruction (1, 3, H, W), clamped and rounded to 8 bits, losslessly and atomically."""
    pixels = x_hat[0].float().clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    (image.convert("L") if greyscale else image).save(buffer, _FORMATS[path.suffix.lower()])
    write_atomically(path, lambda draft: draft.write_bytes(buffer.getvalue()))
