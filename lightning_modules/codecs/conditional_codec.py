"""What two-stage training asks of a codec: a code that an MSE decoder g1 and a perceptual decoder g2 both read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from lightning_modules.codecs.codec import Codec, CodecOutput
from lightning_modules.codecs.fingerprint import digest
from lightning_modules.codecs.keyed_noise import keyed_normal

NOISE = 0
"""Purpose of the noise W that g2 and stochastic decoders read; see `keyed_noise`."""

Start = Literal["g1", "random"]
"""How g2 begins: as g1, or with random weights."""


class ConditionalOutput(CodecOutput):
    """Result of a conditional codec's forward pass."""

    code: Tensor
    """What g2 and its critic read of the file, (B, C, h, w): the quantised code, or what g1 made of it, and Y
    embedded beside it. Of images that the codec pads it has the padded size."""


class Stored(Protocol):
    """What a file holds, as far as decoders need it."""

    @property
    def keys(self) -> Tensor:
        """int64 (B,): seeds of the decoders' noise, drawn from the file's payload."""


class PerceptualDecoder(nn.Module, ABC):
    """g2: reads the code and noise W, and draws an image from p(X | M, Y)."""

    noise_dim: int
    """Length of W; 0 for a deterministic decoder."""

    @abstractmethod
    def forward(self, code: Tensor, noise: Tensor) -> Tensor:
        """Images (B, C, H, W), not clamped, from a code as in `ConditionalOutput` and noise (B, noise_dim)."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Constructor arguments as plain values."""

    def start_from(self, g1: nn.Module) -> None:
        """Begin as g1 does, before the first step of stage 2."""


class ConditionalCodec(Codec):
    """A codec with side information Y, decoded by g1 and, once attached, by g2.

    Between the two lie all x_a = (1 - a) g1 + a g2: fidelity at a = 0, realism at a = 1, from the same bits. Since g1
    is nearly the conditional mean, MSE(a) = MSE_1 + a² (MSE_2 - MSE_1) (Freirich et al., 2021; Yan et al., 2022).
    """

    encoder_parts: ClassVar[tuple[str, ...]]
    """Children that only the encoder needs."""
    fixed_rate: ClassVar[bool]
    """Whether the length of the code sets the rate, so that there is no λ."""
    recorded_sizes: ClassVar[tuple[str, ...]]
    """Constructor arguments that records tell beside the setting."""
    noise_dim: int = 0
    """Noise inputs of g1, for codecs that are trained jointly with one stochastic decoder."""
    g1: nn.Module
    perceptual: PerceptualDecoder | None
    """g2, where a checkpoint of the second stage was loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.perceptual = None

    # -- what a codec of this kind defines --------------------------------------------------------------------------

    @abstractmethod
    def rate_setting(self) -> dict[str, Any]:
        """What of the codec sets its rate, for records; nothing where λ does."""

    @property
    @abstractmethod
    def side_information_kind(self) -> str:
        """What Y is, in a word or two for records; "none" without."""

    @abstractmethod
    def side_information(self, batch: Mapping[str, Any]) -> Tensor | None:
        """Y of a batch, None for a codec without side information.

        Raises:
            SettingError: The batch lacks it, or it is out of range.
        """

    @abstractmethod
    def forward(self, x: Tensor, y: Any = None, keys: Tensor | None = None) -> ConditionalOutput:
        """As `Codec.forward`, with the code."""

    @abstractmethod
    def code(self, x: Tensor, y: Tensor | None) -> Tensor:
        """What g2 reads of the file of images, without gradient: `ConditionalOutput.code` alone."""

    @abstractmethod
    def code_shape(self) -> tuple[int, int, int, int]:
        """Shape of the code of one small picture, on which operations are counted."""

    @abstractmethod
    def by_g1(self, code: Tensor, keys: Tensor | None) -> Tensor:
        """The picture that g1 makes of a code, float32 (B, C, H, W), not clamped."""

    @abstractmethod
    def perceptual_decoder(self, noise_dim: int | None, start: Start) -> PerceptualDecoder:
        """A new g2 for this codec; `noise_dim` None takes the paper's."""

    @abstractmethod
    def load_perceptual(self, config: Mapping[str, Any]) -> PerceptualDecoder:
        """A g2 of the sizes that `PerceptualDecoder.config` told."""

    @abstractmethod
    def read(self, data: bytes) -> Stored:
        """What a file holds.

        Raises:
            BitstreamError: Any of its subclasses.
        """

    @abstractmethod
    def code_of(self, stored: Any) -> Tensor:
        """What decoders read of a file's content."""

    @abstractmethod
    def size_of(self, stored: Any) -> tuple[int, int]:
        """Height and width of the pictures of a file's content."""

    def padded(self, x: Tensor) -> Tensor:
        """Images as large as what decoders make of their code; codecs that pad override this."""
        return x

    # -- what follows from it ---------------------------------------------------------------------------------------

    def fingerprint_parts(self) -> dict[str, nn.Module]:
        """The networks that a file cannot be read without: all but encoder and g2."""
        left_out = (*self.encoder_parts, "perceptual")
        return {name: part for name, part in self.named_children() if name not in left_out}

    def fingerprint(self) -> str:
        """SHA-256 over sizes and the decoder's networks. Not over g2: one file serves both decoders."""
        return digest(repr(self.config()), self.fingerprint_parts())

    def pictures(self, code: Tensor, keys: Tensor, g2: PerceptualDecoder | None) -> tuple[Tensor, Tensor]:
        """What both decoders make of a code, in float32 whatever precision the run trains in.

        Args:
            code: What they read.
            keys: int64 (B,): seeds of the noise.
            g2: The perceptual decoder, or None.

        Returns:
            Pictures by g1 and by g2, not clamped; g1's twice where there is no g2.
        """
        with torch.autocast(code.device.type, enabled=False):
            x_mse = self.by_g1(code, keys.to(code.device))
            if g2 is None:
                return x_mse, x_mse
            # Drawn where the keys are: a file's are on the CPU, so that a GPU's own logarithm changes no picture.
            return x_mse, g2(code, keyed_normal(keys, g2.noise_dim, NOISE).to(code.device))

    @torch.no_grad()
    def show(self, stored: Stored, realism: float | None = None) -> Tensor:
        """Decode what a file holds.

        Args:
            stored: What `read` gave.
            realism: 0 for g1, 1 for g2, or between; None takes g2 where there is one.

        Returns:
            (B, C, H, W), not clamped.

        Raises:
            ValueError: `realism` is outside [0, 1], or above 0 without g2.
        """
        return self._shown(self.code_of(stored), stored, realism)

    def _shown(self, code: Tensor, stored: Stored, realism: float | None) -> Tensor:
        a = float(self.perceptual is not None) if realism is None else realism
        if a and self.perceptual is None:
            raise ValueError(f"realism {a} needs a perceptual decoder g2; only g1 was trained")
        height, width = self.size_of(stored)
        return interpolate(*self.pictures(code, stored.keys, self.perceptual), a)[..., :height, :width]

    @torch.no_grad()
    def decompress(self, data: bytes, realism: float | None = None) -> Tensor:
        """The picture of a file, (1, 3, H, W), not clamped.

        Args:
            data: The file.
            realism: See `show`.

        Raises:
            BitstreamError: Any of its subclasses.
            ValueError: See `show`.
        """
        return self.show(self.read(data), realism)


def interpolate(x_mse: Tensor, x_perceptual: Tensor, realism: float) -> Tensor:
    """x_a = (1 - a) x_mse + a x_perceptual (section 4.2); the ends are exact.

    Args:
        x_mse: Picture by g1.
        x_perceptual: Picture by g2, of the same shape.
        realism: a in [0, 1].

    Raises:
        ValueError: a is outside.
    """
    check_realism(realism)
    if realism in (0, 1):
        return x_perceptual if realism else x_mse
    return torch.lerp(x_mse, x_perceptual, realism)


def check_realism(realism: float) -> None:
    """Refuse what is no place between the two decoders.

    Raises:
        ValueError: It is outside [0, 1].
    """
    if not 0 <= realism <= 1:
        raise ValueError(f"realism {realism} is outside 0 (fidelity) to 1 (realism)")
