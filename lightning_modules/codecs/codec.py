"""What every codec is: a module that trains by likelihoods and codes to real bytes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple, NotRequired, TypedDict

import torch
from torch import Tensor, nn

from lightning_modules.codecs.bitstream import (
    FINGERPRINT_DIGITS,
    Bitstream,
    LatentMismatchError,
    WrongCodecError,
    WrongWeightsError,
)
from lightning_modules.codecs.complexity import macs_by_part

COMPLEXITY_SIDE = 256
"""Side of the image that operations are counted on."""

CODEC_IDS = {"elic": 1, "taco": 2, "digits": 3, "conditional_hyperprior": 4}
"""Codec names by their id in the file header. Ids are never reused."""


def check_origin(stream: Bitstream, codec: str, fingerprint: str) -> None:
    """Refuse a file that another codec wrote.

    Args:
        stream: The parsed file.
        codec: Name of the codec that shall read it.
        fingerprint: Of its weights.

    Raises:
        WrongCodecError: It is of another kind.
        WrongWeightsError: It has other weights.
    """
    if stream.codec_id != CODEC_IDS[codec]:
        written = {i: n for n, i in CODEC_IDS.items()}.get(stream.codec_id, f"number {stream.codec_id}")
        raise WrongCodecError(f"written by codec {written}, but the checkpoint holds codec {codec}")
    if stream.fingerprint != fingerprint[:FINGERPRINT_DIGITS]:
        raise WrongWeightsError(
            f"written with weights {stream.fingerprint}, but the checkpoint holds "
            f"{fingerprint[:FINGERPRINT_DIGITS]}: give the checkpoint that it was written with"
        )


def check_latents(stream: Bitstream, checksum: int) -> None:
    """Refuse latents that are not those that were encoded.

    Args:
        stream: The parsed file.
        checksum: Of the decoded symbols.

    Raises:
        LatentMismatchError: They differ.
    """
    if checksum != stream.latent_checksum:
        raise LatentMismatchError(
            "the decoded latents differ from the encoded ones: the payload is damaged, or this machine computes "
            "otherwise than the one that wrote the file"
        )


class CodecOutput(TypedDict):
    """Result of a codec's forward pass."""

    x_hat: Tensor
    """(B, 3, H, W); not clamped."""
    likelihoods: dict[str, Tensor]
    """Likelihood of every latent symbol, batch first; bits are -log2, summed."""
    y_hat: NotRequired[Tensor]


class Encoded(NamedTuple):
    """A coded image."""

    data: bytes
    """The file."""
    likelihoods: Callable[[], dict[str, Tensor]]
    """Computes the float64 likelihoods of the coded latents, as in `CodecOutput`; coding does not need them."""


class Codec(nn.Module, ABC):
    """Base of all codecs."""

    name: ClassVar[str]

    @abstractmethod
    def forward(self, x: Tensor, y: object = None, keys: Tensor | None = None) -> CodecOutput:
        """Train or evaluate.

        In training mode latents get noise (for the rate) and straight-through rounding (for the picture). In eval
        mode they are rounded exactly as when coding, so x_hat equals `decompress(compress(x))`.

        Args:
            x: (B, 3, H, W) in [0, 1], any H and W from 1 up.
            y: Side information, of the kind that the codec takes.
            keys: int64 (B,): seeds of the samples' quantisation noise; None for torch's global generator.
        """

    @abstractmethod
    def encode(self, x: Tensor, y: object = None, *, greyscale: bool = False) -> Encoded:
        """One image (1, 3, H, W) in [0, 1] to the bytes of a file, with what they should have cost.

        Args:
            x: The image.
            y: Side information.
            greyscale: Noted in the file for whoever writes the decoded picture.
        """

    def file(self, coded: tuple[bytes, int], height: int, width: int, greyscale: bool) -> bytes:
        """A payload and the checksum of its symbols as a file of this codec.

        Raises:
            ValueError: See `Bitstream.to_bytes`.
        """
        payload, checksum = coded
        stream = Bitstream(
            codec_id=CODEC_IDS[self.name],
            fingerprint=self.fingerprint()[:FINGERPRINT_DIGITS],
            width=width,
            height=height,
            greyscale=greyscale,
            payload=payload,
            latent_checksum=checksum,
        )
        return stream.to_bytes()

    def compress(self, x: Tensor, y: object = None, *, greyscale: bool = False) -> bytes:
        """The bytes of `encode` alone."""
        return self.encode(x, y, greyscale=greyscale).data

    @abstractmethod
    def decompress(self, data: bytes) -> Tensor:
        """Bytes of a file to x_hat (1, 3, H, W), not clamped.

        Raises:
            BitstreamError: Any of its subclasses.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Hexadecimal digest of everything that the decoder computes with."""

    @abstractmethod
    def config(self) -> dict[str, object]:
        """Constructor arguments as plain values."""

    def auxiliary_loss(self) -> Tensor:
        """Loss of the auxiliary parameters (quantiles); its gradient reaches nothing else."""
        raise NotImplementedError

    def parameter_counts(self) -> dict[str, int]:
        """Number of parameters by part that has any."""
        counts = {name: sum(p.numel() for p in part.parameters()) for name, part in self.named_children()}
        return {name: count for name, count in counts.items() if count}

    def kmacs_per_pixel(self, y: object = None) -> dict[str, float]:
        """Thousands of multiply-accumulate operations per pixel, by part: one pass over a 256x256 image.

        Args:
            y: Side information of one image.
        """
        device = next(self.parameters()).device
        x = torch.zeros(1, 3, COMPLEXITY_SIDE, COMPLEXITY_SIDE, device=device)
        training = self.training
        # In training mode every part runs once, as itself; when coding, a float64 copy of some would run.
        self.train()
        try:
            macs = macs_by_part(
                dict(self.named_children()), lambda: self(x, y, torch.zeros(1, dtype=torch.int64, device=device))
            )
        finally:
            self.train(training)
        return {name: count / 1000 / COMPLEXITY_SIDE**2 for name, count in macs.items()}
