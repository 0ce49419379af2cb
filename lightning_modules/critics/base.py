"""What stage 2 asks of a critic."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from torch import Tensor, nn

from datamodules.street_classes import StreetClasses
from lightning_modules.codecs.conditional_codec import ConditionalCodec


class CriticBatch(NamedTuple):
    """What a critic is shown in one step."""

    real: Tensor
    """Originals, float32 (B, C, H, W) in [0, 1]."""
    fake: Tensor
    """Pictures by g2, float32, not clamped; detached."""
    read: Tensor
    """What g2 read of the file, as in `ConditionalOutput.code`."""
    keys: Tensor
    """int64 (B,): everything random about a sample is drawn from its key (`keyed_noise`)."""
    purpose: int
    """Purpose of the random numbers of this step; the one after it is free for the critic, too."""
    neighbour: Callable[[Tensor], Tensor]
    """For each image of the global batch what belongs to another one: of a tensor (B, ...), its rows moved on."""


class Critic(ABC):
    """A kind of critic. It holds settings; the network is the module's.

    All losses are computed in float32, whatever precision g2 trains in.
    """

    @abstractmethod
    def network(self, codec: ConditionalCodec) -> nn.Module:
        """A new network for pictures of this codec.

        Raises:
            SettingError: The critic does not fit the codec.
        """

    def check_classes(self, classes: StreetClasses) -> None:
        """Refuse settings that do not fit the data's table of classes; most have none that could.

        Raises:
            SettingError: One does not.
        """
        return

    @abstractmethod
    def losses(self, network: nn.Module, batch: CriticBatch) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """Losses of the critic, with scalars to log.

        Each is minimised by one step before the next is asked for; the last one's figures are logged.
        """

    @abstractmethod
    def decoder_loss(self, network: nn.Module, fake: Tensor, read: Tensor) -> Tensor:
        """Loss of g2, a scalar; the gradient is wanted of `fake` alone."""

    @abstractmethod
    def details(self) -> dict[str, Any]:
        """Name and settings as plain values, for records."""
