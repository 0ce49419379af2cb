"""Digits: what the sources hold, what a batch is, and that order, ranks and resuming are as for photographs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import OnExceptionCheckpoint

from datamodules.digits import DigitsDataModule
from datamodules.errors import DataError
from datamodules.in_memory import FixedBatchSampler, KeyedBatchSampler, sample_keys, splitmix64
from datamodules.sampler import KeyedSampler
from tests.data_helpers import Recorder, flat_keys, trainer
from tests.test_data_ranks import two_ranks
from tests.test_digit_files import BATCH, STEPS_PER_EPOCH, embedded

EPOCHS = 3


def test_splitmix64_equals_its_published_sequence() -> None:
    # The first outputs for the seed 1234567, as published with the generator's implementations.
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert splitmix64(1234567, np.arange(4, dtype=np.uint64)).tolist() == expected


def test_keys_depend_on_seed_epoch_and_sample_alone() -> None:
    indices = torch.arange(60000)
    keys = torch.stack([sample_keys(seed, epoch, indices) for seed in (0, 1) for epoch in (-1, 0, 1, 2)])
    assert keys.unique().numel() == keys.numel()
    assert keys.min() >= 0
    shuffled = torch.randperm(60000)
    assert torch.equal(sample_keys(1, 2, shuffled), keys[-1][shuffled])
    ones = sum((keys >> bit & 1).double().mean(1) for bit in range(63)) / 63
    assert (ones - 0.5).abs().max() < 2e-3  # four standard deviations are 1e-3


def test_order_is_that_of_the_sampler_of_single_samples() -> None:
    for rank in range(2):
        batches, samples = (kind(103, 8, 5, rank, 2) for kind in (KeyedBatchSampler, KeyedSampler))
        for start in ((0, 0), (1, 0), (2, 3)):
            batches.start_at(*start)
            samples.start_at(*start)
            taken = [indices.tolist() for indices, _ in batches]
            assert [index for batch in taken for index in batch] == [index for index, _ in samples]
            assert {len(each) for each in taken} == {8}
            assert len(taken) == len(batches) - start[1] == 6 - start[1]


def test_evaluation_ranks_take_each_sample_once() -> None:
    ranks = [list(FixedBatchSampler(11, 3, rank, 4)) for rank in range(4)]
    assert sorted(index for rank in ranks for indices, _ in rank for index in indices.tolist()) == list(range(11))
    assert list(FixedBatchSampler(1, 3, 1, 2)) == []
    assert [len(FixedBatchSampler(size, 3)) for size in (0, 3, 4)] == [0, 1, 2]


def test_two_ranks_share_the_batches_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = []
    for one in two_ranks(monkeypatch, use_distributed_sampler=False):
        module = embedded(batch_size=BATCH // 2)
        module.trainer = one
        shares.append([list(loader) for loader in (module.train_dataloader(), module.val_dataloader())])
    alone = embedded()
    for stage, whole in enumerate((list(alone.train_dataloader()), list(alone.val_dataloader()))):
        assert len(shares[0][stage]) == len(shares[1][stage]) == len(whole)
        for step, batch in enumerate(whole):
            for field in ("image", "label", "key"):
                both = torch.cat([share[stage][step][field] for share in shares])
                # Dealt out in turn, so the whole batch is the two halves interleaved.
                assert torch.equal(both.unflatten(0, (2, -1)).transpose(0, 1).flatten(0, 1), batch[field])


def test_trainer_settings_that_would_undo_the_order_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    module = embedded()
    module.trainer = trainer(overfit_batches=2)
    with pytest.raises(DataError, match=r"remove --trainer.overfit_batches"):
        module.train_dataloader()
    module.trainer = two_ranks(monkeypatch)[0]
    for loader in (module.train_dataloader, module.val_dataloader, module.test_dataloader):
        with pytest.raises(DataError, match=r"over its 2 processes: set --trainer.use_distributed_sampler false"):
            loader()


# -- through the trainer --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def uninterrupted() -> list[list[int]]:
    model = Recorder()
    trainer(max_epochs=EPOCHS).fit(model, datamodule=embedded())
    assert len(model.seen) == EPOCHS * STEPS_PER_EPOCH
    for epoch in range(EPOCHS):
        keys = [key for batch in model.seen[epoch * STEPS_PER_EPOCH :][:STEPS_PER_EPOCH] for key in batch]
        assert len(set(keys)) == STEPS_PER_EPOCH * BATCH
        assert set(keys) <= set(sample_keys(0, epoch, torch.arange(1310)).tolist())
    assert len(model.validated) == EPOCHS * 128
    return model.seen


@pytest.mark.parametrize("stops", [(5, 12), (20, 47), (33, 40)], ids=str)
def test_resume_after_two_exceptions(uninterrupted: list, tmp_path: Path, stops: tuple[int, int]) -> None:
    seen, checkpoint = [], None
    for fail_at_step in (*stops, None):
        model = Recorder(fail_at_step)
        keep = OnExceptionCheckpoint(tmp_path, f"failed_at_{fail_at_step}")
        fitting = trainer(max_epochs=EPOCHS, callbacks=[keep])
        if fail_at_step is None:
            fitting.fit(model, datamodule=embedded(), ckpt_path=checkpoint)
        else:
            with pytest.raises(InterruptedError):
                fitting.fit(model, datamodule=embedded(), ckpt_path=checkpoint)
            checkpoint = keep.ckpt_path
        seen += model.seen
    assert seen == uninterrupted


@pytest.mark.parametrize("stops", [(7, 14), (20, 45)], ids=str)
def test_resume_after_two_ends(uninterrupted: list, tmp_path: Path, stops: tuple[int, int]) -> None:
    seen, checkpoint = [], None
    for stop in (*stops, EPOCHS * STEPS_PER_EPOCH):
        model = Recorder()
        fitting = trainer(max_steps=stop, max_epochs=-1)
        fitting.fit(model, datamodule=embedded(), ckpt_path=checkpoint)
        checkpoint = str(tmp_path / f"{stop}.ckpt")
        fitting.save_checkpoint(checkpoint)
        seen += model.seen
    assert seen == uninterrupted


def test_a_checkpoint_of_another_batch_size_is_refused() -> None:
    loader = embedded().train_dataloader()
    next(iter(loader))
    state = loader.state_dict()
    assert state == {"epoch": 0, "batches": 1, "samples_per_epoch": 1310, "global_batch": BATCH}
    with pytest.raises(DataError, match=r"global batch is now 32: set --data.batch_size"):
        embedded(batch_size=32).train_dataloader().load_state_dict(state)


def test_prediction_covers_the_test_set_and_no_held_out_images_mean_no_validation() -> None:
    model, module = Recorder(), embedded(val_images=0)
    one = trainer(max_epochs=1)
    one.fit(model, datamodule=module)
    assert len(model.seen) == 1438 // BATCH
    assert model.validated == []
    names = [name for batch in one.predict(model, module) for name in batch]
    assert names == [f"test-{index:05d}" for index in range(359)]


def test_loading_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    module = embedded()
    loader = module.train_dataloader()
    first = flat_keys(loader)
    loader.sampler.set_epoch(1)
    assert not set(first) & set(flat_keys(loader))
    assert len(list(module.val_dataloader())) == 2
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("device_cache", "kept_on"), [("auto", "cuda"), (True, "cuda"), (False, "cpu")])
def test_device_cache(device_cache: Any, kept_on: str) -> None:
    here = next(iter(embedded().train_dataloader()))
    module = embedded(device_cache=device_cache)
    module.trainer = Trainer(accelerator="cuda", devices=1, logger=False, enable_checkpointing=False)
    batch = next(iter(module.train_dataloader()))
    for field in ("image", "label", "key"):
        assert batch[field].device.type == kept_on
        assert torch.equal(batch[field].cpu(), here[field])
        assert kept_on == "cuda" or batch[field].is_pinned()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"root": "a", "hub_id": "b"}, r"root is a and hub_id is b: set --data.root or --data.hub_id"),
        ({"batch_size": 0}, r"batch_size is 0"),
        ({"val_images": -1}, r"val_images is -1"),
        ({"val_images": 1438}, r"val_images=1438 leaves nothing to train on out of 1438 images of digits"),
        ({"device_cache": "gpu"}, r"device_cache is 'gpu': set --data.device_cache to true, false or auto"),
        ({"batch_size": 2000}, r"1310 samples, fewer than one global batch of 2000"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        DigitsDataModule(**settings).train_dataloader()
