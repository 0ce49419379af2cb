"""The ResNet-18 that names digits: its network, and reading it back from a training checkpoint alone."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models import ResNet, resnet18

from lightning_modules.judge_checkpoint import JudgeKind

SIDE = 32
"""Height and width that the network is trained on, in pixels."""
FEATURES = 512
"""Length of the vector that its last layer reads."""

_KIND = JudgeKind(
    part="digit classifier",
    key="classifier",
    detail="classes",
    name="resnet18",
    made_by="`fit -c configs/digits_classifier.yaml` makes one, as runs/digits_classifier/last.ckpt",
)


class LoadedClassifier(NamedTuple):
    """A digit classifier in eval mode, and what its weights are called in records."""

    network: ResNet
    digest: str
    """SHA-256 of its weights, hexadecimal; see `judge_checkpoint.weights_digest`."""


def digit_resnet18(classes: int = 10) -> ResNet:
    """torchvision's ResNet-18 (He et al., 2016) for one input channel, with random weights.

    Xu et al. (2023, appendix B.1) name the network and not its first layers. Here they are the original ones: a 7x7
    convolution of stride 2, on one channel instead of three, and max-pooling; so 32x32 pixels are 8x8 positions
    for the first block and one for the last.

    It maps float32 (B, 1, 32, 32) in [0, 1], not normalised, to logits (B, classes). The last layer, `fc`, reads the
    512 features.
    """
    network = resnet18(weights=None, num_classes=classes)
    network.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")  # as torchvision's own
    return network


def grey_digits(images: Tensor) -> Tensor:
    """Images as the network takes them: float32 (B, 1, 32, 32).

    Args:
        images: float (B, 1 or 3, 32, 32); three channels must be one that was repeated.

    Raises:
        ValueError: another size, or colours.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3) or images.shape[2:] != (SIDE, SIDE):
        raise ValueError(f"the digit classifier takes images (B, 1 or 3, {SIDE}, {SIDE}), not {tuple(images.shape)}")
    grey = images[:, :1]
    if images.shape[1] == 3 and not torch.equal(images.nan_to_num(), grey.nan_to_num().expand_as(images)):
        raise ValueError("the digit classifier takes greyscale images: three channels must be equal; these are not")
    return grey.float()


def describe(network: ResNet) -> dict[str, Any]:
    """What a checkpoint says of its classifier: `name`, `classes`, and `sha`, the digest of the weights."""
    return _KIND.describe(network, network.fc.out_features)


def load_classifier(path: str | Path, setting: str = "path") -> LoadedClassifier:
    """Rebuild a classifier from what its checkpoint says of it, on the CPU, in eval mode and without gradients.

    Args:
        path: A checkpoint that training wrote, such as `runs/digits_classifier/last.ckpt`.
        setting: The configuration setting that `path` came from, named in errors.

    Raises:
        PretrainedError: See `JudgeKind.load`.
    """
    network, _, digest = _KIND.load(path, setting, digit_resnet18)
    return LoadedClassifier(network, digest)
