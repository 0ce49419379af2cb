"""Image classifiers, which `callbacks.Accuracy` asks for the class of a reconstruction."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForImageClassification

from callbacks.hugging_face import load_network, source_name, to_bytes
from callbacks.made_on_demand import make_checkpoint
from callbacks.metrics.precision import full_float32
from lightning_modules.digit_resnet import SIDE, grey_digits, load_classifier
from lightning_modules.judge_checkpoint import weights_name


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


class DigitClassifier(Classifier):
    """The ResNet-18 of `fit -c configs/digits_classifier.yaml`, for greyscale digits of 32x32.

    Args:
        checkpoint: written by that command, such as `runs/digits_classifier/last.ckpt`.
        make: arguments of the command line that write the checkpoint where it does not exist, and that continue its
            training where this has not come to its end by the `config.yaml` beside it; null takes what is there.
    """

    def __init__(self, checkpoint: str, make: str | None = None) -> None:
        self.checkpoint = checkpoint
        self.make = make
        self.network: nn.Module | None = None
        self._digest: str | None = None

    def prepare(self, device: torch.device) -> None:
        """Load the network at the first call; follow the device afterwards."""
        if self.network is None:
            setting = "callbacks.classifiers.DigitClassifier.init_args.checkpoint"
            if self.make is not None:
                make_checkpoint(Path(self.checkpoint).expanduser(), self.make)
            self.network, self._digest = load_classifier(self.checkpoint, setting)
        self.network.to(device)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Logits of greyscale images, in float32 whatever precision the run trains in.

        Raises:
            ValueError: images that are not greyscale, or not of 32x32.
        """
        assert self.network is not None, "prepare comes first"
        with full_float32(), torch.autocast(images.device.type, enabled=False):
            return self.network(grey_digits(images))

    def protocol(self) -> dict[str, Any]:
        """The network and a digest of its weights, which have a name once they are loaded."""
        return {
            "classifier": "ResNet-18 of torchvision, one input channel, trained on digits",
            "weights": weights_name(self._digest),
            "input": f"greyscale of {SIDE}x{SIDE}, values in [0, 1]",
            "dtype": "float32",
        }
