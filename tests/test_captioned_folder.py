"""Folders of captioned images, small ones and the real Kodak and Flickr8k."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from datamodules import CaptionedFolderDataModule
from datamodules.errors import DataError, UnreadableImageError
from datamodules.transforms import to_tensor
from tests.data_helpers import (
    STEPS_PER_EPOCH,
    Recorder,
    data,
    flat_keys,
    folder_module,
    needs_data,
    trainer,
    truncate,
    write_captioned_folder,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_captioned_folder(tmp_path)


def test_global_random_state_is_left_alone(folder: Path) -> None:
    module = folder_module(folder)
    state = torch.get_rng_state()
    first = flat_keys(module.train_dataloader())
    list(module.val_dataloader())
    list(module.test_dataloader())
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(1)
    assert flat_keys(module.train_dataloader()) == first
    assert flat_keys(folder_module(folder, seed=1).train_dataloader()) != first


def test_held_out_images_are_disjoint_and_stable(folder: Path) -> None:
    def names(module: CaptionedFolderDataModule) -> tuple[set[str], list[str]]:
        train = {name for batch in module.train_dataloader() for name in batch["name"]}
        return train, [name for batch in module.val_dataloader() for name in batch["name"]]

    train, val = names(folder_module(folder))
    assert len(val) == 4
    assert len(train) == 16
    assert not train & set(val)
    assert names(folder_module(folder, seed=9, captions="first"))[1] == val
    assert set(val) < set(names(folder_module(folder, val_images=6))[1])


def test_settings_out_of_range(folder: Path) -> None:
    with pytest.raises(DataError, match=r"batch_size is 0: set --data.batch_size to 1 or more"):
        folder_module(folder, batch_size=0)
    with pytest.raises(DataError, match=r"val_images=20 leaves nothing to train on out of 20"):
        folder_module(folder, val_images=20).setup("fit")
    with pytest.raises(DataError, match=r"training set has 48 samples, fewer than one global batch of 64"):
        folder_module(folder, batch_size=64).train_dataloader()


def test_folder_errors(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder .*absent: set --data.root"):
        CaptionedFolderDataModule(str(tmp_path / "absent")).setup("test")
    with pytest.raises(DataError, match=r"no image in .*looked for .*\.png"):
        CaptionedFolderDataModule(str(tmp_path)).setup("test")
    captions = json.loads((tmp_path / "captions.json").read_text())
    (tmp_path / "captions.json").write_text(json.dumps({**captions, "image3.png": [" "]}))
    with pytest.raises(DataError, match=r"1 of 20 images .* no caption in .*captions.json: image3.png"):
        folder_module(folder).setup("fit")
    (tmp_path / "captions.json").write_text(json.dumps({**captions, "spare.png": "x"}))
    with pytest.warns(UserWarning, match=r"1 captions in .*captions.json have no image: spare.png"):
        folder_module(folder).setup("fit")


def test_unreadable_headers_are_left_out_where_asked(folder: Path) -> None:
    (folder / "image7.png").write_text("not an image")
    with pytest.raises(UnreadableImageError, match=r"image7.png"):
        folder_module(folder).setup("fit")
    module = folder_module(folder, on_unreadable="skip")
    with pytest.warns(UserWarning, match=r"1 of 20 images are unreadable and are left out: image7.png"):
        module.setup("fit")
    assert len(flat_keys(module.train_dataloader())) == 40  # 15 x 3 in batches of 8


def test_skipped_files_are_reported_at_the_end_of_the_epoch(folder: Path) -> None:
    train_name = next(iter(folder_module(folder).train_dataloader()))["name"][0]
    truncate(folder / train_name)
    # A trainer asks for as many batches as there are and no more.
    batches = iter(folder_module(folder, on_unreadable="skip").train_dataloader())
    with pytest.warns(UserWarning, match=rf"^1 unreadable images were replaced.*{train_name}"):
        for _ in range(STEPS_PER_EPOCH):
            next(batches)
    given_up = iter(folder_module(folder, on_unreadable="skip").train_dataloader())
    next(given_up)
    with pytest.warns(UserWarning, match=rf"^1 unreadable images were replaced.*{train_name}"):
        given_up.close()
    with pytest.raises(UnreadableImageError, match=train_name):
        trainer(max_epochs=1).fit(Recorder(), datamodule=folder_module(folder))
    for num_workers in (0, 2):
        model = Recorder()
        skipping = folder_module(folder, on_unreadable="skip", num_workers=num_workers)
        with pytest.warns(UserWarning, match=rf"^1 unreadable images were replaced.*{train_name}"):
            trainer(max_epochs=1, limit_val_batches=0).fit(model, datamodule=skipping)
        assert len(model.seen) == STEPS_PER_EPOCH


def test_folder_without_captions_is_in_natural_order(folder: Path) -> None:
    module = CaptionedFolderDataModule(str(folder), num_workers=0)
    batches = list(module.test_dataloader())
    assert [batch["name"] for batch in batches] == [[f"image{number}.png"] for number in range(20)]
    assert all("caption" not in batch and batch["dataset"] == "folder" for batch in batches)
    assert all(batch["image"].shape == (1, 3, 32, 40) for batch in batches)


def test_test_and_predict_through_the_trainer(folder: Path) -> None:
    predicted = trainer().predict(Recorder(), datamodule=folder_module(folder))
    assert predicted == [[f"image{number}.png"] for number in range(20)]


@needs_data
def test_kodak_is_whole_and_in_order_with_its_garbled_caption() -> None:
    module = CaptionedFolderDataModule(data("kodak"), data("kodak", "kodak_ofa.json"), num_workers=0)
    batches = list(module.test_dataloader())
    assert [batch["name"] for batch in batches] == [[f"kodim{number:02d}.png"] for number in range(1, 25)]
    sizes = [tuple(batch["image"].shape) for batch in batches]
    assert (sizes.count((1, 3, 512, 768)), sizes.count((1, 3, 768, 512))) == (18, 6)
    assert batches[16]["caption"] == ["a statue of a woman holding a coconacci New K F"]
    assert {batch["dataset"] for batch in batches} == {"kodak"}
    with Image.open(data("kodak", "kodim05.png")) as image:
        assert torch.equal(batches[4]["image"][0], to_tensor(image))


@needs_data
def test_flickr8k_drops_small_images_and_pairs_all_captions() -> None:
    settings = {"captions_file": data("flickr8k_1k", "captions.csv"), "name": "flickr8k", "val_images": 21}
    module = CaptionedFolderDataModule(data("flickr8k_1k", "images"), num_workers=2, **settings)
    with pytest.warns(UserWarning, match=r"^679 of 1000 images have a side under crop_size=256 and are left out"):
        module.setup("fit")
    loader = module.train_dataloader()
    assert loader.sampler.size == 300 * 5
    batch = next(iter(loader))
    assert batch["image"].shape == (4, 3, 256, 256)
    assert batch["dataset"] == "flickr8k"
    first = CaptionedFolderDataModule(data("flickr8k_1k", "images"), captions="first", **settings)
    with pytest.warns(UserWarning, match="679"):
        assert first.train_dataloader().sampler.size == 300
