"""Deterministic sampling across ranks, and a loader that resumes in the middle of an epoch.

The order of an epoch is a function of (seed, epoch) alone, so a position in the data is two numbers, epoch
and batches done, however many ranks and workers there are.
"""

import hashlib
import struct
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from datamodules.batch import Batch
from datamodules.errors import DataError

EVALUATION_EPOCH = -1
"""The epoch in the keys of samples that are only evaluated: no training epoch, and the same in every run."""
_ORDER = -1  # takes the place of the sample index in the hash that seeds an epoch's permutation


def sample_key(seed: int, epoch: int, index: int) -> int:
    """Hash (seed, epoch, index) to a key in [0, 2**63); the same on every machine and in every process."""
    digest = hashlib.blake2b(struct.pack("<qqq", seed, epoch, index), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class KeyedSampler(Sampler[tuple[int, int]]):
    """Yields `(index, key)` in the shuffled order of an epoch: rank r of w takes positions r, r+w, r+2w, ...

    At each step the ranks together hold what a single process with the same global batch would hold. The tail
    that does not fill a global batch is dropped, so all ranks take equally many steps.

    Args:
        size: Elements in the dataset.
        batch_size: Elements per batch of one rank.
        seed: With the epoch it determines order and keys.
        rank: Of this process.
        world_size: Number of processes.

    Raises:
        DataError: there are fewer elements than one global batch holds.
    """

    def __init__(self, size: int, batch_size: int, seed: int = 0, rank: int = 0, world_size: int = 1) -> None:
        self.size = size
        self.batch_size = batch_size
        self.global_batch = batch_size * world_size
        self.steps = size // self.global_batch
        if self.steps == 0:
            raise DataError(
                f"the training set has {size} samples, fewer than one global batch of {self.global_batch} "
                f"({world_size} processes x batch size {batch_size}): lower --data.batch_size, use fewer "
                "devices, hold out fewer images with --data.val_images, or add images"
            )
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self._start: tuple[int, int] | None = None

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration takes."""
        self.epoch = epoch

    def start_at(self, epoch: int, step: int) -> None:
        """Let the next iteration, and only that, take `epoch` from `step` on."""
        self._start = (epoch, step)

    def __len__(self) -> int:
        return self.steps * self.global_batch // self.world_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        # Not itself a generator: epoch and start are fixed here, whatever is set before the first element.
        (epoch, step), self._start = self._start or (self.epoch, 0), None
        return self._order(epoch, step)

    def permutation(self, epoch: int, step: int) -> Tensor:
        """Indices, int64, that this rank takes in an epoch from a step on."""
        generator = torch.Generator().manual_seed(sample_key(self.seed, epoch, _ORDER))
        order = torch.randperm(self.size, generator=generator)[: self.steps * self.global_batch]
        return order[step * self.global_batch + self.rank :: self.world_size]

    def _order(self, epoch: int, step: int) -> Iterator[tuple[int, int]]:
        for index in self.permutation(epoch, step).tolist():
            yield index, sample_key(self.seed, epoch, index)


class FixedSampler(Sampler[tuple[int, int]]):
    """Yields `(index, key)` for indices r, r+w, r+2w, ... in order, each element once over all ranks.

    Keys are those of evaluation: they depend on nothing but the index. Ranks may differ by one element.
    """

    def __init__(self, size: int, rank: int = 0, world_size: int = 1) -> None:
        self.indices = range(rank, size, world_size)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((index, sample_key(0, EVALUATION_EPOCH, index)) for index in self.indices)


class ResumableLoader(DataLoader[Batch]):
    """A DataLoader over a `KeyedSampler` that continues after `load_state_dict` with exactly the next batch.

    Lightning stores and restores this state by itself, for every loader that has the two methods. Batches are
    counted as they are handed out, not as workers prefetch them. The length is always that of a full epoch,
    and a second iteration without `set_epoch` in between repeats the epoch.

    Iteration is lazy: the epoch is read when the first batch is asked for, because Lightning calls `iter()`
    before it sets the epoch. A restored position outranks the epoch set then: Lightning counts an epoch that
    `max_steps` cut short as finished, but its remaining batches have not been seen, so they come first, and
    the epochs after it follow in their order.

    Args:
        dataset: Indexed by `(index, key)`.
        sampler: Says which elements this rank gets, and how many per batch.
        collate_fn: From a list of elements to a batch.
        num_workers: Worker processes, kept alive between epochs; 0 reads in the main process.
        pin_memory: Page-locked batches, for transfer to a CUDA device.
        progress: Tells how many batches of this epoch have been trained on and how many it has for the
            trainer, so that a state taken while a batch is being trained on (an exception) does not count it,
            and an epoch that the trainer shortens ends where the trainer ends it. Without it every batch
            handed out counts as done.
        on_epoch_end: Called when the last batch of an epoch has been read or the iteration is given up.
    """

    sampler: KeyedSampler

    def __init__(
        self,
        dataset: Dataset[Any],
        sampler: KeyedSampler,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        num_workers: int = 0,
        pin_memory: bool = False,
        progress: Callable[[], tuple[int, float]] | None = None,
        on_epoch_end: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(
            dataset,
            sampler=sampler,
            batch_size=sampler.batch_size,
            drop_last=True,
            collate_fn=collate_fn,
            num_workers=num_workers,
            pin_memory=pin_memory,
            persistent_workers=num_workers > 0,
            generator=torch.Generator(),  # else each iteration would draw from the global generator
        )
        self.progress = progress
        self.on_epoch_end = on_epoch_end
        self._epoch = 0
        self._batches = 0
        self._restored = False
        self._epoch_offset = 0
        self._uncounted = 0

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # a generator, for laziness
        given_up = self._given_up()
        # The trainer counts the batches of what it takes for a new epoch from 0.
        self._uncounted = self._batches if given_up else 0
        if self._restored or given_up:
            self._restored = False
            self._epoch_offset = self._epoch - self.sampler.epoch
        else:
            self._epoch = self.sampler.epoch + self._epoch_offset
            self._batches = 0
        self.sampler.start_at(self._epoch, self._batches)
        try:
            for batch in super().__iter__():
                self._batches += 1
                # A trainer that knows the length never asks for the batch after the last: tell it before.
                if self._batches == len(self) and self.on_epoch_end is not None:
                    self.on_epoch_end()
                yield batch
        finally:
            if self.on_epoch_end is not None:
                self.on_epoch_end()

    def _given_up(self) -> bool:
        """Whether the trainer has left the last epoch early, as it does where a run with `max_steps` is resumed at an
        epoch's end: it takes the epoch before for the one to finish."""
        if self._restored or self.progress is None:
            return False
        return 0 < self._batches < min(len(self), self.progress()[1])

    def state_dict(self) -> dict[str, int]:
        """Return the position (`epoch`, `batches` done in it) and the sizes that tell if it still applies."""
        epoch, batches, end = self._epoch, self._batches, float(len(self))
        if self.progress is not None:
            done, end = self.progress()
            batches = min(batches, self._uncounted + done)
        if batches >= end:
            epoch, batches = epoch + 1, 0
        return {
            "epoch": epoch,
            "batches": batches,
            "samples_per_epoch": self.sampler.size,
            "global_batch": self.sampler.global_batch,
        }

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continue from a position; one at the end of its epoch continues at the start of the next.

        Raises:
            DataError: the position is in the middle of an epoch over another number of samples or with
                another global batch, where "the next batch" would repeat some samples and miss others.
        """
        epoch, batches = state_dict["epoch"], state_dict["batches"]
        samples, global_batch = state_dict["samples_per_epoch"], state_dict["global_batch"]
        if batches >= samples // global_batch:
            epoch, batches = epoch + 1, 0
        if batches > 0 and samples != self.sampler.size:
            raise DataError(
                f"the checkpoint stopped after {batches} batches of an epoch of {samples} samples, but there "
                f"are now {self.sampler.size}: resume with the data of the checkpoint (and its "
                "--data.val_images and --data.captions), or from a checkpoint of the end of an epoch"
            )
        if batches > 0 and global_batch != self.sampler.global_batch:
            raise DataError(
                f"the checkpoint stopped after {batches} batches of {global_batch} samples over all "
                f"processes, but the global batch is now {self.sampler.global_batch}: set --data.batch_size "
                f"so that processes x batch size is {global_batch}, or resume from a checkpoint of an epoch's end"
            )
        self._epoch, self._batches, self._restored = epoch, batches, True
