"""The critic of HiFiC: it tells real from fake patches beside what the decoder knows of them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from lightning_modules.codecs.conditional_codec import ConditionalCodec
from lightning_modules.critics.base import Critic, CriticBatch
from lightning_modules.critics.labelled import label_classes


class PatchDiscriminator(nn.Module):
    """PatchGAN with spectral normalisation in every convolution (Mentzer et al., NeurIPS 2020, appendix A).

    Convolutions 4x4 with 64, 128, 256 channels at stride 2, 512 and 1 at stride 1, with leaky ReLU between them: each
    logit judges 70x70 pixels. HiFiC's latent is brought to 12 channels, upsampled and concatenated to the picture;
    here x_hat and the label map, which have the picture's size, are concatenated as they are.

    Args:
        condition_channels: Channels that are shown beside the picture.
        width: Channels of the first convolution; 64 in the paper.
    """

    def __init__(self, condition_channels: int, width: int = 64) -> None:
        super().__init__()
        widths = (3 + condition_channels, width, 2 * width, 4 * width)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [spectral_norm(nn.Conv2d(before, after, 4, 2, 1)), nn.LeakyReLU(0.2)]
        keep_size = nn.ZeroPad2d((1, 2, 1, 2))
        layers += [keep_size, spectral_norm(nn.Conv2d(4 * width, 8 * width, 4)), nn.LeakyReLU(0.2)]
        layers += [keep_size, spectral_norm(nn.Conv2d(8 * width, 1, 4))]
        # The faster layout on CPUs, and on tensor cores.
        self.layers = nn.Sequential(*layers).to(memory_format=torch.channels_last)

    def forward(self, picture: Tensor, condition: Tensor) -> Tensor:
        """Logits of "real" (B, 1, H/8, W/8) of pictures (B, 3, H, W), H and W multiples of 8.

        Args:
            picture: Values in [0, 1], or not clamped.
            condition: (B, condition_channels, H, W).
        """
        logits: Tensor = self.layers(torch.cat((picture, condition), 1))
        return logits


class PatchCritic(Critic):
    """The non-saturating GAN loss of HiFiC (Mentzer et al., 2020, section 3.1, eqs. 2 and 3), conditional.

    The discriminator sees x_hat and the label map beside the picture, so that it asks for p(X | M, Y).

    Args:
        width: Channels of the discriminator's first convolution; 64 as published.

    Raises:
        ValueError: The width is out of range.
    """

    def __init__(self, width: int = 64) -> None:
        if width < 1:
            raise ValueError(f"critic.width is {width}: set it to 1 or more")
        self.width = width

    def network(self, codec: ConditionalCodec) -> nn.Module:
        """A `PatchDiscriminator` beside what the codec's decoders read.

        Raises:
            SettingError: See `label_classes`.
        """
        return PatchDiscriminator(3 + label_classes(codec), self.width)

    def losses(self, network: nn.Module, batch: CriticBatch) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """-log D(real) - log(1 - D(fake)), each the mean over patches: one loss."""
        yield self._loss(network, batch)

    def _loss(self, network: nn.Module, batch: CriticBatch) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.autocast(batch.real.device.type, enabled=False):
            # In one pass: both are judged by the same estimate of the spectral norms.
            pictures, read = torch.cat((batch.real.float(), batch.fake.float())), batch.read.float()
            real, fake = cast(Tensor, network(pictures, torch.cat((read, read)))).chunk(2)
            critic_real, critic_fake = F.softplus(-real).mean(), F.softplus(fake).mean()
            loss = critic_real + critic_fake
        return loss, {"critic_real": critic_real, "critic_fake": critic_fake, "critic_loss": loss}

    def decoder_loss(self, network: nn.Module, fake: Tensor, read: Tensor) -> Tensor:
        """-log D(fake), the mean over patches."""
        with torch.autocast(fake.device.type, enabled=False):
            return F.softplus(-cast(Tensor, network(fake.float(), read.float()))).mean()

    def details(self) -> dict[str, Any]:
        """Name and settings."""
        return {"critic": "patch", "width": self.width}
