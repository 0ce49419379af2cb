"""Several processes share the batches of one."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.utilities import rank_zero_only

from datamodules.errors import DataError
from datamodules.sampler import KeyedSampler
from tests.data_helpers import folder_module, trainer, write_captioned_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_captioned_folder(tmp_path)


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_together_take_the_global_batches_of_one_process(world_size: int) -> None:
    one = KeyedSampler(37, batch_size=8, seed=3)
    ranks = [KeyedSampler(37, 8 // world_size, 3, rank, world_size) for rank in range(world_size)]
    assert len(one) == 32
    assert {len(rank) for rank in ranks} == {32 // world_size}
    seen = set()
    for epoch in range(3):
        for sampler in (one, *ranks):
            sampler.set_epoch(epoch)
        whole, shares = list(one), [list(rank) for rank in ranks]
        per_rank = 8 // world_size
        for step in range(4):
            union = [item for share in shares for item in share[step * per_rank : (step + 1) * per_rank]]
            assert sorted(union) == sorted(whole[step * 8 : (step + 1) * 8])
        assert len({index for index, _ in whole}) == 32
        seen.add(tuple(index for index, _ in whole))
    assert len(seen) == 3


def two_ranks(monkeypatch: pytest.MonkeyPatch, **kwargs: Any) -> list[L.Trainer]:
    """Two trainers as each of two processes would set them up."""
    trainers = []
    monkeypatch.setattr(rank_zero_only, "rank", 0)  # the second trainer sets it to 1 for the whole process
    for rank in ("0", "1"):
        monkeypatch.setenv("LOCAL_RANK", rank)
        trainers.append(trainer(devices=2, strategy="ddp", **kwargs))
    assert [(each.global_rank, each.world_size) for each in trainers] == [(0, 2), (1, 2)]
    return trainers


def test_two_ranks_share_the_batches_of_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shares = []
    for one in two_ranks(monkeypatch, use_distributed_sampler=False):
        module = folder_module(folder, batch_size=4, num_workers=0)
        module.trainer = one
        shares.append([list(loader) for loader in (module.train_dataloader(), module.val_dataloader())])
    alone = folder_module(folder, batch_size=8, num_workers=2)
    for stage, whole in enumerate((list(alone.train_dataloader()), list(alone.val_dataloader()))):
        assert len(shares[0][stage]) == len(whole)
        for step, batch in enumerate(whole):
            together = {
                key: (image, caption)
                for share in shares
                for key, image, caption in zip(
                    share[stage][step]["key"].tolist(),
                    share[stage][step]["image"],
                    share[stage][step]["caption"],
                    strict=True,
                )
            }
            assert len(together) == len(batch["name"])
            for key, image, caption in zip(batch["key"].tolist(), batch["image"], batch["caption"], strict=True):
                assert torch.equal(together[key][0], image)
                assert together[key][1] == caption


def test_trainer_settings_that_would_undo_the_order_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = folder_module(folder)
    module.trainer = trainer(overfit_batches=2)
    with pytest.raises(DataError, match=r"remove --trainer.overfit_batches"):
        module.train_dataloader()
    module.trainer = two_ranks(monkeypatch)[0]
    for loader in (module.train_dataloader, module.val_dataloader, module.test_dataloader):
        with pytest.raises(DataError, match=r"over its 2 processes: set --trainer.use_distributed_sampler false"):
            loader()
