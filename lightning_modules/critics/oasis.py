"""The critic of OASIS: it segments pictures by g2, or calls their pixels fake."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

from datamodules.street_classes import StreetClasses
from lightning_modules.codecs.conditional_codec import ConditionalCodec
from lightning_modules.codecs.keyed_noise import keyed_uniform
from lightning_modules.codecs.oasis_discriminator import OasisDiscriminator
from lightning_modules.critics.base import Critic, CriticBatch
from lightning_modules.critics.labelled import label_classes
from lightning_modules.errors import SettingError
from lightning_modules.losses.segmentation_adversarial import (
    balanced_cross_entropy,
    class_weights,
    fake_cross_entropy,
    label_mix,
    label_mix_loss,
)

DiscCondition = Literal["none", "xhat"]


class OasisCritic(Critic):
    """The losses of Sushko et al. (ICLR 2021), which section 4.3 of Xu et al. trains g2 by.

    A codec without side information has one class of real pixels, so that the discriminator tells real from fake at
    each of them. LabelMix is then left out: there is no map to cut pictures along.

    Args:
        width: Channels of the discriminator's first block; 128 as published.
        label_mix: Weight of LabelMix: 5 in the published settings for Cityscapes, 0 leaves it out.
        disc_condition: What the discriminator sees beside the picture. "none" is the paper's, which takes OASIS as
            it is: such a discriminator never learns what was sent of the picture but its label map, so it asks for
            p(X | Y), and nothing but the start of g2 and `lambda_xhat` keeps g2 near x_hat. The paper's theorem
            needs p(X | M, Y), which "xhat" asks for: six channels in, picture and x_hat.
        ignored_class: A class whose pixels are not judged as real ones, such as "unknown" or void. It has no effect
            on a codec without side information.
        balance_limit: Largest weight of a class; null sets none, as published. In a small batch of small crops a
            class of a few pixels weighs hundreds of times another, and g2 was seen to paint blobs there.

    Raises:
        ValueError: A setting is out of range.
    """

    def __init__(
        self,
        width: int = 128,
        label_mix: float = 5.0,
        disc_condition: DiscCondition = "none",
        ignored_class: int | None = None,
        balance_limit: float | None = None,
    ) -> None:
        if width < 2 or width % 2:
            raise ValueError(f"critic.width is {width}: set it to an even number, the last block has half")
        if not 0 <= label_mix < float("inf"):
            raise ValueError(f"critic.label_mix is {label_mix}: it is a weight, 0 or more")
        if disc_condition not in get_args(DiscCondition):
            raise ValueError(f"critic.disc_condition is {disc_condition!r}: set it to none or xhat")
        if ignored_class is not None and ignored_class < 0:
            raise ValueError(f"critic.ignored_class is {ignored_class}: set it to a class from 0 on, or to null")
        if balance_limit is not None and balance_limit < 1:
            raise ValueError(f"critic.balance_limit is {balance_limit}: set it to 1 or more, or to null")
        self.width, self.label_mix, self.balance_limit = width, label_mix, balance_limit
        self.disc_condition, self.ignored_class = disc_condition, ignored_class

    def network(self, codec: ConditionalCodec) -> nn.Module:
        """An `OasisDiscriminator` for the codec's classes.

        Raises:
            SettingError: See `label_classes`; or the ignored class is none of the codec's.
        """
        classes = label_classes(codec)
        if classes and self.ignored_class is not None and self.ignored_class >= classes:
            raise SettingError(
                f"critic.ignored_class is {self.ignored_class}, but the codec has classes 0 to {classes - 1}: "
                "set it to one of them or to null"
            )
        return OasisDiscriminator(max(classes, 1), self.width, 3 if self.disc_condition == "xhat" else 0)

    def check_classes(self, classes: StreetClasses) -> None:
        """Refuse to ignore a class that evaluations count, which is the number of void in another table.

        Raises:
            SettingError: It is one.
        """
        if self.ignored_class is None or self.ignored_class in classes.ignored:
            return
        void = ", ".join(str(symbol) for symbol in sorted(classes.ignored)) or "none"
        name = classes.names[self.ignored_class] if self.ignored_class < len(classes) else "no class"
        raise SettingError(
            f"critic.ignored_class is {self.ignored_class}, {name} in the data's table {classes.name}, of which "
            f"evaluations leave out {void}: set it to one of these or to null"
        )

    def losses(self, network: nn.Module, batch: CriticBatch) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """Balanced cross-entropy of real pictures, cross-entropy of fakes, and LabelMix: one loss."""
        yield self._loss(network, batch)

    def _loss(self, network: nn.Module, batch: CriticBatch) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.autocast(batch.real.device.type, enabled=False):
            real, fake, labels = batch.real.float(), batch.fake.float(), self._labels(batch.read)
            choice: Tensor | None = None
            pictures = [real, fake]
            if self.label_mix and batch.read.shape[1] > 3:
                choice = keyed_uniform(batch.keys, batch.read.shape[1] - 3, batch.purpose) < 0.5
                pictures.append(label_mix(real, fake, labels, choice))
            # In one pass, so that all are judged by the same weights: each pass in training mode moves the estimate
            # of their spectral norm.
            judged = self._judged(network, torch.cat(pictures), batch.read).chunk(len(pictures))
            critic_real = balanced_cross_entropy(judged[0], labels, self._weights(batch.read, labels))
            critic_fake = fake_cross_entropy(judged[1])
            loss, figures = critic_real + critic_fake, {"critic_real": critic_real, "critic_fake": critic_fake}
            if choice is not None:
                figures["label_mix"] = label_mix_loss(judged[2], judged[0], judged[1], labels, choice)
                loss = loss + self.label_mix * figures["label_mix"]
            return loss, {**figures, "critic_loss": loss}

    def decoder_loss(self, network: nn.Module, fake: Tensor, read: Tensor) -> Tensor:
        """Balanced cross-entropy of g2's pictures at the classes of the label map (Sushko et al., 2021, eq. 2)."""
        with torch.autocast(fake.device.type, enabled=False):
            labels = self._labels(read)
            return balanced_cross_entropy(
                self._judged(network, fake.float(), read), labels, self._weights(read, labels)
            )

    def _judged(self, network: nn.Module, pictures: Tensor, read: Tensor) -> Tensor:
        """Logits of one or several pictures for each row of `read`, one batch after the other."""
        x_hat: Tensor | None = None
        if self.disc_condition == "xhat":
            x_hat = read[:, :3].float().repeat(len(pictures) // len(read), 1, 1, 1)
        return cast(Tensor, network(pictures, x_hat))

    def _labels(self, read: Tensor) -> Tensor:
        """Class of each pixel, int64 (B, H, W); 0 everywhere without side information."""
        if read.shape[1] == 3:
            return torch.zeros_like(read[:, 0], dtype=torch.int64)
        return read[:, 3:].argmax(1)

    def _weights(self, read: Tensor, labels: Tensor) -> Tensor:
        classes = read.shape[1] - 3
        weights = class_weights(labels, max(classes, 1), self.ignored_class if classes else None)
        return weights if self.balance_limit is None else weights.clamp(max=self.balance_limit)

    def details(self) -> dict[str, Any]:
        """Name and settings."""
        names = ("width", "label_mix", "disc_condition", "ignored_class", "balance_limit")
        return {"critic": "oasis", **{name: getattr(self, name) for name in names}}
