"""Features without weights, for tests."""

from typing import Any

import torch
from torch import Tensor, nn

from callbacks.extractors.base import FeatureExtractor


class RandomFeatures(FeatureExtractor):
    """Averages of two random convolutional layers. Figures on them mean nothing outside tests.

    Args:
        dims: length of the vectors.
        seed: of the weights.
    """

    name = "random"

    def __init__(self, dims: int = 64, seed: int = 0) -> None:
        super().__init__()
        if dims < 1:
            raise ValueError(f"dims must be at least 1, not {dims}")
        self.dims = dims
        self.seed = seed

    def protocol(self) -> dict[str, Any]:
        """What is computed."""
        return {
            "extractor": "random convolutions, for tests",
            "dims": self.dims,
            "seed": self.seed,
            "dtype": "float32",
        }

    def load(self) -> nn.Module:
        """The same weights for the same seed, without touching the global random state."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            first = nn.Conv2d(3, 16, 5, stride=2, padding=2)
            second = nn.Conv2d(16, self.dims, 3, stride=2, padding=1)
            for layer in (first, second):
                nn.init.kaiming_normal_(layer.weight)
        return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def extract(self, network: nn.Module, images: Tensor) -> Tensor:
        """Features (B, dims)."""
        return network(images)
