"""Image classifiers, which `callbacks.Accuracy` asks for the class of a reconstruction."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForImageClassification

from callbacks.hugging_face import load_network, source_name, to_bytes
from callbacks.metrics.precision import full_float32


class Classifier(ABC):
    """A frozen network that names the class of an image.

    Construction is cheap; `prepare` loads the network. Classes are numbered as the labels of the data are.
    """

    @abstractmethod
    def prepare(self, device: torch.device) -> None:
        """Load the network at the first call; follow the device afterwards.

        Raises:
            PretrainedError: its weights cannot be had.
        """

    @abstractmethod
    def __call__(self, images: Tensor) -> Tensor:
        """Logits, float (B, classes).

        Args:
            images: float (B, C, H, W) in [0, 1], on the 8-bit grid, on the device of the network.
        """

    @abstractmethod
    def protocol(self) -> dict[str, Any]:
        """Which network this is and what it is fed, as plain values without directories."""


class HuggingFaceClassifier(Classifier):
    """An image classifier of the transformers package, fed by its own image processor.

    Args:
        pretrained: Hub id, such as `google/vit-base-patch16-224`, or a folder in Hugging Face layout.
    """

    def __init__(self, pretrained: str) -> None:
        self.pretrained = pretrained
        self.network: nn.Module | None = None
        self.processor: Any = None

    def prepare(self, device: torch.device) -> None:
        """Load the network at the first call; follow the device afterwards."""
        if self.network is None:
            setting = "callbacks.classifiers.HuggingFaceClassifier.init_args.pretrained"
            architecture = AutoModelForImageClassification
            self.network, self.processor = load_network("classifier", architecture, self.pretrained, setting)
        self.network.to(device)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Logits of 8-bit RGB images, in float32 whatever precision the run trains in."""
        assert self.network is not None, "prepare comes first"
        inputs = self.processor(images=to_bytes(images), return_tensors="pt").to(images.device)
        with full_float32(), torch.autocast(images.device.type, enabled=False):
            return self.network(**inputs).logits

    def protocol(self) -> dict[str, Any]:
        """The network's name."""
        return {"classifier": source_name(self.pretrained), "input": "its own image processor", "dtype": "float32"}
