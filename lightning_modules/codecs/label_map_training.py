"""Training of the context model of label maps: a float network, which is then rounded to integers.

Every pixel of a map at full resolution is a training sample, whose neighbours lie at the distance of the coded map's
pixels: an image of 512x256 that is coded at an eighth gives 64 maps of 64x32. Half of the samples are mirrored.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.codecs.causal_context import NEIGHBOURS, numbered, table_rows
from lightning_modules.codecs.fixed_point_network import HIDDEN1, HIDDEN2
from lightning_modules.codecs.keyed_noise import hashes, keyed_normal

BATCH = 2048
"""Pixels per step."""
MOST_STEPS = 1500
_LEAST_STEPS = 100
_PASSES = 20
"""Times that each pixel is drawn, where that takes no more than MOST_STEPS; so few maps are not learned by heart."""
_LEARNING_RATE = 1e-2
_WEIGHT_DECAY = 0.1
_SAMPLES, _INITIAL = 0x5A31, 0x5A32
"""Purposes of the random numbers, see `keyed_noise.hashes`."""


class TrainingPixels:
    """Label maps of any sizes, in one piece of memory (a byte per pixel), and the contexts of their pixels.

    Args:
        maps: Integers (h, w), 0 to classes - 1.
        classes: Number of classes.
        scale: How many pixels of a map lie between two pixels of the map that will be coded.

    Raises:
        ValueError: There is no map, one is no map, or one has a value out of range.
    """

    def __init__(self, maps: Iterable[Tensor], classes: int, scale: int) -> None:
        flat, sizes = [], []
        for number, labels in enumerate(maps):
            if labels.dim() != 2 or not labels.numel() or labels.is_floating_point():
                raise ValueError(f"map {number} is {labels.dtype} {tuple(labels.shape)}, not integers (h, w)")
            wrong = labels[(labels < 0) | (labels >= classes)]
            if len(wrong):
                raise ValueError(f"map {number} holds class {wrong[0].item()}, which is not in 0..{classes - 1}")
            flat.append(labels.detach().cpu().to(torch.uint8).flatten())
            sizes.append(tuple(labels.shape))
        if not flat:
            raise ValueError("no label map to fit the entropy model of label maps on: is the training set empty?")
        self.maps = len(flat)
        self._flat = torch.cat(flat)
        self._sizes = torch.tensor(sizes)
        self._starts = torch.tensor([0] + [len(labels) for labels in flat[:-1]]).cumsum(0)
        self._classes = classes
        self._scale = scale

    def __len__(self) -> int:
        return len(self._flat)

    def draw(self, step: int) -> tuple[Tensor, Tensor]:
        """Contexts, int64 (BATCH, FEATURES), and classes, int64 (BATCH,), of the pixels of a step of training."""
        pixel, mirrored = hashes(torch.tensor([step]), 2 * BATCH, _SAMPLES).view(2, BATCH)
        pixel = pixel % len(self._flat)
        number = torch.searchsorted(self._starts, pixel, right=True) - 1
        start = self._starts[number]
        height, width = self._sizes[number].T
        y = torch.div(pixel - start, width, rounding_mode="floor")
        x = (pixel - start) % width
        sign = 1 - 2 * (mirrored & 1)
        dy, dx = torch.tensor(NEIGHBOURS).T * self._scale
        rows, columns = y[:, None] + dy, x[:, None] + dx * sign[:, None]
        inside = (rows >= 0) & (columns >= 0) & (columns < width[:, None])
        at = torch.where(inside, start[:, None] + rows * width[:, None] + columns, 0)
        neighbours = torch.where(inside, self._flat[at].long(), self._classes)
        coded_height = torch.div(height + self._scale - 1, self._scale, rounding_mode="floor")
        coded_row = torch.div(y, self._scale, rounding_mode="floor")
        return numbered(neighbours, coded_row, coded_height, self._classes), self._flat[pixel].long()


class ContextNetwork(nn.Module):
    """The float network of `FixedPointNetwork`; its outputs are natural logits.

    Args:
        classes: Number of classes.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        rows = table_rows(classes)
        self.tables = nn.Parameter(torch.zeros(rows, HIDDEN1 + classes))
        self.hidden_weight = nn.Parameter(torch.zeros(HIDDEN1, HIDDEN2))
        self.hidden_bias = nn.Parameter(torch.zeros(HIDDEN2))
        self.output_weight = nn.Parameter(torch.zeros(HIDDEN2, classes))
        self.output_bias = nn.Parameter(torch.zeros(classes))
        # Variance is kept by 21 rows, and by relu; the path around the hidden layers begins at zero.
        parts = (self.tables.data[:, :HIDDEN1], 0.15), (self.hidden_weight.data, math.sqrt(2 / HIDDEN1))
        for number, (part, deviation) in enumerate((*parts, (self.output_weight.data, math.sqrt(1 / HIDDEN2)))):
            drawn = keyed_normal(torch.tensor([number]), part.numel(), _INITIAL)
            part.copy_(drawn.view(part.shape) * deviation)

    def forward(self, contexts: Tensor) -> Tensor:
        """Logits (n, classes) of contexts int64 (n, FEATURES)."""
        sums = F.embedding_bag(contexts, self.tables, mode="sum")
        hidden = F.relu(F.relu(sums[:, :HIDDEN1]) @ self.hidden_weight + self.hidden_bias)
        return hidden @ self.output_weight + self.output_bias + sums[:, HIDDEN1:]


def trained_network(pixels: TrainingPixels, classes: int) -> ContextNetwork:
    """Train by maximum likelihood: AdamW, the learning rate up and down in one cycle, 100 to 1500 steps.

    Nothing is drawn from a global generator, and gradients are computed whatever mode the caller is in.
    """
    steps = min(max(_PASSES * len(pixels) // BATCH, _LEAST_STEPS), MOST_STEPS)
    with torch.inference_mode(False), torch.enable_grad():
        network = ContextNetwork(classes)
        optimizer = torch.optim.AdamW(network.parameters(), _LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, steps)
        for step in range(steps):
            contexts, labels = pixels.draw(step)
            optimizer.zero_grad()
            F.cross_entropy(network(contexts), labels).backward()
            optimizer.step()
            schedule.step()
    return network
