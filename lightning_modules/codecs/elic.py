"""ELIC as the backbone of TACO: 36,932,427 parameters at N=192, M=320.

It is neither of CompressAI's two ELICs: h_s is wider, anchors and non-anchors have parameter networks of their own,
anchors are the odd cells, and y is one stream (Lee et al. 2024, appendix A; the authors' published weights).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.codecs.bitstream import Bitstream
from lightning_modules.codecs.checkerboard import pack
from lightning_modules.codecs.codec import Codec, CodecOutput, Encoded, check_latents, check_origin
from lightning_modules.codecs.entropy import FactorizedPrior, GaussianLikelihood, ste_round, uniform_noise
from lightning_modules.codecs.fingerprint import digest, weights_state
from lightning_modules.codecs.latent_coder import LatentCoder
from lightning_modules.codecs.space_channel_context import SpaceChannelContext
from lightning_modules.codecs.transforms import (
    DOWNSAMPLING,
    AnalysisTransform,
    HyperAnalysis,
    HyperSynthesis,
    SynthesisTransform,
)


class ElicCodec(Codec):
    """ELIC with uneven channel grouping and a packed checkerboard context.

    Args:
        N: Channels inside the transforms; even.
        M: Channels of the latent y.
        slices: Channels per slice of y in coding order; they add up to M. None splits M as the paper splits 320.
        context_hidden: Widths of the channel context networks.
    """

    name: ClassVar[str] = "elic"

    def __init__(
        self,
        N: int = 192,
        M: int = 320,
        slices: Sequence[int] | None = None,
        context_hidden: Sequence[int] = (224, 128),
    ) -> None:
        super().__init__()
        if slices is None:
            slices = [M // 20, M // 20, M // 10, M // 5, M - M // 20 * 2 - M // 10 - M // 5]
        if sum(slices) != M or min(slices) < 1:
            raise ValueError(f"slices={list(slices)} must be positive and add up to M={M}, not to {sum(slices)}")
        self.N, self.M = N, M
        self.slices, self.context_hidden = list(slices), list(context_hidden)
        self.g_a = AnalysisTransform(N, M)
        self.g_s = SynthesisTransform(N, M)
        self.h_a = HyperAnalysis(N, M)
        self.h_s = HyperSynthesis(N, M)
        self.context = SpaceChannelContext(slices, 2 * M, context_hidden)
        self.prior = FactorizedPrior(N)
        self.gaussian = GaussianLikelihood()
        self._snapshot: tuple[Any, LatentCoder, str] | None = None
        # Channels-last weights make convolutions about 10 % faster on CPU and are what tensor cores want.
        self.to(memory_format=torch.channels_last)

    def config(self) -> dict[str, object]:
        """Constructor arguments as plain values."""
        return {"N": self.N, "M": self.M, "slices": self.slices, "context_hidden": self.context_hidden}

    def auxiliary_loss(self) -> Tensor:
        """Quantile loss of the factorised prior."""
        return self.prior.auxiliary_loss()

    # -- training and evaluation ------------------------------------------------------------------------------------

    def analyse(self, x: Tensor, y: Any = None) -> Tensor:
        """g_a of a padded image; a codec with side information overrides this."""
        latent: Tensor = self.g_a(x)
        return latent

    def synthesise(self, y_hat: Tensor) -> Tensor:
        """g_s: float32 latent (B, M, H/16, W/16) to a picture (B, 3, H, W), not clamped."""
        picture: Tensor = self.g_s(y_hat.contiguous(memory_format=torch.channels_last))
        return picture

    def forward(self, x: Tensor, y: Any = None, keys: Tensor | None = None) -> CodecOutput:
        """See `Codec.forward`."""
        height, width = x.shape[-2:]
        latent = self.analyse(pad(x), y)
        # Under autocast only the transforms run in low precision: the entropy model decides on rounding.
        with torch.autocast(latent.device.type, enabled=False):
            latent = latent.float()
            z = self.h_a(latent)
            if self.training:
                y_hat, likelihoods = self._noisy_latents(latent, z, keys)
            else:
                coded = self.latent_coder().encode(latent, z, write=False)
                y_hat, likelihoods = coded.predicted.y_hat.float(), self.latent_coder().likelihoods(coded)
        x_hat = self.synthesise(y_hat)[..., :height, :width]
        return {"x_hat": x_hat, "likelihoods": likelihoods, "y_hat": y_hat}

    def _noisy_latents(self, y: Tensor, z: Tensor, keys: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Rounded y_hat with the gradient of the identity, and likelihoods at y and z plus uniform noise."""
        y_noise, z_noise = uniform_noise([y.shape, z.shape], keys, y.device)
        medians = self.prior.medians()
        z_hat = ste_round(z - medians) + medians
        halves = [pack(slice_) for slice_ in y.split(self.slices, 1)]

        def quantise(k: int, half: int, scales: Tensor, means: Tensor) -> Tensor:
            return ste_round(halves[k][half] - means) + means

        predicted = self.context(self.h_s(z_hat), quantise)
        likelihoods = {
            "y": self.gaussian(y + y_noise, predicted.scales, predicted.means),
            "z": self.prior.likelihood(z + z_noise),
        }
        return predicted.y_hat, likelihoods

    # -- coding -----------------------------------------------------------------------------------------------------

    def _decoder_parts(self) -> dict[str, nn.Module]:
        return {"prior": self.prior, "h_s": self.h_s, "context": self.context, "g_s": self.g_s}

    def _current_snapshot(self) -> tuple[Any, LatentCoder, str]:
        """Float64 coder and fingerprint of the weights as they are now, so that nobody has to call an update()."""
        state = weights_state(self._decoder_parts())
        if self._snapshot is None or self._snapshot[0] != state:
            coder = LatentCoder(self.prior, self.h_s, self.context)
            self._snapshot = (state, coder, self._digest())
        return self._snapshot

    def _digest(self) -> str:
        return digest(repr((self.N, self.M, self.slices, self.context_hidden)), self._decoder_parts())

    def train(self, mode: bool = True) -> ElicCodec:
        """Switch mode and drop the float64 snapshot: weights change between one evaluation and the next."""
        self._snapshot = None
        super().train(mode)
        return self

    def latent_coder(self) -> LatentCoder:
        """The float64 coder of the current weights."""
        return self._current_snapshot()[1]

    def fingerprint(self) -> str:
        """SHA-256 over the weights of prior, h_s, context model and g_s; files carry its first 24 bits."""
        return self._current_snapshot()[2]

    @torch.no_grad()
    def encode(self, x: Tensor, y: Any = None, *, greyscale: bool = False) -> Encoded:
        """See `Codec.encode`. In float32 also under autocast.

        Raises:
            ValueError: x is not a single (1, 3, H, W) image, or the model has diverged.
        """
        if x.dim() != 4 or x.shape[:2] != (1, 3):
            raise ValueError(f"compress takes one image (1, 3, H, W), not {tuple(x.shape)}")
        height, width = x.shape[-2:]
        with torch.autocast(x.device.type, enabled=False):
            latent = self.analyse(pad(x), y)
            coded = self.latent_coder().encode(latent, self.h_a(latent))
        data = self.file((coded.stream, coded.checksum), height, width, greyscale)
        return Encoded(data, lambda: self.latent_coder().likelihoods(coded))

    @torch.no_grad()
    def decompress(self, data: bytes) -> Tensor:
        """See `Codec.decompress`. In float32 also under autocast."""
        y_hat, stream = self.decode_latent(data)
        with torch.autocast(y_hat.device.type, enabled=False):
            x_hat = self.synthesise(y_hat.float())
        return x_hat[..., : stream.height, : stream.width]

    @torch.no_grad()
    def decode_latent(self, data: bytes) -> tuple[Tensor, Bitstream]:
        """y_hat, float64 (1, M, h, w) on the codec's device, and the parsed file.

        Raises:
            BitstreamError: Any of its subclasses.
        """
        stream = Bitstream.from_bytes(data)
        check_origin(stream, self.name, self.fingerprint())
        cells = (-(-stream.height // DOWNSAMPLING), -(-stream.width // DOWNSAMPLING))
        device = next(self.g_s.parameters()).device
        y_hat, checksum = self.latent_coder().decode(stream.payload, *cells, device)
        check_latents(stream, checksum)
        return y_hat, stream


def pad(x: Tensor) -> Tensor:
    """Extend (B, 3, H, W) at the right and bottom to multiples of 64 by repeating the edge.

    The authors pad with zeros; a repeated edge costs fewer bits and leaves the picture inside the same.
    """
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % DOWNSAMPLING, 0, -height % DOWNSAMPLING), mode="replicate").contiguous(
        memory_format=torch.channels_last
    )
