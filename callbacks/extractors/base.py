"""What every feature extractor shares."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from callbacks.metrics.precision import full_float32
from lightning_modules.errors import PretrainedError


class FeatureExtractor(ABC):
    """A frozen network that turns an image into a vector.

    A subclass gives `name`, `protocol`, `load` and `extract`, and `weights` where it reads a file. Construction is
    cheap: it stores plain arguments. Weights are loaded by the first `prepare`.

    Two extractors are equal, so that metrics share one of them, when class, protocol and weights are.
    """

    name: str
    """Short name; it appears in names of figures, so extractors whose features are not comparable differ in it."""

    def __init__(self) -> None:
        self.network: nn.Module | None = None
        self._failure: str | None = None

    @property
    def weights(self) -> str | None:
        """Where the weights come from, as it was given; `None` for the default."""
        return None

    @abstractmethod
    def protocol(self) -> dict[str, Any]:
        """Everything that makes features comparable or not, as plain values, without directories."""

    @abstractmethod
    def load(self) -> nn.Module:
        """Build the network with its weights, on the CPU.

        Raises:
            PretrainedError: the weights cannot be had.
        """

    @abstractmethod
    def extract(self, network: nn.Module, images: Tensor) -> Tensor:
        """Features of float32 (B, 3, H, W) in [0, 1], on the network's device: float (B, D)."""

    def prepare(self, device: torch.device) -> None:
        """Load the network at the first call, and move it to `device`. One attempt is made.

        Raises:
            PretrainedError: the weights cannot be had.
        """
        if self._failure is not None:  # several metrics ask, and each attempt can be a minute of network timeouts
            raise PretrainedError(self._failure)
        if self.network is None:
            try:
                self.network = self.load().eval().requires_grad_(False)
            except PretrainedError as error:
                self._failure = str(error)
                raise
        self.network.to(device)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Features, in float32 without TF32, whatever precision the run trains in.

        Args:
            images: float (B, 1 or 3, H, W) in [0, 1], on the 8-bit grid, on the device of the network. One channel is
                repeated to three.

        Returns:
            float32 (B, D). Images with NaN or infinite pixels get NaN, as converted to 8 bits they would pass for
            pictures.

        Raises:
            ValueError: pixels outside [0, 1], or another number of channels.
        """
        assert self.network is not None, "prepare comes first"
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise ValueError(f"{self.name} takes images (B, 1 or 3, H, W), not {tuple(images.shape)}")
        images = images.float()
        finite = images.isfinite().flatten(1).all(dim=1)
        images = torch.where(finite[:, None, None, None], images, 0)
        low, high = images.aminmax()
        if low < 0 or high > 1:
            raise ValueError(
                f"{self.name} takes images in [0, 1]; these reach from {low.item():g} to {high.item():g}"
            )
        with full_float32(), torch.autocast(images.device.type, enabled=False):
            features = self.extract(self.network, images.expand(-1, 3, -1, -1)).float()
        return torch.where(finite[:, None], features, torch.nan)

    def _identity(self) -> tuple[Any, ...]:
        return type(self), self.weights, repr(sorted(self.protocol().items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FeatureExtractor) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())
