"""COCO captions, in its layout and on real photographs."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules import CocoCaptionsDataModule
from datamodules.errors import DataError
from tests.data_helpers import (
    data,
    needs_data,
    write_images,
)


def write_coco(root: Path, captions: dict[str, list[str]], split: str = "train2017") -> None:
    """Write a data set in COCO's layout with these captions by name."""
    write_images(root / split, len(captions))
    content = {
        "images": [
            {"id": number, "file_name": name, "width": 40, "height": 32} for number, name in enumerate(captions)
        ],
        "annotations": [
            {"image_id": number, "caption": text} for number, texts in enumerate(captions.values()) for text in texts
        ],
    }
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / f"captions_{split}.json").write_text(json.dumps(content))


def coco_mini(**kwargs: Any) -> CocoCaptionsDataModule:
    settings = {"year": 2017, "val_images": 8, "num_workers": 0} | kwargs
    return CocoCaptionsDataModule(data("coco_mini"), **settings)


@needs_data
def test_coco_counts() -> None:
    module = coco_mini()
    loader, val = module.train_dataloader(), list(module.val_dataloader())
    assert loader.sampler.size == 72 * 5
    assert sum(len(batch["name"]) for batch in val) == 8
    assert all(batch["image"].shape == (4, 3, 256, 256) and batch["dataset"] == "coco2017" for batch in val)
    with pytest.warns(UserWarning, match=r"^2 of 159 images have a side under test_crop=256"):
        test = list(module.test_dataloader())
    assert len(test) == 157
    assert all(batch["image"].shape == (1, 3, 256, 256) and batch["dataset"] == "coco2017-val" for batch in test)
    assert len(coco_mini(test_crop=None).test_dataloader()) == 159


@needs_data
def test_coco_batches_do_not_depend_on_workers() -> None:
    def two_epochs(num_workers: int) -> list[Any]:
        loader = coco_mini(num_workers=num_workers, captions="first", batch_size=12).train_dataloader()
        batches = list(loader)
        loader.sampler.set_epoch(1)
        return batches + list(loader)

    alone, workers = two_epochs(0), two_epochs(2)
    assert len(alone) == len(workers) == 12
    for one, other in zip(alone, workers, strict=True):
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["key"], other["key"])
        assert (one["name"], one["caption"]) == (other["name"], other["caption"])
    assert not torch.equal(alone[0]["key"], alone[6]["key"])


@needs_data
def test_coco_test_list(tmp_path: Path) -> None:
    annotations = json.loads(Path(data("coco_mini", "annotations", "captions_val2017.json")).read_text())
    names = [image["file_name"] for image in annotations["images"]][5:2:-1]
    (tmp_path / "restval.json").write_text(json.dumps(names))
    batches = list(coco_mini(test_list=str(tmp_path / "restval.json")).test_dataloader())
    assert [batch["name"] for batch in batches] == [[name] for name in names]
    assert {batch["dataset"] for batch in batches} == {"restval"}
    with pytest.raises(DataError, match=r"30504 of 30504 images in .*mscoco_30k_list.json.*--data.year"):
        coco_mini(test_list=data("captions", "mscoco_30k_list.json")).setup("test")


def test_coco_errors(tmp_path: Path) -> None:
    def module(**kwargs: Any) -> CocoCaptionsDataModule:
        settings = {"val_images": 1, "crop_size": 16, "test_crop": 16, "num_workers": 0} | kwargs
        return CocoCaptionsDataModule(str(tmp_path), year=2017, **settings)

    with pytest.raises(DataError, match=r"no .*train2017: expected .*annotations/captions_\{train,val\}2017.json"):
        module().setup("fit")
    write_coco(tmp_path, {f"image{number}.png": ["a", "b"] for number in range(6)})
    module().setup("fit")

    (tmp_path / "train2017" / "image2.png").unlink()
    with pytest.raises(DataError, match=r"1 of 6 images of train2017 have no file in .*: image2.png.*skip"):
        module().setup("fit")
    with pytest.warns(UserWarning, match=r"1 of 6 images of train2017 have no file"):
        assert module(on_unreadable="skip").train_dataloader().sampler.size == 4 * 2

    write_coco(tmp_path, {f"image{number}.png": ["a"] if number else [] for number in range(6)})
    with pytest.raises(DataError, match=r"1 of 6 images of train2017 have no caption: image0.png"):
        module().setup("fit")

    write_coco(tmp_path, {"image0.png": ["a"]}, "val2017")
    (tmp_path / "list.json").write_text('{"image0.png": 1}')
    with pytest.raises(DataError, match=r"list.json is not a JSON list of file names"):
        module(test_list=str(tmp_path / "list.json")).setup("test")
    (tmp_path / "annotations" / "captions_val2017.json").write_text('{"images": []}')
    with pytest.raises(DataError, match=r"captions_val2017.json is not a COCO captions file .*'annotations'"):
        module().setup("test")
    (tmp_path / "annotations" / "captions_val2017.json").unlink()
    with pytest.raises(DataError, match=r"no .*captions_val2017.json: expected"):
        module().setup("test")


def test_size_in_the_annotations_that_the_file_does_not_have(tmp_path: Path) -> None:
    write_coco(tmp_path, {f"image{number}.png": ["a"] for number in range(6)})
    write_images(tmp_path / "train2017", 6, size=(20, 10))
    module = CocoCaptionsDataModule(str(tmp_path), year=2017, val_images=1, crop_size=16, num_workers=0)
    with pytest.raises(DataError, match=r"image\d.png: the image is 20x10, smaller than the 16x16 crop"):
        list(module.train_dataloader())
