"""Features of the digit classifier, for FID and ConFID on digits without Inception."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from callbacks.extractors.base import FeatureExtractor
from callbacks.made_on_demand import make_checkpoint
from lightning_modules.digit_resnet import FEATURES, SIDE, grey_digits, load_classifier
from lightning_modules.judge_checkpoint import weights_name

SETTING = "callbacks.extractors.DigitFeatures.init_args.checkpoint"


class DigitFeatures(FeatureExtractor):
    """What the last layer of the digit classifier reads: 512 features of a greyscale digit of 32x32.

    Figures are comparable only where the weights are the same; the protocol names them by a digest of the tensors,
    wherever the file lies.

    Args:
        checkpoint: written by `fit -c configs/digits_classifier.yaml`, such as `runs/digits_classifier/last.ckpt`.
        make: arguments of the command line that write the checkpoint where it does not exist; null makes none.
    """

    name = "digits_resnet18"

    def __init__(self, checkpoint: str, make: str | None = None) -> None:
        super().__init__()
        self.checkpoint = checkpoint
        self.make = make
        self._digest: str | None = None

    @property
    def weights(self) -> str:
        """The checkpoint, as it was given."""
        return self.checkpoint

    def protocol(self) -> dict[str, Any]:
        """What is computed; the weights have a name once they are loaded."""
        return {
            "extractor": "ResNet-18 of torchvision, one input channel, trained on digits",
            "weights": weights_name(self._digest),
            "layer": f"avgpool ({FEATURES})",
            "images": f"8-bit greyscale of {SIDE}x{SIDE}",
            "resize": "none",
            "preprocessing": "none: values in [0, 1]",
            "dtype": "float32",
        }

    def load(self) -> nn.Module:
        """Read the checkpoint."""
        if self.make is not None:
            make_checkpoint(Path(self.checkpoint).expanduser(), self.make)
        network, self._digest = load_classifier(self.checkpoint, SETTING)
        network.fc = nn.Identity()
        return network

    def extract(self, network: nn.Module, images: Tensor) -> Tensor:
        """Features (B, 512).

        Raises:
            ValueError: images that are not greyscale, or not of 32x32.
        """
        return network(grey_digits(images))

    def _identity(self) -> tuple[Any, ...]:
        # The protocol learns the digest when the weights are loaded; equality and hash must not change.
        return type(self), Path(self.checkpoint).expanduser().resolve()
