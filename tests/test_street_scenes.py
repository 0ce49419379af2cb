"""Street scenes: what the layouts hold, what a batch is, and that nothing but the key decides what training sees."""

from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub.constants
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import OnExceptionCheckpoint
from PIL import Image

from callbacks.segmenters import map_labels
from datamodules.batch import Batch
from datamodules.errors import DataError
from datamodules.street_classes import CITYSCAPES_EVALUATED, TABLES
from datamodules.street_scenes import StreetScenesDataModule
from tests.data_helpers import Recorder, data, flat_keys, needs_data, trainer
from tests.street_data_helpers import COUNT, HEIGHT, WIDTH, module, scene, write_camvid, write_cityscapes
from tests.test_data_ranks import two_ranks

STEPS_PER_EPOCH = 4
"""2 of the images are held out, so an epoch has 4 batches of 4."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_camvid(tmp_path / "camvid")


def check_view(image: torch.Tensor, labels: torch.Tensor) -> tuple[int, int, bool]:
    """Find where a view of `scene` comes from by its own pixels, and that map and image are one; gives top, left,
    mirrored."""
    pixels = (image * 255).round().byte().numpy()
    full_image, full_labels = scene(int(pixels[0, 0, 0]))
    mirrored = bool(pixels[1, 0, 0] > pixels[1, 0, -1])
    if mirrored:
        pixels, labels = pixels[..., ::-1], labels.flip(-1)
    left, top = int(pixels[1, 0, 0]), int(pixels[2, 0, 0])
    height, width = labels.shape
    window = (slice(top, top + height), slice(left, left + width))
    assert np.array_equal(pixels, full_image[window].transpose(2, 0, 1))
    assert np.array_equal(labels.numpy(), full_labels[window])
    return top, left, mirrored


def assert_same(ours: list[Batch], theirs: list[Batch]) -> None:
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        for field, value in one.items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(value, other[field])
            else:
                assert value == other[field]


# -- what is read ---------------------------------------------------------------------------------------------------


@needs_data
def test_camvid_is_pillows_bicubic_and_the_value_at_each_pixels_centre() -> None:
    whole = StreetScenesDataModule("camvid", data("camvid"), size=(192, 256), val_images=0, num_workers=1)
    batches = list(whole.test_dataloader())
    assert len(batches) == 24
    assert {batch["dataset"] for batch in batches} == {"camvid-val"}
    seen = set()
    for batch in batches[::6]:
        assert (batch["image"].dtype, batch["image"].shape) == (torch.float32, (1, 3, 192, 256))
        assert (batch["segmentation"].dtype, batch["segmentation"].shape) == (torch.int64, (1, 192, 256))
        path = Path(batch["path"][0])
        assert path.name == batch["name"][0]
        expected = np.asarray(Image.open(path).resize((256, 192), Image.Resampling.BICUBIC))
        assert np.array_equal((batch["image"][0] * 255).round().byte().permute(1, 2, 0).numpy(), expected)
        assert torch.equal(batch["image"] * 255, (batch["image"] * 255).round())
        labels = np.asarray(Image.open(path.parent.parent / "valannot" / path.name))
        for row in range(0, 192, 5):
            for column in range(0, 256, 7):
                value = labels[int((row + 0.5) * 360 / 192), int((column + 0.5) * 480 / 256)]
                assert batch["segmentation"][0, row, column] == value
        seen |= set(batch["segmentation"].unique().tolist())
    assert {0, 1, 3, 11} <= seen <= set(range(12))
    assert len(list(whole.training_label_maps())) == 80


def test_cityscapes_layout_and_both_tables(tmp_path: Path) -> None:
    ids = np.resize(np.arange(34, dtype=np.uint8), (64, 64))
    plates = ids.copy()
    plates[3, 5] = 255
    root = write_cityscapes(tmp_path, {"bochum": ids, "aachen": plates})
    settings: dict[str, Any] = {"size": (64, 64), "num_workers": 0, "batch_size": 1}
    with pytest.warns(UserWarning, match=r"holds 2 images of Cityscapes' val, which has 500"):
        batches = list(StreetScenesDataModule("cityscapes", str(tmp_path), **settings).test_dataloader())
    names = ["aachen_000001_000019_leftImg8bit.png", "bochum_000000_000019_leftImg8bit.png"]
    assert [batch["name"] for batch in batches] == [[name] for name in names]
    assert batches[0]["path"] == [str(root / "leftImg8bit" / "val" / "aachen" / names[0])]
    assert batches[0]["segmentation"][0, 3, 5] == 0  # a license plate is unlabeled
    assert torch.equal(batches[1]["segmentation"][0], torch.from_numpy(ids).long())
    with pytest.warns(UserWarning, match=r"holds 2 images of Cityscapes' train, which has 2975"):
        nineteen = StreetScenesDataModule("cityscapes", str(tmp_path), "cityscapes19", **settings)
        maps = list(nineteen.training_label_maps())
    assert nineteen.classes.names[19] == "void"
    for found, stored in zip(maps, (plates, ids), strict=True):
        values = torch.from_numpy(stored).long()
        expected = map_labels(values.masked_fill(values == 255, -1)[None], "cityscapes34_to_19")[0]
        assert torch.equal(found, expected.masked_fill(expected == 255, 19))


def test_tables() -> None:
    assert {name: len(table) for name, table in TABLES.items()} == {
        "cityscapes34": 34,
        "cityscapes19": 20,
        "cityscapes19_train_ids": 20,
        "camvid12": 12,
    }
    for name, table in TABLES.items():
        assert table.name == name
        assert set(table.symbols.values()) <= set(range(len(table)))
        assert len(table.evaluated) == (11 if name == "camvid12" else 19)
        symbols = torch.arange(len(table))[None, None]
        kept = [table.evaluated.index(n) if i not in table.ignored else 255 for i, n in enumerate(table.names)]
        assert table.to_evaluated(symbols).flatten().tolist() == kept
        for wrong in (-1, len(table)):
            with pytest.raises(ValueError, match=rf"these reach from .*{wrong}.*set --data.class_table to {name}"):
                table.to_evaluated(torch.tensor([[[0, wrong]]]))
    every = torch.arange(34)[None, None]
    assert torch.equal(TABLES["cityscapes34"].to_evaluated(every), map_labels(every, "cityscapes34_to_19"))
    names = TABLES["cityscapes34"].names
    assert [names[i] for i in CITYSCAPES_EVALUATED] == list(TABLES["cityscapes19"].names[:19])
    # Spot checks against the data set's own list.
    assert (names[7], names[11], names[24], names[26], names[33]) == ("road", "building", "person", "car", "bicycle")


def test_hub_layout_equals_the_files(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    kinds = datasets.Features(
        {"photo": datasets.Image(), "classes": datasets.Image(), "city": datasets.Value("string")}
    )
    for split, first in (("train", 0), ("test", 100)):
        scenes = [scene(number) for number in range(first, first + COUNT)]
        columns = {"photo": [Image.fromarray(image) for image, _ in scenes], "city": ["x"] * COUNT}
        columns["classes"] = [Image.fromarray(labels) for _, labels in scenes]
        file = tmp_path / "city scenes" / f"{split}-00000-of-00001.parquet"
        file.parent.mkdir(exist_ok=True)
        datasets.Dataset.from_dict(columns, features=kinds).to_parquet(file)
    settings: dict[str, Any] = {"image_column": "photo", "label_column": "classes", "test_split": "test"}
    settings |= {"class_table": "camvid12", "size": (HEIGHT, WIDTH), "num_workers": 0, "val_images": 0}
    for in_memory in (True, False):
        hub = StreetScenesDataModule("hub", str(file.parent), in_memory=in_memory, **settings)
        hub.prepare_data()
        batches = list(hub.test_dataloader())
        assert [batch["name"][0] for batch in batches] == [f"test-{index:05d}" for index in range(COUNT)]
        assert batches[0]["dataset"] == "city scenes-val"
        expected = [scene(number) for number in range(100, 100 + COUNT)]
        for batch, (image, labels) in zip(batches, expected, strict=True):
            assert "path" not in batch
            assert np.array_equal((batch["image"][0] * 255).round().byte().permute(1, 2, 0).numpy(), image)
            assert np.array_equal(batch["segmentation"][0].numpy(), labels)
        assert [int(each[0, 0]) for each in hub.training_label_maps()] == [number % 12 for number in range(COUNT)]
    for change, message in (
        ({"label_column": "city"}, r"no column 'city' of images, but photo \(Image\), .*set --data.label_column"),
        ({"image_column": "image"}, r"no column 'image' of images.*set --data.image_column"),
        ({"test_split": "validation"}, r"cannot load split validation of .*--data.test_split"),
        (
            {"image_column": "classes", "label_column": "photo"},
            r"photo of row 0 of .*\(test\) is an image of mode RGB",
        ),
    ):
        changed = StreetScenesDataModule("hub", str(file.parent), **{**settings, **change})
        with pytest.raises(DataError, match=message):
            changed.setup("test")


# -- batches --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_memory", [True, False])
def test_training_mirrors_and_crops_image_and_map_together(root: Path, in_memory: bool) -> None:
    loader = module(root, crop_size=64, in_memory=in_memory).train_dataloader()
    tops, lefts, mirrored = Counter(), Counter(), Counter()
    for epoch in range(12):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            assert batch["dataset"] == "camvid-train"
            assert (batch["image"].shape, batch["segmentation"].shape) == ((4, 3, 64, 64), (4, 64, 64))
            for image, labels in zip(batch["image"], batch["segmentation"], strict=True):
                top, left, flipped = check_view(image, labels)
                tops[top] += 1
                lefts[left] += 1
                mirrored[flipped] += 1
    assert sum(mirrored.values()) == 192
    assert 70 < mirrored[True] < 122  # 96 and four standard deviations
    # 192 draws from 33 and from 65 positions, the first and the last among them.
    assert len(tops) > 28 and set(tops) <= set(range(HEIGHT - 64 + 1))
    assert len(lefts) > 55 and set(lefts) <= set(range(WIDTH - 64 + 1))


def test_evaluation_is_whole_and_not_mirrored_and_held_out_images_are_not_trained_on(root: Path) -> None:
    whole = module(root, crop_size=64, val_images=5)
    trained = {name for batch in whole.train_dataloader() for name in batch["name"]}
    (val,) = [batch for batch in whole.val_dataloader() if len(batch["name"]) == 4]
    held_out = [name for batch in whole.val_dataloader() for name in batch["name"]]
    assert len(held_out) == 5 and not trained & set(held_out)
    assert val["dataset"] == "camvid-train"
    assert [
        name for batch in module(root, val_images=5, seed=9).val_dataloader() for name in batch["name"]
    ] == held_out
    tests = list(whole.test_dataloader())
    assert [len(batch["name"]) for batch in tests] == [1] * COUNT
    assert {batch["dataset"] for batch in tests} == {"camvid-val"}
    for batch in (val, *tests):
        for image, labels, name in zip(batch["image"], batch["segmentation"], batch["name"], strict=True):
            assert check_view(image, labels) == (0, 0, False)
            assert labels.shape == (HEIGHT, WIDTH)
            assert name == f"scene{round(float(image[0, 0, 0]) * 255)}.png"
    maps = list(whole.training_label_maps())
    assert [each.dtype for each in maps] == [torch.int64] * (COUNT - 5)
    numbers = sorted(set(range(COUNT)) - {int(name.removeprefix("scene").removesuffix(".png")) for name in held_out})
    expected = {scene(number)[1].tobytes() for number in numbers}
    assert {each.numpy().astype(np.uint8).tobytes() for each in maps} == expected
    assert list(module(root, val_images=0).val_dataloader()) == []


def test_memory_and_workers_change_nothing(root: Path) -> None:
    for crop_size in (None, 64):
        expected = None
        for settings in ({"in_memory": True}, {"in_memory": False}, {"in_memory": False, "num_workers": 2}):
            one = module(
                root, size=(80, 96) if crop_size is None else (HEIGHT, WIDTH), crop_size=crop_size, **settings
            )
            loaders = one.train_dataloader(), one.val_dataloader()
            assert loaders[0].num_workers == settings.get("num_workers", 0)
            batches = [batch for loader in loaders for batch in loader]
            expected = expected or batches
            assert_same(batches, expected)
            maps = list(one.training_label_maps())
            assert len(maps) == COUNT - 2 and {tuple(each.shape) for each in maps} == {one.size}


def test_auto_keeps_what_fits(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datamodules.street_scenes.MEMORY_LIMIT", COUNT * 4 * HEIGHT * WIDTH)
    for size, kept in (((HEIGHT, WIDTH), True), ((HEIGHT, WIDTH + 1), False)):
        assert module(root, size=size, num_workers=1).train_dataloader().num_workers == (0 if kept else 1)


def test_two_ranks_share_the_batches_of_one(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shares = []
    for one in two_ranks(monkeypatch, use_distributed_sampler=False):
        half = module(root, batch_size=2, crop_size=64)
        half.trainer = one
        shares.append([list(loader) for loader in (half.train_dataloader(), half.test_dataloader())])
    alone = module(root, crop_size=64)
    for step, batch in enumerate(alone.train_dataloader()):
        for field in ("image", "segmentation", "key"):
            both = torch.cat([share[0][step][field] for share in shares])
            # Dealt out in turn, so the whole batch is the two halves interleaved.
            assert torch.equal(both.unflatten(0, (2, -1)).transpose(0, 1).flatten(0, 1), batch[field])
    tested = [[batch["name"][0] for batch in share[1]] for share in shares]
    assert sorted(tested[0] + tested[1]) == sorted(batch["name"][0] for batch in alone.test_dataloader())


def test_it_resumes_in_the_middle_of_an_epoch(root: Path, tmp_path: Path) -> None:
    uninterrupted = Recorder()
    trainer(max_epochs=3).fit(uninterrupted, datamodule=module(root))
    assert len(uninterrupted.seen) == 3 * STEPS_PER_EPOCH
    seen, checkpoint = [], None
    for fail_at_step in (2, 9, None):
        model = Recorder(fail_at_step)
        keep = OnExceptionCheckpoint(tmp_path, f"failed_at_{fail_at_step}")
        fitting = trainer(max_epochs=3, callbacks=[keep])
        if fail_at_step is None:
            fitting.fit(model, datamodule=module(root), ckpt_path=checkpoint)
        else:
            with pytest.raises(InterruptedError):
                fitting.fit(model, datamodule=module(root), ckpt_path=checkpoint)
            checkpoint = keep.ckpt_path
        seen += model.seen
    assert seen == uninterrupted.seen


def test_prediction_is_the_test_set_and_the_global_random_state_stays(root: Path) -> None:
    one = module(root, crop_size=64)
    predictions = trainer().predict(Recorder(), one)
    assert [name for batch in predictions for name in batch] == sorted(path.name for path in (root / "val").iterdir())
    torch.manual_seed(0)
    before = torch.get_rng_state()
    loader = one.train_dataloader()
    first = flat_keys(loader)
    loader.sampler.set_epoch(1)
    assert not set(first) & set(flat_keys(loader))
    assert len(list(one.val_dataloader())) == 1
    assert torch.equal(torch.get_rng_state(), before)
