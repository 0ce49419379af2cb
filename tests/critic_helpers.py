"""Small pictures with label maps, as critics of street scenes are shown them."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lightning_modules.critics.base import CriticBatch


def codec_with(classes: int) -> Any:
    """All that a critic asks of a codec."""
    return SimpleNamespace(classes=classes)


def label_maps(batch: int, classes: int, height: int = 64, width: int = 64) -> Tensor:
    """Random maps of an eighth of the picture's size, as they are sent, upsampled by nearest: int64 (B, H, W)."""
    small = torch.randint(max(classes, 1), (batch, height // 8, width // 8))
    return small.repeat_interleave(8, 1).repeat_interleave(8, 2)


def read_of(labels: Tensor, classes: int) -> Tensor:
    """A random x_hat, and the maps one-hot: float32 (B, 3 + K, H, W)."""
    x_hat = 1.2 * torch.rand(len(labels), 3, *labels.shape[1:]) - 0.1
    one_hot = torch.stack([(labels == c).float() for c in range(classes)], 1) if classes else x_hat[:, :0]
    return torch.cat((x_hat, one_hot), 1)


def critic_batch(batch: int, classes: int, height: int = 64, width: int = 64, purpose: int = 5) -> CriticBatch:
    """Random pictures."""
    read = read_of(label_maps(batch, classes, height, width), classes)
    real, fake = torch.rand(batch, 3, height, width), 1.2 * torch.rand(batch, 3, height, width) - 0.1
    keys = torch.arange(batch) * 7919 + 13
    return CriticBatch(real, fake, read, keys, purpose, lambda rows: rows.roll(1, 0))


def part_of(batch: CriticBatch, rows: slice) -> CriticBatch:
    """Some of its images."""
    return batch._replace(real=batch.real[rows], fake=batch.fake[rows], read=batch.read[rows], keys=batch.keys[rows])


def convolutions(network: nn.Module) -> dict[str, bool]:
    """Of each convolution by name, whether it is spectrally normalised."""
    return {
        name: parametrize.is_parametrized(layer, "weight")
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d)
    }


def spectral_norms(network: nn.Module) -> dict[str, float]:
    """Largest singular value of each normalised weight as it is used, by a full decomposition."""
    return {
        name: float(torch.linalg.svdvals(layer.weight.detach().flatten(1).double())[0])
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d) and parametrize.is_parametrized(layer, "weight")
    }
