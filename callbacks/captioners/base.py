"""What a captioner is."""

from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor

Side = Literal["original", "reconstruction"]


class CaptionError(RuntimeError):
    """A captioner cannot say what is in an image, or its settings do not fit its model."""


class Captioner(ABC):
    """Says in words what is in images."""

    @abstractmethod
    def prepare(self, device: torch.device) -> None:
        """Load what is needed, at the first call; move it to `device`.

        Raises:
            PretrainedError: weights are missing.
            CaptionError: the settings cannot be used.
        """

    @abstractmethod
    def protocol(self) -> dict[str, Any]:
        """Which captions these are, as plain values."""

    @abstractmethod
    def __call__(self, images: Tensor, names: list[str], side: Side) -> list[str]:
        """Caption images; the same ones always get the same captions.

        Args:
            images: float (B, 3, H, W) in [0, 1], on the 8-bit grid.
            names: B image names.
            side: Whether these are originals or what a codec made of them.

        Returns:
            B captions, possibly empty.

        Raises:
            CaptionError: an image has no caption.
        """
