"""The mean-scale hyperprior with a label map as Y (Xu et al., arXiv 2308.08154, section 4.3, Fig. 9)."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.codecs.bitstream import Bitstream
from lightning_modules.codecs.codec import COMPLEXITY_SIDE, Encoded, check_latents, check_origin
from lightning_modules.codecs.conditional_codec import ConditionalCodec, ConditionalOutput, Start
from lightning_modules.codecs.entropy import FactorizedPrior, GaussianLikelihood, ste_round, uniform_noise
from lightning_modules.codecs.fingerprint import weights_state
from lightning_modules.codecs.hyperprior_coder import HyperpriorCoder, one_hot
from lightning_modules.codecs.keyed_noise import mix
from lightning_modules.codecs.label_map_prior import LabelMapPrior
from lightning_modules.codecs.labelled_layers import (
    HyperVariant,
    analysis,
    hyper_analysis,
    hyper_synthesis,
    synthesis,
)
from lightning_modules.codecs.side_information import LabelMap
from lightning_modules.codecs.spade import SpadeDecoder
from lightning_modules.codecs.transforms import DOWNSAMPLING

LABEL_SCALE = 8
"""Pixels of the picture per cell of the label map along a side (section 4.3)."""
NOISE_DIM = 64
"""Length of W in Fig. 9: 101 inputs of g2 are 64, 34 classes and 3 channels of x_hat."""


class StoredPicture(NamedTuple):
    """What a file holds."""

    code: Tensor
    """float32 (1, 3 + K, H', W'), H' and W' multiples of 64: g1's picture, and the label map one-hot."""
    labels: Tensor | None
    """int64 (h, w) on the CPU, or None for a codec without side information."""
    y_hat: Tensor
    """float64 (1, M, H'/16, W'/16)."""
    keys: Tensor
    """int64 (1,): seed of the decoder's noise, drawn from the payload."""
    height: int
    width: int


class ConditionalHyperprior(ConditionalCodec):
    """Ballé et al.'s mean-scale hyperprior in whose every network the label map takes part, at its scale.

    The label map is an eighth of the picture along each side and sent losslessly, under a context model that is
    fitted to the training maps (`label_map_prior`). Label map, hyper-latent and latent are one stream.

    Args:
        classes: K, of the label map; 34 are Cityscapes' label ids. 0 leaves the map out: the paper's baseline.
        N: Channels inside the transforms, and of the hyper-latent.
        M: Channels of the latent.
        hyper: Hyper transforms: `fig9` as printed, or `code`, those of the first author's repository.

    Raises:
        ValueError: An argument is out of range.
    """

    name: ClassVar[str] = "conditional_hyperprior"
    encoder_parts: ClassVar[tuple[str, ...]] = ("g_a", "h_a")
    fixed_rate: ClassVar[bool] = False
    recorded_sizes: ClassVar[tuple[str, ...]] = ("classes", "N", "M", "hyper")

    def __init__(self, classes: int = 34, N: int = 128, M: int = 192, hyper: HyperVariant = "fig9") -> None:
        super().__init__()
        if classes < 0 or classes == 1:
            raise ValueError(f"codec.classes is {classes}: set the number of classes of the label map, or 0 for none")
        if min(N, M) < 1:
            raise ValueError(f"codec.N {N} and codec.M {M} must be at least 1")
        self.classes, self.N, self.M = classes, N, M
        self.hyper: HyperVariant = hyper
        self.label_map = LabelMap(classes, LABEL_SCALE) if classes else None
        self.g_a = analysis(N, M, classes)
        self.g1 = synthesis(N, M, classes)
        self.h_a = hyper_analysis(N, M, classes, hyper)
        self.h_s = hyper_synthesis(N, M, classes, hyper)
        self.prior = FactorizedPrior(N)
        self.label_prior = LabelMapPrior(classes) if classes else None
        self.gaussian = GaussianLikelihood()
        self._snapshot: tuple[object, HyperpriorCoder, str] | None = None

    def config(self) -> dict[str, object]:
        """Constructor arguments."""
        return {"classes": self.classes, "N": self.N, "M": self.M, "hyper": self.hyper}

    def auxiliary_loss(self) -> Tensor:
        """Quantile loss of the factorised prior."""
        return self.prior.auxiliary_loss()

    def perceptual_decoder(self, noise_dim: int | None, start: Start = "g1") -> SpadeDecoder:
        """A new g2.

        Args:
            noise_dim: Length of W; None takes the 64 of Fig. 9.
            start: "g1" adds g2's output, at first zero, to g1's picture; "random" is Fig. 9's, which paints the whole
                picture.
        """
        noise = NOISE_DIM if noise_dim is None else noise_dim
        return SpadeDecoder(classes=self.classes, noise_dim=noise, width=self.N, residual=start == "g1")

    def load_perceptual(self, config: Mapping[str, Any]) -> SpadeDecoder:
        """A g2 of the sizes that its `config` told."""
        return SpadeDecoder(**config)

    # -- side information -------------------------------------------------------------------------------------------

    def rate_setting(self) -> dict[str, Any]:
        """Nothing: λ sets the rate."""
        return {}

    @property
    def side_information_kind(self) -> str:
        """ "label map" or "none"."""
        return "label map" if self.label_map else "none"

    def side_information(self, batch: Mapping[str, Any]) -> Tensor | None:
        """Label maps int64 (B, h, w) of a batch, None without side information."""
        return self.label_map.of(batch) if self.label_map else None

    def padded(self, x: Tensor) -> Tensor:
        """Extend (B, 3, H, W) at the right and bottom to multiples of 64 by repeating the edge."""
        height, width = x.shape[-2:]
        return F.pad(x, (0, -width % DOWNSAMPLING, 0, -height % DOWNSAMPLING), mode="replicate")

    def _analysed(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Latent of pictures, and their one-hot maps, both of the padded size."""
        padded = self.padded(x)
        maps = self._embedded(self._checked(x, y), (padded.shape[-2], padded.shape[-1]))
        return self.g_a(padded, maps), maps

    def _embedded(self, y: Tensor | None, padded: tuple[int, int]) -> Tensor | None:
        """One-hot maps (B, K, H'/8, W'/8) of the padded picture: the edge is repeated."""
        if y is None or not self.classes:
            return None
        missing = [side // LABEL_SCALE - have for side, have in zip(padded, y.shape[-2:], strict=True)]
        maps = one_hot(y.to(next(self.g1.parameters()).device), self.classes)
        return F.pad(maps, (0, missing[1], 0, missing[0]), mode="replicate")

    def _checked(self, x: Tensor, y: Tensor | None) -> Tensor | None:
        expected = None if not self.classes else (len(x), *(-(-side // LABEL_SCALE) for side in x.shape[-2:]))
        given = None if y is None else tuple(y.shape)
        if given != expected:
            raise ValueError(
                f"this codec takes for pictures {tuple(x.shape)} label maps of shape {expected}, not {given}"
                if expected
                else "this codec has no side information, so it takes no label map"
            )
        return y

    def fit_label_prior(self, maps: Iterable[Tensor]) -> None:
        """Fit the coder of label maps.

        Args:
            maps: Label maps int64 (H, W) of training pictures.
        """
        assert self.label_prior is not None, "a codec without side information"
        self.label_prior.fit(maps, LABEL_SCALE)

    # -- networks ---------------------------------------------------------------------------------------------------

    def forward(self, x: Tensor, y: Any = None, keys: Tensor | None = None) -> ConditionalOutput:
        """Train or evaluate; see `Codec.forward`.

        Args:
            x: (B, 3, H, W) in [0, 1].
            y: Label maps int64 (B, ⌈H/8⌉, ⌈W/8⌉), for a codec with side information.
            keys: int64 (B,): seeds of the quantisation noise.

        Raises:
            ValueError: Label maps of another shape, missing, or given to a codec without.
        """
        height, width = x.shape[-2:]
        latent, maps = self._analysed(x, y)
        # Under autocast only the transforms run in low precision: the entropy model decides on rounding.
        with torch.autocast(latent.device.type, enabled=False):
            latent = latent.float()
            z = self.h_a(latent, maps)
            if self.training:
                y_hat, likelihoods = self._noisy_latents(latent, z, maps, keys)
            else:
                coded = self.coder().quantise(latent, z, maps)
                y_hat, likelihoods = coded.y_hat.float(), self.coder().likelihoods(coded)
            if self.label_prior is not None:
                likelihoods["labels"] = self.label_prior.likelihood(y).to(x.device)
        picture = self.g1(y_hat, maps)
        x_hat = picture[..., :height, :width]
        return {"x_hat": x_hat, "likelihoods": likelihoods, "y_hat": y_hat, "code": _beside(picture, maps)}

    def _noisy_latents(
        self, y: Tensor, z: Tensor, maps: Tensor | None, keys: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Rounded y_hat with the gradient of the identity, and likelihoods at y and z plus uniform noise."""
        y_noise, z_noise = uniform_noise([y.shape, z.shape], keys, y.device)
        medians = self.prior.medians()
        scales, means = self.h_s(ste_round(z - medians) + medians, maps).chunk(2, 1)
        likelihoods = {
            "y": self.gaussian(y + y_noise, scales, means),
            "z": self.prior.likelihood(z + z_noise),
        }
        return ste_round(y - means) + means, likelihoods

    @torch.no_grad()
    def code(self, x: Tensor, y: Tensor | None) -> Tensor:
        """g1's picture and the label map of pictures, as their files give them: (B, 3 + K, H', W')."""
        with torch.autocast(x.device.type, enabled=False):
            latent, maps = self._analysed(x, y)
            y_hat = self.coder().quantise(latent, self.h_a(latent, maps), maps).y_hat
            return _beside(self.g1(y_hat.float(), maps), maps)

    def code_shape(self) -> tuple[int, int, int, int]:
        """That of a picture of 256x256."""
        return 1, 3 + self.classes, COMPLEXITY_SIDE, COMPLEXITY_SIDE

    def by_g1(self, code: Tensor, keys: Tensor | None) -> Tensor:
        """The picture that the code begins with."""
        return code[:, :3]

    # -- coding -----------------------------------------------------------------------------------------------------

    def _current(self) -> tuple[object, HyperpriorCoder, str]:
        """Float64 coder and fingerprint of the weights as they are now, so that nobody has to call an update()."""
        state = weights_state(self.fingerprint_parts())
        if self._snapshot is None or self._snapshot[0] != state:
            coder = HyperpriorCoder(self.prior, self.h_s, self.label_prior)
            self._snapshot = (state, coder, super().fingerprint())
        return self._snapshot

    def train(self, mode: bool = True) -> ConditionalHyperprior:
        """Switch mode; a change drops the snapshot, since fused optimisers change weights unseen."""
        if mode != self.training:
            self._snapshot = None
        super().train(mode)
        return self

    def coder(self) -> HyperpriorCoder:
        """The float64 coder of the current weights."""
        return self._current()[1]

    def fingerprint(self) -> str:
        """As of every conditional codec; kept until weights change."""
        return self._current()[2]

    @torch.no_grad()
    def encode(self, x: Tensor, y: object = None, *, greyscale: bool = False) -> Encoded:
        """See `Codec.encode`.

        Args:
            x: One picture (1, 3, H, W) in [0, 1].
            y: Its label map int64 (1, ⌈H/8⌉, ⌈W/8⌉), for a codec with side information.
            greyscale: See `Codec.encode`.

        Raises:
            ValueError: x is no single picture, the label map does not fit, or the model has diverged.
        """
        if x.dim() != 4 or x.shape[:2] != (1, 3):
            raise ValueError(f"compress takes one image (1, 3, H, W), not {tuple(x.shape)}")
        height, width = x.shape[-2:]
        labels = y if isinstance(y, Tensor) else None
        with torch.autocast(x.device.type, enabled=False):
            latent, maps = self._analysed(x, labels)
            latents = self.coder().quantise(latent, self.h_a(latent, maps), maps)
        payload, checksum = self.coder().write(latents, None if labels is None else labels[0].cpu())
        data = self.file((payload, checksum), height, width, greyscale)

        def likelihoods() -> dict[str, Tensor]:
            found = self.coder().likelihoods(latents)
            if self.label_prior is not None and labels is not None:
                found["labels"] = self.label_prior.likelihood(labels).to(x.device)
            return found

        return Encoded(data, likelihoods)

    @torch.no_grad()
    def read(self, data: bytes) -> StoredPicture:
        """Decode a file as far as g1.

        Raises:
            BitstreamError: Any of its subclasses.
        """
        stream = Bitstream.from_bytes(data)
        check_origin(stream, self.name, self.fingerprint())
        cells = (-(-stream.height // DOWNSAMPLING), -(-stream.width // DOWNSAMPLING))
        padded = (cells[0] * DOWNSAMPLING, cells[1] * DOWNSAMPLING)
        label_size = (-(-stream.height // LABEL_SCALE), -(-stream.width // LABEL_SCALE))

        def embed(labels: Tensor) -> Tensor:
            maps = self._embedded(labels[None], padded)
            assert maps is not None
            return maps

        y_hat, labels, checksum = self.coder().read(stream.payload, label_size, cells, self.M, embed)
        check_latents(stream, checksum)
        maps = None if labels is None else embed(labels)
        with torch.autocast(y_hat.device.type, enabled=False):
            code = _beside(self.g1(y_hat.float(), maps), maps)
        # The noise is a function of the file, so that every decoder draws the same picture.
        keys = mix(torch.tensor([zlib.crc32(stream.payload) << 20]))
        return StoredPicture(code, labels, y_hat, keys, stream.height, stream.width)

    def code_of(self, stored: StoredPicture) -> Tensor:
        """What g2 reads."""
        return stored.code

    def size_of(self, stored: StoredPicture) -> tuple[int, int]:
        """Height and width of the picture."""
        return stored.height, stored.width

    def kmacs_per_pixel(self, y: object = None) -> dict[str, float]:
        """Thousands of multiply-accumulate operations per pixel, by part: one pass over a 256x256 image."""
        side = COMPLEXITY_SIDE // LABEL_SCALE
        maps = torch.zeros(1, side, side, dtype=torch.int64, device=next(self.parameters()).device)
        return super().kmacs_per_pixel(maps if self.classes else None)


def _beside(picture: Tensor, maps: Tensor | None) -> Tensor:
    """Picture and one-hot map, resized to it, as one float32 tensor."""
    picture = picture.float()
    if maps is None:
        return picture
    return torch.cat((picture, F.interpolate(maps, picture.shape[-2:], mode="nearest")), 1)
