"""The Wasserstein critic with gradient penalty, conditioned on code and label: that of digits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lightning_modules.codecs.conditional_codec import ConditionalCodec
from lightning_modules.codecs.digit_networks import DigitCritic
from lightning_modules.codecs.digits import DigitCodec
from lightning_modules.codecs.keyed_noise import keyed_uniform
from lightning_modules.critics.base import Critic, CriticBatch
from lightning_modules.errors import SettingError
from lightning_modules.losses.adversarial import gradient_penalty, wasserstein_gap


class WassersteinCritic(Critic):
    """Yan et al.'s critic (2021), of digits.

    Args:
        penalty: Weight of the gradient penalty.
        separate_penalty: Take the penalty in an optimiser step of its own after that of the distance, as Yan et al.'s
            code does.
        mismatch: Weight of scoring real images above themselves beside the code and label of another image of the
            batch (Yan et al.'s code: in its first epoch), which keeps the critic looking at the condition; 0 leaves
            it out.

    Raises:
        ValueError: A weight is negative.
    """

    def __init__(self, penalty: float = 10.0, separate_penalty: bool = False, mismatch: float = 1.0) -> None:
        for name, value in {"penalty": penalty, "mismatch": mismatch}.items():
            if value < 0:
                raise ValueError(f"critic.{name} is {value}: it is a weight, 0 or more")
        self.penalty, self.separate_penalty, self.mismatch = penalty, separate_penalty, mismatch

    def network(self, codec: ConditionalCodec) -> DigitCritic:
        """The critic of Fig. 8's size.

        Raises:
            SettingError: The codec is not of digits.
        """
        if not isinstance(codec, DigitCodec):
            raise SettingError(
                f"WassersteinCritic scores digits, and model.codec is {codec.name}: set model.critic to "
                "lightning_modules.critics.oasis.OasisCritic or lightning_modules.critics.patch.PatchCritic"
            )
        return DigitCritic(codec.code_channels)

    def losses(self, network: nn.Module, batch: CriticBatch) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """Minus the distance, and the penalty on the way between real and fake."""
        real, fake, read = batch.real, batch.fake, batch.read
        share = keyed_uniform(batch.keys, 1, batch.purpose)
        with torch.autocast(real.device.type, enabled=False):
            gap = wasserstein_gap(network, real, fake, read)
            loss = -gap
            if self.mismatch:
                other = batch.neighbour(read)
                loss = loss - self.mismatch * (network(real, read).mean() - network(real, other).mean())
        if self.separate_penalty:
            yield loss, {}
            loss = torch.zeros_like(loss)
        penalty = gradient_penalty(network, real, fake, read, share)
        yield loss + self.penalty * penalty, {"wasserstein": gap, "penalty": penalty}

    def decoder_loss(self, network: nn.Module, fake: Tensor, read: Tensor) -> Tensor:
        """Minus the mean score."""
        with torch.autocast(fake.device.type, enabled=False):
            scores: Tensor = network(fake, read.float())
            return -scores.mean()

    def details(self) -> dict[str, Any]:
        """Settings."""
        return {
            "critic": "wasserstein",
            "penalty": self.penalty,
            "separate_penalty": self.separate_penalty,
            "mismatch": self.mismatch,
        }
