"""The embedded sample."""

import pytest
import torch

from datamodules import SampleDataModule
from datamodules.errors import DataError
from tests.data_helpers import flat_keys


def test_sample_counts_and_disjoint_splits() -> None:
    module = SampleDataModule(crops_per_image=10, batch_size=11, num_workers=2)
    train, val, test = (
        list(module.train_dataloader()),
        list(module.val_dataloader()),
        list(module.test_dataloader()),
    )
    assert len(train) == 10
    assert train[0]["image"].shape == (11, 3, 256, 256)
    names = [{name for batch in batches for name in batch["name"]} for batches in (train, val, test)]
    assert [len(each) for each in names] == [11, 2, 2]
    assert len(set.union(*names)) == 15
    pairs = {pair for batch in train for pair in zip(batch["name"], batch["caption"], strict=True)}
    assert len(pairs) == 11 * 5
    assert [batch["name"] for batch in test] == [["chelsea.png"], ["coffee.png"]]
    assert [batch["image"].shape for batch in test] == [(1, 3, 300, 451), (1, 3, 400, 600)]
    assert [batches[0]["dataset"] for batches in (train, val, test)] == ["sample", "sample", "sample-test"]
    assert all(batch["image"].min() >= 0 and batch["image"].max() <= 1 for batch in train)


def test_sample_crops_of_one_image_differ() -> None:
    loader = SampleDataModule(crops_per_image=2, batch_size=22, num_workers=0, crop_size=64).train_dataloader()
    batch = next(iter(loader))
    astronaut = [image for image, name in zip(batch["image"], batch["name"], strict=True) if name == "astronaut.png"]
    assert len(astronaut) == 2
    assert not torch.equal(*astronaut)
    loader.sampler.set_epoch(1)
    assert not set(flat_keys(loader)) & set(batch["key"].tolist())


def test_sample_needs_a_crop() -> None:
    with pytest.raises(DataError, match=r"crops_per_image is 0: set --data.crops_per_image"):
        SampleDataModule(crops_per_image=0)
