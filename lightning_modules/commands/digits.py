"""What the digits codec asks of `compress` and `decompress`: pictures of 32x32, and labels."""

import argparse

from torch import Tensor, tensor

from lightning_modules.codecs.codec import Codec
from lightning_modules.codecs.digit_networks import SIDE
from lightning_modules.codecs.digits import DigitCodec
from lightning_modules.commands.errors import CommandError
from lightning_modules.commands.pictures import Picture


def labels_of(text: str) -> list[int]:
    """`--label 7` or `--label 7,2,1`.

    Raises:
        ArgumentTypeError: Not digits with commas between them.
    """
    parts = text.split(",")
    if not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a label nor labels with commas between them")
    return [int(part) for part in parts]


def check_labels(codec: Codec, labels: list[int] | None, checkpoint: str) -> None:
    """Refuse labels that the codec has no use for, and their absence where it sends them.

    Raises:
        CommandError: One of these.
    """
    sends = isinstance(codec, DigitCodec) and codec.label is not None
    if labels is None and sends:
        raise CommandError(f"{checkpoint} holds a codec that sends each digit's class: give it with --label")
    if labels is not None and not sends:
        raise CommandError(f"{checkpoint} holds codec {codec.name}, which sends no class: leave --label out")


def stack_of(picture: Picture) -> Tensor:
    """A picture of N digits below each other as (N, 1, 32, 32).

    Raises:
        CommandError: It has colours or another size.
    """
    height, width = picture.x.shape[-2:]
    if not picture.greyscale or width != SIDE or height % SIDE:
        colours = "greyscale" if picture.greyscale else "colour"
        raise CommandError(
            f"is a {colours} picture of {width}x{height}; the digits codec takes greyscale pictures of "
            f"{SIDE}x{SIDE}, or several below each other (`sample --digits` writes some)"
        )
    return picture.x[0, :1].reshape(-1, 1, SIDE, SIDE)


def compress_digits(codec: DigitCodec, picture: Picture, labels: list[int] | None, device: object) -> bytes:
    """The file of a picture of digits.

    Raises:
        CommandError: See `stack_of`.
        ValueError: See `DigitCodec.encode`.
    """
    x = stack_of(picture).to(device)  # type: ignore[call-overload]
    y = None if labels is None else tensor(labels * len(x) if len(labels) == 1 else labels, device=x.device)
    return codec.compress(x, y)


def check_label(codec: Codec, label: int | None, checkpoint: str) -> None:
    """Refuse a class to decode with that the checkpoint's codec does not have.

    Raises:
        CommandError: It is out of range, or the codec has no classes.
    """
    if label is None:
        return
    if not isinstance(codec, DigitCodec):
        raise CommandError(f"{checkpoint} holds codec {codec.name}, whose files have no class: leave --label out")
    if codec.label is None:
        raise CommandError(f"{checkpoint} holds a codec without side information: leave --label out")
    if label >= codec.label.classes:
        raise CommandError(f"--label {label}: there are {codec.label.classes} classes, from 0")
