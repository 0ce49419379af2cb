"""Small pictures with label maps, as critics of street scenes are shown them, and plain references of losses."""

import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lightning_modules.critics.base import Critic, CriticBatch
from tests.conftest import ROOT


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


def one_loss(critic: Critic, network: nn.Module, batch: CriticBatch) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a critic that has one, and its figures."""
    (both,) = critic.losses(network, batch)
    return both


def pixels_of(labels: Tensor) -> list[int]:
    """Classes of all pixels."""
    return list(labels.flatten().tolist())


def slow_weights(labels: Tensor, classes: int, ignored: int | None = None) -> list[float]:
    """Of each class the inverse of its share among those that are there, by counting pixels."""
    pixels = pixels_of(labels)
    present = {c for c in pixels if c != ignored}
    return [len(pixels) / (len(present) * pixels.count(c)) if c in present else 0.0 for c in range(classes)]


def _cross_entropy(values: list[float], target: int) -> float:
    highest = max(values)
    return math.log(sum(math.exp(v - highest) for v in values)) + highest - values[target]


def slow_mean(logits: Tensor, labels: Tensor | None, weights: list[float] | None) -> float:
    """Mean over pixels of weighted cross-entropy; without labels, of being called fake."""
    pixels = logits.movedim(1, -1).flatten(0, 2).tolist()
    classes = [-1] * len(pixels) if labels is None else pixels_of(labels)
    total = 0.0
    for values, c in zip(pixels, classes, strict=True):
        total += (1.0 if weights is None else weights[c]) * _cross_entropy(values, c + 1)
    return total / len(pixels)


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


_PROCESS = """
import sys, torch, torch.distributed as dist
rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
given = torch.load(f"{folder}/given.pt", weights_only=True)
"""


def in_two_processes(folder: Path, given: Any, program: str) -> list[Any]:
    """What a program leaves as `result` in each of two processes over gloo; it has its `rank` and what is `given`."""
    torch.save(given, folder / "given.pt")
    script = folder / "program.py"
    script.write_text(f"{_PROCESS}{program}\ntorch.save(result, f'{{folder}}/{{rank}}.pt')\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(script)]
    running = [
        subprocess.Popen([*command, str(rank), str(folder)], cwd=ROOT, env=environment, stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    try:
        for process in running:
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors.decode()
    finally:
        for process in running:
            process.kill()  # the other one waits for a process that has failed
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]
