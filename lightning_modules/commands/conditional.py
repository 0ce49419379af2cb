"""What codecs with side information and two decoders ask of `compress` and `decompress`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from lightning_modules.codecs.codec import Codec
from lightning_modules.codecs.conditional_codec import ConditionalCodec, check_realism
from lightning_modules.codecs.conditional_hyperprior import ConditionalHyperprior
from lightning_modules.commands.errors import CommandError


def check_realism_option(codec: Codec, realism: float | None, checkpoint: str) -> None:
    """Refuse a place between decoders that the checkpoint's codec does not have.

    Raises:
        CommandError: `--realism` out of range, without a perceptual decoder, or of a codec with one decoder.
    """
    if realism is None:
        return
    if not isinstance(codec, ConditionalCodec):
        raise CommandError(f"{checkpoint} holds codec {codec.name}, which has one decoder: leave --realism out")
    try:
        check_realism(realism)
    except ValueError as error:
        raise CommandError(f"--realism {realism}: it is from 0 (fidelity) to 1 (realism)") from error
    if realism and codec.perceptual is None:
        raise CommandError(
            f"{checkpoint} holds no perceptual decoder, so --realism can only be 0: train stage 2 (fit -c "
            f"configs/{'digits' if codec.fixed_rate else 'streets'}_two_stage.yaml), or give the checkpoint of a run "
            "that has"
        )


def check_label_maps(codec: Codec, label_maps: str | None, checkpoint: str) -> None:
    """Refuse label maps that the codec has no use for, and their absence where it sends them.

    Raises:
        CommandError: One of these.
    """
    sends = isinstance(codec, ConditionalHyperprior) and codec.label_map is not None
    if label_maps is None and sends:
        raise CommandError(
            f"{checkpoint} holds a codec that sends each picture's label map: give it with --label_maps, a PNG of "
            "class numbers, or a folder of such with the names of the pictures"
        )
    if label_maps is not None and not sends:
        raise CommandError(f"{checkpoint} holds codec {codec.name}, which sends no label map: leave --label_maps out")


def read_label_map(codec: ConditionalHyperprior, label_maps: str, picture: Path, x: Tensor) -> Tensor:
    """The label map of a picture as the codec takes it, int64 (1, ⌈H/8⌉, ⌈W/8⌉).

    Args:
        codec: A codec that sends label maps.
        label_maps: The map, or a folder with one of the picture's name.
        picture: The picture's file.
        x: The picture, (1, 3, H, W).

    Raises:
        CommandError: The map is missing, no picture of class numbers, of another size, or has classes out of range.
    """
    path = Path(label_maps)
    if path.is_dir():
        path = path / f"{picture.stem}.png"
    if not path.is_file():
        raise CommandError(f"{path} does not exist: it should hold the label map of {picture.name}")
    try:
        with Image.open(path) as image:
            values, mode = np.array(image), image.mode
    except (OSError, UnidentifiedImageError) as error:
        raise CommandError(f"{path}: cannot be read as a picture ({error})") from error
    if values.ndim != 2:
        raise CommandError(f"{path}: has colours; a label map has one channel, whose values are class numbers")
    if not np.issubdtype(values.dtype, np.integer):
        what = "black and white, 1 bit per pixel" if values.dtype == np.bool_ else f"of {values.dtype} values"
        raise CommandError(
            f"{path}: is {what} (mode {mode}); the values of a label map are class numbers: save it with 8 bits per "
            "pixel"
        )
    kind = codec.label_map
    assert kind is not None
    height, width = x.shape[-2:]
    maps = kind.taken(torch.from_numpy(values.astype(np.int64))[None].to(x.device), height, width)
    if maps is None:
        rows, columns = kind.reduced_size(height, width)
        raise CommandError(
            f"{path}: is {values.shape[1]}x{values.shape[0]} where {picture.name} is {width}x{height}: maps must "
            f"have the image's height and width, or those divided by {kind.scale}, {columns}x{rows}"
        )
    if (wrong := kind.first_wrong(maps)) is not None:
        raise CommandError(
            f"{path}: has class {wrong[1]}, where this checkpoint's codec takes 0..{kind.classes - 1}: correct the "
            "file"
        )
    return maps
