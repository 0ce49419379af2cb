"""The small network that segments street scenes, and reading it back from a training checkpoint alone."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datamodules.street_classes import TABLES, StreetClasses
from lightning_modules.judge_checkpoint import JudgeKind

STRIDE = 16
"""Pixels that become one position of the deepest layers; images of other sizes are padded."""

_KIND = JudgeKind(
    part="street segmenter",
    key="segmenter",
    detail="class_table",
    name="street_unet",
    made_by="`fit -c configs/streets_segmenter.yaml` makes one, as runs/streets_segmenter/last.ckpt",
)


def _convolution(c_in: int, c_out: int, kernel: int = 3, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    padding = dilation * (kernel // 2)
    convolution = nn.Conv2d(c_in, c_out, kernel, stride, padding, dilation, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(c_out))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation and a shortcut (He et al., 2016), the second one dilated."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.first = _convolution(c_in, c_out, stride=stride)
        self.second = _convolution(c_out, c_out, dilation=dilation)
        same = c_in == c_out and stride == 1
        self.shortcut = nn.Identity() if same else _convolution(c_in, c_out, kernel=1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, c_in, h, w) to (B, c_out, h / stride, w / stride)."""
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))


class GatedContext(nn.Module):
    """Features gated by their mean over the image: the head of LR-ASPP (Howard et al., "Searching for MobileNetV3",
    2019, section 6.4) with global pooling.
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.features = _convolution(c_in, c_out, kernel=1)
        self.gate = nn.Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, c_in, h, w) to (B, c_out, h, w)."""
        return F.relu(self.features(x)) * torch.sigmoid(self.gate(x.mean(dim=(2, 3), keepdim=True)))


class StreetUNet(nn.Module):
    """A residual encoder down to 1/16 and a decoder back up to 1/4 with additive skips: a small U-Net (Ronneberger et
    al., 2015), 0.7 million parameters. Logits at 1/4 are interpolated to full size.

    Args:
        classes: Number of classes.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.stem = _convolution(3, 16, stride=2)
        self.quarter = ResidualBlock(16, 32, stride=2)
        self.eighth = nn.Sequential(ResidualBlock(32, 64, stride=2), ResidualBlock(64, 64))
        self.sixteenth = nn.Sequential(ResidualBlock(64, 128, stride=2), ResidualBlock(128, 128, dilation=2))
        self.context = GatedContext(128, 64)
        self.up_eighth = _convolution(64, 32)
        self.up_quarter = _convolution(32, 32)
        self.head = nn.Conv2d(32, classes, 1)
        self.to(memory_format=torch.channels_last)  # a third less time on CPUs

    def forward(self, images: Tensor) -> Tensor:
        """Map float (B, 3, H, W) in [0, 1] to logits (B, classes, H, W)."""
        height, width = images.shape[-2:]
        padding = (0, -width % STRIDE, 0, -height % STRIDE)
        x = F.pad((images - 0.5) / 0.25, padding, mode="replicate")
        quarter = self.quarter(F.relu(self.stem(x.contiguous(memory_format=torch.channels_last))))
        eighth = self.eighth(quarter)
        deep = self.context(self.sixteenth(eighth))
        for block, skip in ((self.up_eighth, eighth), (self.up_quarter, quarter)):
            deep = F.relu(block(_larger(deep, 2) + skip))
        return _larger(self.head(deep), 4)[..., :height, :width]


def _larger(x: Tensor, factor: int) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


class LoadedSegmenter(NamedTuple):
    """A street segmenter in eval mode, the classes of its data, and what its weights are called in records."""

    network: StreetUNet
    table: StreetClasses
    """Its `evaluated` classes are those of the logits."""
    digest: str
    """SHA-256 of its weights, hexadecimal; see `judge_checkpoint.weights_digest`."""


def describe(network: StreetUNet, table: StreetClasses) -> dict[str, Any]:
    """What a checkpoint says of its segmenter: `name`, the name of its `class_table`, and `sha`, a digest of the
    weights.
    """
    return _KIND.describe(network, table.name)


def load_segmenter(path: str | Path, setting: str = "path") -> LoadedSegmenter:
    """Rebuild a segmenter from what its checkpoint says of it, on the CPU, in eval mode and without gradients.

    Args:
        path: A checkpoint that training wrote, such as `runs/streets_segmenter/last.ckpt`.
        setting: The configuration setting that `path` came from, named in errors.

    Raises:
        PretrainedError: See `JudgeKind.load`.
    """
    network, name, digest = _KIND.load(path, setting, _of_table)
    return LoadedSegmenter(network, TABLES[name], digest)


def _of_table(name: str) -> StreetUNet:
    if name not in TABLES:
        raise LookupError(f"class table {name!r} is none of {', '.join(TABLES)}")
    return StreetUNet(len(TABLES[name].evaluated))
