"""The digits codec of Xu et al. (arXiv 2308.08154, Fig. 8): a binary code of a few bits, with the class as Y."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from lightning_modules.codecs.bernoulli_code import BernoulliCode, binarise
from lightning_modules.codecs.bitstream import Bitstream, CorruptFileError
from lightning_modules.codecs.cdf_tables import CdfTables
from lightning_modules.codecs.codec import Encoded, check_latents, check_origin
from lightning_modules.codecs.complexity import macs_by_part
from lightning_modules.codecs.conditional_codec import NOISE, ConditionalCodec, ConditionalOutput, Start
from lightning_modules.codecs.digit_decoder import DigitDecoder
from lightning_modules.codecs.digit_networks import SIDE, Variant, decoder, encoder
from lightning_modules.codecs.keyed_noise import keyed_normal, mix
from lightning_modules.codecs.range_coder import SymbolDecoder, SymbolEncoder
from lightning_modules.codecs.side_information import ClassLabel


class StoredDigits(NamedTuple):
    """What a file holds."""

    code: Tensor
    """float32 (N, bits, 1, 1) in {-1, +1}."""
    label: Tensor | None
    """int64 (N,), or None for a codec without side information."""
    keys: Tensor
    """int64 (N,): seeds of the decoder's noise, drawn from the payload."""


class DigitCodec(ConditionalCodec):
    """f, g1 and H(M|Y) for images of 32x32 with one channel.

    f sees the image alone; Y, one-hot, stands beside the code after rounding. A file holds any number of digits, as
    one picture of height 32 N: labels first, then codes, in one rANS stream. A single digit of 4.3 bits takes 21
    bytes: the stream's least, 8, and 13 around it. A test set costs its cross-entropy.

    Args:
        bits: Length b of the binary code. It is not the rate: the paper's codecs with Y have 1, 4, 8, 12 and 16,
            those without have 4, 8, 12, 16 and 20, at about equal rates.
        conditional: Whether the class is side information.
        variant: `fig8`, the paper's figure, or `yan`, the code that it follows.
        width: Channels of the first layer; 128 in Fig. 8.
        noise_dim: Noise inputs of g1, for joint training, where one decoder serves both ends; 0 in two stages.

    Raises:
        ValueError: An argument is out of range.
    """

    name: ClassVar[str] = "digits"
    encoder_parts: ClassVar[tuple[str, ...]] = ("f",)
    fixed_rate: ClassVar[bool] = True
    recorded_sizes: ClassVar[tuple[str, ...]] = ("variant", "width")

    def __init__(
        self,
        bits: int = 4,
        conditional: bool = True,
        variant: Variant = "fig8",
        width: int = 128,
        noise_dim: int = 0,
    ) -> None:
        super().__init__()
        if bits < 1:
            raise ValueError(f"codec.bits is {bits}: a code has at least 1")
        if width < 1 or noise_dim < 0:
            raise ValueError(f"codec.width {width} must be at least 1, and codec.noise_dim {noise_dim} at least 0")
        self.bits, self.conditional, self.variant, self.width = bits, conditional, variant, width
        self.noise_dim = noise_dim
        self.label = ClassLabel() if conditional else None
        self.f = encoder(variant, width, bits)
        self.g1: nn.Sequential = decoder(variant, width, self.code_channels + noise_dim)
        self.prior = BernoulliCode(bits, self.label.channels if self.label else 0)

    @property
    def code_channels(self) -> int:
        """Channels that decoders read: the code, and Y beside it."""
        return self.bits + (self.label.channels if self.label else 0)

    def config(self) -> dict[str, object]:
        """Constructor arguments."""
        names = ("bits", "conditional", "variant", "width", "noise_dim")
        return {name: getattr(self, name) for name in names}

    def perceptual_decoder(self, noise_dim: int | None, start: Start = "g1") -> DigitDecoder:
        """A new g2 for this code, with random weights.

        Args:
            noise_dim: Length of W; None fills up to the 100 inputs of Yan et al.'s code.
            start: No matter here; see `DigitDecoder.start_from`.
        """
        noise = max(0, 100 - self.code_channels) if noise_dim is None else noise_dim
        return DigitDecoder(self.variant, self.width, self.code_channels, noise)

    def load_perceptual(self, config: Mapping[str, Any]) -> DigitDecoder:
        """A g2 of the sizes that its `config` told."""
        return DigitDecoder(**config)

    # -- networks ---------------------------------------------------------------------------------------------------

    def rate_setting(self) -> dict[str, Any]:
        """The length of the code."""
        return {"code_bits": self.bits}

    @property
    def side_information_kind(self) -> str:
        """ "label" or "none"."""
        return "label" if self.label else "none"

    def side_information(self, batch: Mapping[str, Any]) -> Tensor | None:
        """Labels int64 (B,) of a batch, None without side information."""
        return self.label.of(batch) if self.label else None

    def embedded(self, code: Tensor, y: Tensor | None) -> Tensor:
        """What decoders read: code (B, bits, 1, 1) and one-hot Y beside it."""
        return torch.cat((code, self.label.embed(y).to(code.dtype)), 1) if self.label and y is not None else code

    def forward(self, x: Tensor, y: Any = None, keys: Tensor | None = None) -> ConditionalOutput:
        """Train or evaluate; rounding is the same in both.

        The rate has no gradient to f: the paper sets it by b alone.

        Args:
            x: (B, 1, 32, 32) in [0, 1].
            y: Labels int64 (B,), for a codec with side information.
            keys: int64 (B,): seeds of the noise, where g1 has noise inputs.
        """
        code = binarise(self.f(x))
        condition = self.label.embed(y) if self.label and y is not None else None
        likelihoods = {"code": self.prior.likelihood(code.detach(), condition)}
        if self.label and y is not None:
            likelihoods["label"] = self.label.likelihood(y)
        read = self.embedded(code, y)
        return {"x_hat": self.by_g1(read, keys), "likelihoods": likelihoods, "code": read}

    @torch.no_grad()
    def code(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Code and one-hot Y of images (B, 1, 32, 32): (B, code_channels, 1, 1)."""
        return self.embedded(self.quantise(x), y)

    def code_shape(self) -> tuple[int, int, int, int]:
        """That of one digit."""
        return 1, self.code_channels, 1, 1

    def by_g1(self, code: Tensor, keys: Tensor | None) -> Tensor:
        """g1 of what `embedded` gave: images (B, 1, 32, 32), not clamped."""
        if self.noise_dim:
            assert keys is not None, "this decoder draws noise from keys"
            noise = keyed_normal(keys, self.noise_dim, NOISE)[:, :, None, None]
            code = torch.cat((code, noise.to(code.dtype)), 1)
        images: Tensor = self.g1(code)
        return images

    # -- coding -----------------------------------------------------------------------------------------------------

    def _tables(self) -> CdfTables:
        labels = torch.arange(self.label.classes, device=next(self.prior.parameters()).device) if self.label else None
        return self.prior.tables(self.label.embed(labels) if self.label and labels is not None else None)

    @torch.no_grad()
    def quantise(self, x: Tensor) -> Tensor:
        """The code of images (N, 1, 32, 32), float32 (N, bits, 1, 1) in {-1, +1}.

        Raises:
            ValueError: Images of another shape.
        """
        if x.dim() != 4 or x.shape[1:] != (1, SIDE, SIDE) or len(x) == 0:
            raise ValueError(f"this codec takes greyscale digits (N, 1, {SIDE}, {SIDE}), not {tuple(x.shape)}")
        with torch.autocast(x.device.type, enabled=False):
            return binarise(self.f(x.float()))

    @torch.no_grad()
    def write(self, code: Tensor, y: Tensor | None) -> bytes:
        """The file of N digits.

        Args:
            code: What `quantise` gave.
            y: Labels int64 (N,), for a codec with side information.

        Raises:
            ValueError: Labels that are missing, too many or out of range.
        """
        coder = SymbolEncoder()
        rows = torch.zeros(len(code), dtype=torch.int64)
        if self.label:
            if y is None or len(y) != len(code):
                raise ValueError(f"this codec sends a label with each of the {len(code)} digits: give as many labels")
            rows = self.label.checked(y).cpu()
            self.label.put(coder, rows)
        self.prior.put(coder, code.flatten(1).cpu(), rows, self._tables())
        return self.file(coder.finish(), SIDE * len(code), SIDE, greyscale=True)

    def encode(self, x: Tensor, y: object = None, *, greyscale: bool = True) -> Encoded:
        """N digits to the bytes of one file.

        Args:
            x: (N, 1, 32, 32) in [0, 1].
            y: Labels int64 (N,), for a codec with side information.
            greyscale: Digits are; the argument is that of every codec.

        Raises:
            ValueError: See `quantise` and `write`.
        """
        code = self.quantise(x)
        labels = y if isinstance(y, Tensor) else None
        return Encoded(self.write(code, labels), lambda: self.likelihoods(code, labels))

    @torch.no_grad()
    def likelihoods(self, code: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        """Float64 likelihoods of a code (N, bits, 1, 1) and its labels: what the file should cost."""
        if self.label is None or y is None:
            return {"code": self.prior.likelihood(code, None).double()}
        code_likelihood = self.prior.likelihood(code, self.label.embed(y)).double()
        return {"code": code_likelihood, "label": self.label.likelihood(y)}

    @torch.no_grad()
    def read(self, data: bytes) -> StoredDigits:
        """What a file holds, on the device of g1.

        Raises:
            BitstreamError: Any of its subclasses.
        """
        stream = Bitstream.from_bytes(data)
        check_origin(stream, self.name, self.fingerprint())
        count, rest = divmod(stream.height, SIDE)
        if stream.width != SIDE or rest:
            raise CorruptFileError(f"a picture of {stream.width}x{stream.height} is no stack of {SIDE}x{SIDE} digits")
        decoder_ = SymbolDecoder(stream.payload, count * (self.bits + 1))
        labels = self.label.get(decoder_, count) if self.label else None
        rows = torch.zeros(count, dtype=torch.int64) if labels is None else labels
        code = self.prior.get(decoder_, rows, self._tables())
        check_latents(stream, decoder_.checksum)
        # The noise is a function of the file, so that every decoder draws the same picture.
        keys = mix(torch.arange(count) + (zlib.crc32(stream.payload) << 20))
        device = next(self.g1.parameters()).device
        placed = None if labels is None else labels.to(device)
        return StoredDigits(code[:, :, None, None].to(device), placed, keys)

    def code_of(self, stored: StoredDigits) -> Tensor:
        """What decoders read of stored digits, (N, code_channels, 1, 1)."""
        return self.embedded(stored.code, stored.label)

    def size_of(self, stored: StoredDigits) -> tuple[int, int]:
        """That of one digit."""
        return SIDE, SIDE

    def relabelled(self, stored: StoredDigits, label: int) -> StoredDigits:
        """Stored digits as if all were of this class.

        Raises:
            ValueError: The codec has no side information, or not this class.
        """
        if self.label is None or stored.label is None:
            raise ValueError("this codec has no side information, so there is no label to decode with")
        return stored._replace(label=self.label.checked(torch.full_like(stored.label, label)))

    @torch.no_grad()
    def decompress(self, data: bytes, realism: float | None = None, label: int | None = None) -> Tensor:
        """One picture (1, 3, 32 N, 32), not clamped: all digits of a file below each other, in three equal channels.

        Args:
            data: The file.
            realism: 0 for g1, 1 for g2, or between; None takes g2 where there is one.
            label: Decode all digits as this class instead of their own.

        Raises:
            BitstreamError: Any of its subclasses.
            ValueError: See `show` and `relabelled`.
        """
        stored = self.read(data)
        images = self.show(stored if label is None else self.relabelled(stored, label), realism)
        return images.reshape(1, 1, -1, SIDE).expand(-1, 3, -1, -1)

    # -- what it is -------------------------------------------------------------------------------------------------

    def kmacs_per_pixel(self, y: object = None) -> dict[str, float]:
        """Thousands of multiply-accumulate operations per pixel, by part, for one digit."""
        device = next(self.parameters()).device
        x = torch.zeros(1, 1, SIDE, SIDE, device=device)
        label = torch.zeros(1, dtype=torch.int64, device=device)
        training = self.training
        self.eval()
        try:
            macs = macs_by_part({"f": self.f, "g1": self.g1}, lambda: self(x, label if self.label else None, label))
        finally:
            self.train(training)
        return {name: count / 1000 / SIDE**2 for name, count in macs.items()}
