"""Labelled images held in memory as tensors: a batch is one indexing, without Python per sample.

Order, sharding over ranks and resuming are those of `sampler`, taken a batch at a time.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from datamodules.batch import Batch
from datamodules.sampler import EVALUATION_EPOCH, KeyedSampler, ResumableLoader, sample_key

Where = tuple[Tensor, Tensor]
"""Indices and keys of a batch, both int64 (B,) on the CPU."""

_KEYS = -2  # takes the place of the sample index in the hash that seeds an epoch's keys


def splitmix64(seed: int, position: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Element `position` (from 0) of the SplitMix64 sequence of `seed`, elementwise.

    Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014, with the constants
    of the variant 13 of Stafford that Java's SplittableRandom uses. For one seed it is a bijection.
    """
    with np.errstate(over="ignore"):  # arithmetic is modulo 2**64
        z = np.uint64(seed) + (position + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def sample_keys(seed: int, epoch: int, indices: Tensor) -> Tensor:
    """Hash (seed, epoch, index) to int64 keys in [0, 2**63), of the shape of `indices`.

    It does for many samples at once what `sampler.sample_key` does for one, in a fortieth of the time; the keys
    are others.
    """
    hashed = splitmix64(sample_key(seed, epoch, _KEYS), indices.numpy().astype(np.uint64))
    return torch.from_numpy((hashed >> np.uint64(1)).astype(np.int64))


class InMemoryDataset(Dataset[Batch]):
    """Labelled images, indexed by a whole batch of positions; batches lie on the device of the images.

    Args:
        images: float32 (N, C, H, W) in [0, 1].
        labels: int64 (N,), on the device of the images.
        prefix: Sample i is called `{prefix}-{first + i:05d}`.
        first: The number of the first sample.
        dataset: Short name of the data set.
    """

    def __init__(self, images: Tensor, labels: Tensor, prefix: str, first: int, dataset: str) -> None:
        self.images = images
        self.labels = labels
        self.dataset = dataset
        # An array of objects: indexing it and `tolist` run in C.
        self.names = np.array([f"{prefix}-{first + i:05d}" for i in range(len(images))], dtype=object)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, where: Where) -> Batch:
        indices, keys = where
        device = self.images.device
        there = indices.to(device, non_blocking=True)
        return {
            "image": self.images.index_select(0, there),
            "label": self.labels.index_select(0, there),
            "name": self.names[indices.numpy()].tolist(),
            "dataset": self.dataset,
            "key": keys.to(device, non_blocking=True),
        }


class KeyedBatchSampler(KeyedSampler):
    """Yields whole batches `(indices, keys)` of this rank in exactly the order of `KeyedSampler`.

    Its length is in batches.
    """

    def __len__(self) -> int:
        return self.steps

    def _order(self, epoch: int, step: int) -> Iterator[Where]:  # type: ignore[override]  # batches, not samples
        mine = self.permutation(epoch, step)
        keys = sample_keys(self.seed, epoch, mine)
        yield from zip(mine.split(self.batch_size), keys.split(self.batch_size), strict=True)


class FixedBatchSampler(Sampler[Where]):
    """Yields whole batches `(indices, keys)` of the samples r, r+w, r+2w, ... in order, each once over all ranks.

    Keys are those of evaluation: they depend on nothing but the index. The last batch may be smaller, and ranks may
    differ by one sample.
    """

    def __init__(self, size: int, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        self.indices = torch.arange(size)[rank::world_size]
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[Where]:
        for indices in self.indices.split(self.batch_size) if len(self.indices) > 0 else ():
            yield indices, sample_keys(0, EVALUATION_EPOCH, indices)


def _unchanged(batch: Batch) -> Batch:
    return batch


class WholeBatchLoader(DataLoader[Batch]):
    """A DataLoader whose sampler yields what its dataset takes for a whole batch; it reads in this process.

    Args:
        dataset: Indexed by an element of the sampler.
        sampler: Says what the batches are.
        kwargs: Of `DataLoader`. Those about gathering samples into batches and about workers have no effect.
    """

    # `sampler` by keyword alone: the trainer makes the loader anew for prediction, and passes it by keyword then.
    def __init__(self, dataset: InMemoryDataset, *, sampler: Sampler[Any], **kwargs: Any) -> None:
        own: dict[str, Any] = {
            "batch_size": None,
            "drop_last": False,
            "collate_fn": _unchanged,
            "num_workers": 0,
            "persistent_workers": False,
            "generator": torch.Generator(),  # else each iteration would draw from the global generator
        }
        super().__init__(dataset, sampler=sampler, **{**kwargs, **own})


class ResumableBatchLoader(ResumableLoader, WholeBatchLoader):
    """A `ResumableLoader` over a `KeyedBatchSampler`.

    All that it adds is where it gets its batches: `ResumableLoader` asks the next class for them, which here is
    `WholeBatchLoader` in place of `DataLoader`.
    """
