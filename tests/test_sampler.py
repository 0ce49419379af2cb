"""The order of training, and loaders that continue in the middle of an epoch."""

import pytest
import torch

from datamodules.errors import DataError
from datamodules.sampler import FixedSampler, KeyedSampler, ResumableLoader, sample_key


def test_keys_are_fixed_and_spread() -> None:
    keys = {sample_key(seed, epoch, index) for seed in range(5) for epoch in range(-1, 5) for index in range(100)}
    assert len(keys) == 5 * 6 * 100
    assert all(0 <= key < 2**63 for key in keys)
    # Fixed for good: changing the hash changes every crop of a published run.
    assert sample_key(0, 0, 0) == 1445694884619442965


def test_fixed_sampler_shards_without_duplicates() -> None:
    shares = [list(FixedSampler(7, rank, 3)) for rank in range(3)]
    assert sorted(item for share in shares for item in share) == list(FixedSampler(7))
    assert [len(share) for share in shares] == [3, 2, 2]


def test_fewer_samples_than_a_global_batch() -> None:
    with pytest.raises(DataError, match=r"7 samples, fewer than one global batch of 8 \(2 processes x batch size 4"):
        KeyedSampler(7, batch_size=4, rank=1, world_size=2)


def number_loader(size: int = 22, num_workers: int = 0, batch_size: int = 4) -> ResumableLoader:
    """Loader whose batches are lists of (index, key)."""
    return ResumableLoader(Items(), KeyedSampler(size, batch_size), collate_fn=list, num_workers=num_workers)


class Items(torch.utils.data.Dataset):
    def __getitem__(self, item: tuple[int, int]) -> tuple[int, int]:
        return item


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loader_continues_with_the_next_batch(num_workers: int) -> None:
    loader = number_loader(num_workers=num_workers)
    epochs = []
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)
        epochs.append(list(loader))
        assert list(loader) == epochs[-1], "a second iteration repeats the epoch"
    assert [len(epoch) for epoch in epochs] == [5, 5, 5] == [len(loader)] * 3

    loader.sampler.set_epoch(1)
    iterator = iter(loader)
    assert [next(iterator), next(iterator)] == epochs[1][:2]
    state = loader.state_dict()
    assert state == {"epoch": 1, "batches": 2, "samples_per_epoch": 22, "global_batch": 4}

    for _ in range(2):  # the second time from the state that the first gave back
        resumed = number_loader(num_workers=num_workers)
        resumed.load_state_dict(state)
        assert resumed.state_dict() == state
        resumed.sampler.set_epoch(1)
        rest = iter(resumed)
        first = next(rest)
        state = resumed.state_dict()
        assert [first, *rest] == epochs[1][state["batches"] - 1 :]
        assert len(resumed) == 5
        resumed.sampler.set_epoch(2)
        assert list(resumed) == epochs[2]


def test_loader_reads_the_epoch_when_first_advanced() -> None:
    loader = number_loader()
    early = iter(loader)
    loader.sampler.set_epoch(2)
    assert next(early) == next(iter(loader))
    assert loader.state_dict()["epoch"] == 2


def test_state_at_the_end_of_an_epoch_rolls_over() -> None:
    loader = number_loader()
    list(loader)
    state = loader.state_dict()
    assert (state["epoch"], state["batches"]) == (1, 0)
    for end_of_epoch in (state, {**state, "epoch": 0, "batches": 5}):
        # There is nothing left of the epoch, so other sizes are no obstacle.
        resumed = number_loader(size=30, batch_size=3)
        resumed.load_state_dict(end_of_epoch)
        resumed.sampler.set_epoch(1)
        index, key = next(iter(resumed))[0]
        assert key == sample_key(0, 1, index)
        assert (resumed.state_dict()["epoch"], resumed.state_dict()["batches"]) == (1, 1)


def test_state_of_other_sizes_is_refused_in_the_middle_of_an_epoch() -> None:
    state = {"epoch": 1, "batches": 2, "samples_per_epoch": 22, "global_batch": 4}
    with pytest.raises(DataError, match=r"epoch of 22 samples, but there are now 23: resume with the data"):
        number_loader(size=23).load_state_dict(state)
    with pytest.raises(DataError, match=r"batches of 4 samples.*now 2: set --data.batch_size"):
        number_loader(batch_size=2).load_state_dict(state)
