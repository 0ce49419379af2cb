"""Datamodules, on the embedded sample and on the real photographs in DATA_ROOT."""

import io
import json
import os
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, OnExceptionCheckpoint
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from datamodules import CaptionedFolderDataModule, CocoCaptionsDataModule, SampleDataModule
from datamodules.captions import clean_caption, read_captions
from datamodules.errors import DataError, UnreadableImageError
from datamodules.sampler import FixedSampler, KeyedSampler, ResumableLoader, sample_key
from datamodules.samples import MAX_REPLACEMENTS, CaptionedDataset, Sample, collate, load_rgb
from datamodules.transforms import CentreCrop, RandomCrop, full_size, to_tensor

needs_data = pytest.mark.skipif(
    "DATA_ROOT" not in os.environ, reason="DATA_ROOT is not set: it should be the folder with the test data"
)


def data(*parts: str) -> str:
    return str(Path(os.environ["DATA_ROOT"], *parts))


def write_images(folder: Path, count: int, size: tuple[int, int] = (40, 32)) -> list[str]:
    """Write small images whose every pixel is (number, x, y), so that a crop tells where it comes from."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"image{number}.png" for number in range(count)]
    y, x = np.mgrid[: size[1], : size[0]].astype(np.uint8)
    for number, name in enumerate(names):
        Image.fromarray(np.stack([np.full_like(x, number), x, y], -1)).save(folder / name)
    return names


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


def truncate(path: Path) -> None:
    """Replace an image by the first half of an incompressible one: a good header, too few pixels."""
    noise = np.random.default_rng(0).integers(0, 256, (32, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flat_keys(batches: Any) -> list[int]:
    return [key for batch in batches for key in batch["key"].tolist()]


# --- reading ---------------------------------------------------------------------------------------------


def test_load_rgb_expands_greyscale_and_palettes(tmp_path: Path) -> None:
    grey = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    grey.save(tmp_path / "grey.png")
    red = Image.new("RGB", (8, 8), (200, 10, 20))
    red.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "palette.png")
    assert np.array_equal(np.array(load_rgb(tmp_path / "grey.png")), np.stack([np.array(grey)] * 3, -1))
    assert load_rgb(tmp_path / "palette.png").getpixel((3, 3)) == (200, 10, 20)


def test_load_rgb_composites_transparency_on_white(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (100, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("RGBA", (4, 4), (100, 0, 0, 255)).save(tmp_path / "solid.png")
    Image.new("LA", (4, 4), (0, 127)).save(tmp_path / "half.png")
    assert load_rgb(tmp_path / "clear.png").getpixel((0, 0)) == (255, 255, 255)
    assert load_rgb(tmp_path / "solid.png").getpixel((0, 0)) == (100, 0, 0)
    assert load_rgb(tmp_path / "half.png").getpixel((0, 0)) == (128, 128, 128)


def test_load_rgb_applies_exif_orientation(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 4), "black")
    image.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise to view
    image.save(tmp_path / "turned.png", exif=exif)
    turned = load_rgb(tmp_path / "turned.png")
    assert turned.size == (4, 8)
    assert turned.getpixel((3, 0)) == (255, 255, 255)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    write_images(tmp_path, 1)
    truncate(tmp_path / "image0.png")
    (tmp_path / "text.png").write_text("not an image")
    Image.fromarray(np.zeros((4, 4), dtype=np.uint16)).save(tmp_path / "deep.png")
    for name in ("image0.png", "text.png", "deep.png", "absent.png"):
        with pytest.raises(UnreadableImageError, match=rf"{name}.*--data.on_unreadable skip"):
            load_rgb(tmp_path / name)


def test_to_tensor_is_exact() -> None:
    pixels = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3) * 11
    tensor = to_tensor(Image.fromarray(pixels))
    assert tensor.shape == (3, 2, 4)
    assert tensor.dtype == torch.float32
    assert torch.equal((tensor * 255).round().to(torch.uint8), torch.from_numpy(pixels).permute(2, 0, 1))


# --- crops -----------------------------------------------------------------------------------------------


def test_random_crop_depends_on_the_key_alone_and_reaches_every_position(tmp_path: Path) -> None:
    image = load_rgb(tmp_path / write_images(tmp_path, 1, size=(10, 9))[0])
    crop = RandomCrop(8)
    state = torch.get_rng_state()
    corners = {crop(image, key).getpixel((0, 0))[1:] for key in range(100)}
    assert corners == {(x, y) for x in range(3) for y in range(2)}
    assert crop(image, 2**62 + 5).tobytes() == crop(image, 2**62 + 5).tobytes()
    assert torch.equal(state, torch.get_rng_state())


def test_centre_crop_and_too_small_image(tmp_path: Path) -> None:
    image = load_rgb(tmp_path / write_images(tmp_path, 1, size=(12, 9))[0])
    assert CentreCrop(8)(image, 0).getpixel((0, 0))[1:] == (2, 0)
    for crop in (CentreCrop(10), RandomCrop(10)):
        with pytest.raises(DataError, match=r"12x9, smaller than the 10x10.*--data.crop_size"):
            crop(image, 0)


# --- captions --------------------------------------------------------------------------------------------


def test_clean_caption_keeps_the_readable_part() -> None:
    assert clean_caption("New K\ufffd F\ufffd") == "New K F"
    assert clean_caption("\ufeff a\x00cat\n on\ta\u2028mat \ud800") == "a cat on a mat"
    assert clean_caption("café au lait, 「紅茶」 👩‍🚀") == "café au lait, 「紅茶」 👩‍🚀"


def test_caption_files(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"x.png": "one", "y.png": ["two", "", "three"]}')
    (tmp_path / "b.csv").write_bytes(b'\xef\xbb\xbfimage,caption\nx.png,"one, or\xff two"\nx.png,three\ny.png,\n')
    assert read_captions(tmp_path / "a.json") == {"x.png": ("one",), "y.png": ("two", "three")}
    assert read_captions(tmp_path / "b.csv") == {"x.png": ("one, or two", "three"), "y.png": ()}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.json", None, r"no caption file .*absent.json: set --data.captions_file"),
        ("a.txt", "x", r"a.txt is neither .json nor .csv"),
        ("a.json", "{", r"a.json is not valid JSON .*download it again"),
        ("a.json", "[1]", r"a.json holds a list: expected"),
        ("a.json", '{"x.png": 3}', r"3 for 'x.png': expected"),
        (
            "a.csv",
            "file,text\n",
            r"header of .*a.csv is \['file', 'text'\]: it needs the columns image,caption",
        ),
    ],
)
def test_wrong_caption_files(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read_captions(tmp_path / name)


# --- dataset and collation -------------------------------------------------------------------------------


def samples_in(folder: Path, count: int) -> list[Sample]:
    return [Sample(name, folder / name, (f"{name} a", f"{name} b")) for name in write_images(folder, count)]


def test_dataset_elements(tmp_path: Path) -> None:
    samples = samples_in(tmp_path, 3)
    pairs = CaptionedDataset(samples, full_size, captions="all")
    crops = CaptionedDataset(samples, full_size, captions="all", crops_per_image=3)
    assert [pairs[index, 0]["caption"] for index in range(len(pairs))] == [
        f"image{image}.png {caption}" for image in range(3) for caption in "ab"
    ]
    assert [crops[index, 0]["caption"][-1] for index in range(len(crops))] == list("aba" * 3)
    assert [CaptionedDataset(samples, full_size)[index, 0]["caption"][-1] for index in range(3)] == list("aaa")


def test_skip_takes_the_next_readable_image_and_reports_it(tmp_path: Path) -> None:
    samples = samples_in(tmp_path, 4)
    for number in (3, 0):
        truncate(samples[number].path)
    with pytest.raises(UnreadableImageError, match=r"image3.png"):
        CaptionedDataset(samples, full_size)[3, 7]
    dataset = CaptionedDataset(samples, full_size, captions="all", on_unreadable="skip")
    item = dataset[3 * 2 + 1, 7]
    assert (item["name"], item["caption"], item["key"]) == ("image1.png", "image1.png b", 7)
    assert torch.equal(item["image"], dataset[1 * 2, 8]["image"])
    with pytest.warns(UserWarning, match=r"^2 unreadable images were replaced.*image0.png, image3.png"):
        dataset.report_unreadable()


def test_skip_gives_up_after_many_in_a_row(tmp_path: Path) -> None:
    samples = samples_in(tmp_path, MAX_REPLACEMENTS + 3)
    for sample in samples[1 : MAX_REPLACEMENTS + 2]:
        sample.path.write_text("not an image")
    dataset = CaptionedDataset(samples, full_size, on_unreadable="skip")
    assert dataset[2, 0]["name"] == samples[-1].name
    with pytest.raises(DataError, match=rf"^{MAX_REPLACEMENTS + 1} images in a row.*check the disk"):
        dataset[1, 0]


def test_collate_names_the_two_files_that_differ(tmp_path: Path) -> None:
    samples = [*samples_in(tmp_path / "a", 2), Sample("wide.png", tmp_path / "wide.png")]
    Image.new("RGB", (41, 32)).save(tmp_path / "wide.png")
    dataset = CaptionedDataset(samples, full_size)
    with pytest.raises(DataError, match=r"image0.png of 40x32 and wide.png of 41x32.*batch size of 1"):
        collate([dataset[index, 0] for index in range(3)], "x")
    dataset = CaptionedDataset(samples, CentreCrop(32))
    assert "caption" not in collate([dataset[index, 0] for index in range(3)], "x")
    batch = collate([dataset[index, 2**62] for index in range(2)], "x")
    assert batch["caption"] == ["image0.png a", "image1.png a"]
    assert batch["key"].tolist() == [2**62] * 2


# --- sampling --------------------------------------------------------------------------------------------


def test_keys_are_fixed_and_spread() -> None:
    keys = {sample_key(seed, epoch, index) for seed in range(5) for epoch in range(-1, 5) for index in range(100)}
    assert len(keys) == 5 * 6 * 100
    assert all(0 <= key < 2**63 for key in keys)
    # Fixed for good: changing the hash changes every crop of a published run.
    assert sample_key(0, 0, 0) == 1445694884619442965


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


# --- through the Trainer ---------------------------------------------------------------------------------


class Recorder(L.LightningModule):
    """Records the keys it is trained on; fails at `fail_at_step` as a crash would, before the update."""

    def __init__(self, fail_at_step: int | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.fail_at_step = fail_at_step
        self.seen: list[list[int]] = []
        self.validated: list[str] = []

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.global_step == self.fail_at_step:
            raise InterruptedError("as if the machine went away")
        self.seen.append(batch["key"].tolist())
        return self.weight * batch["image"].mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.validated += batch["name"]

    def predict_step(self, batch: Any, batch_idx: int) -> list[str]:
        return batch["name"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(**kwargs: Any) -> L.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    kwargs.setdefault("enable_checkpointing", bool(kwargs.get("callbacks")))
    return L.Trainer(accelerator="cpu", **{**quiet, "num_sanity_val_steps": 0, **kwargs})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty small captioned images."""
    names = write_images(tmp_path / "folder", 20)
    captions = {name: [f"{name} {caption}" for caption in "abc"] for name in names}
    (tmp_path / "captions.json").write_text(json.dumps(captions))
    return tmp_path / "folder"


def folder_module(folder: Path, **kwargs: Any) -> CaptionedFolderDataModule:
    settings = {"crop_size": 16, "val_images": 4, "num_workers": 0, "batch_size": 8} | kwargs
    return CaptionedFolderDataModule(str(folder), str(folder.parent / "captions.json"), **settings)


# 16 images x 3 captions in batches of 8: 6 steps an epoch.
STEPS_PER_EPOCH, EPOCHS = 6, 3


@pytest.fixture
def uninterrupted(folder: Path) -> list[list[int]]:
    model = Recorder()
    trainer(max_epochs=EPOCHS).fit(model, datamodule=folder_module(folder))
    assert len(model.seen) == EPOCHS * STEPS_PER_EPOCH
    for epoch in range(EPOCHS):
        keys = [key for batch in model.seen[epoch * STEPS_PER_EPOCH :][:STEPS_PER_EPOCH] for key in batch]
        assert set(keys) == {sample_key(0, epoch, index) for index in range(48)}
    return model.seen


@pytest.mark.parametrize("num_workers", [0, 2])
def test_resume_after_exceptions(folder: Path, uninterrupted: list, tmp_path: Path, num_workers: int) -> None:
    seen, checkpoint = [], None
    for fail_at_step in (4, 9, None):
        model = Recorder(fail_at_step)
        keep = OnExceptionCheckpoint(tmp_path, f"failed_at_{fail_at_step}")
        fitting = trainer(max_epochs=EPOCHS, callbacks=[keep])
        arguments = {"datamodule": folder_module(folder, num_workers=num_workers), "ckpt_path": checkpoint}
        if fail_at_step is None:
            fitting.fit(model, **arguments)
        else:
            with pytest.raises(InterruptedError):
                fitting.fit(model, **arguments)
            checkpoint = keep.ckpt_path
        seen += model.seen
    assert seen == uninterrupted


@pytest.mark.parametrize("stops", [(4, 8), (2, 4), (5, 13), (6, 12), (7, 12)], ids=str)
def test_resume_after_max_steps(folder: Path, uninterrupted: list, tmp_path: Path, stops: tuple[int, ...]) -> None:
    seen, checkpoint = [], None
    for stop in (*stops, EPOCHS * STEPS_PER_EPOCH):
        model = Recorder()
        fitting = trainer(max_steps=stop, max_epochs=-1)
        fitting.fit(model, datamodule=folder_module(folder), ckpt_path=checkpoint)
        checkpoint = str(tmp_path / f"{stop}.ckpt")
        fitting.save_checkpoint(checkpoint)
        seen += model.seen
    assert seen == uninterrupted


@pytest.mark.parametrize(
    "when",
    [
        {"every_n_train_steps": 1},
        {"every_n_epochs": 1, "save_on_train_epoch_end": True},
        {"every_n_epochs": 1, "save_on_train_epoch_end": False},  # after validation
    ],
    ids=["step", "epoch", "validation"],
)
def test_resume_from_every_saved_checkpoint(
    folder: Path, uninterrupted: list, tmp_path: Path, when: dict[str, Any]
) -> None:
    keep = ModelCheckpoint(tmp_path / "kept", "{step}", save_top_k=-1, **when)
    trainer(max_epochs=2, callbacks=[keep]).fit(Recorder(), datamodule=folder_module(folder))
    saved = {int(re.findall(r"\d+", path.stem)[0]): path for path in (tmp_path / "kept").iterdir()}
    assert set(saved) == (set(range(1, 13)) if "every_n_train_steps" in when else {6, 12})
    for step in set(saved) & {1, 5, 6, 7, 12}:
        model = Recorder()
        trainer(max_epochs=EPOCHS).fit(model, datamodule=folder_module(folder), ckpt_path=str(saved[step]))
        assert model.seen == uninterrupted[step:], step


@pytest.mark.parametrize("lengths", [({"max_epochs": 1}, {"max_epochs": 3}), ({"max_steps": 4}, {"max_steps": 12})])
def test_an_epoch_that_the_trainer_shortens_ends_there(folder: Path, tmp_path: Path, lengths: tuple) -> None:
    short, long = lengths
    whole, first, second = Recorder(), Recorder(), Recorder()
    trainer(limit_train_batches=4, **long).fit(whole, datamodule=folder_module(folder))
    fitting = trainer(limit_train_batches=4, **short)
    fitting.fit(first, datamodule=folder_module(folder))
    fitting.save_checkpoint(tmp_path / "first.ckpt")
    trainer(limit_train_batches=4, **long).fit(
        second, datamodule=folder_module(folder), ckpt_path=str(tmp_path / "first.ckpt")
    )
    assert len(whole.seen) == 12
    assert first.seen + second.seen == whole.seen


def test_trainer_refuses_a_checkpoint_of_another_batch_size(folder: Path, tmp_path: Path) -> None:
    fitting = trainer(max_steps=2)
    fitting.fit(Recorder(), datamodule=folder_module(folder))
    fitting.save_checkpoint(tmp_path / "two.ckpt")
    with pytest.raises(DataError, match=r"batches of 8 samples.*now 4: set --data.batch_size"):
        trainer(max_steps=4).fit(
            Recorder(), datamodule=folder_module(folder, batch_size=4), ckpt_path=str(tmp_path / "two.ckpt")
        )


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


# --- the folder ------------------------------------------------------------------------------------------


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


# --- COCO ------------------------------------------------------------------------------------------------


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


# --- the embedded sample ---------------------------------------------------------------------------------


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


# --- the command line ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "settings"),
    [
        ("SampleDataModule", ["--data.crops_per_image=2"]),
        (
            "CaptionedFolderDataModule",
            ["--data.root=images", "--data.captions_file=null", "--data.val_images=3"],
        ),
        ("CocoCaptionsDataModule", ["--data.root=coco", "--data.year=2014", "--data.on_unreadable=skip"]),
    ],
)
def test_command_line_settings(module: str, settings: list[str]) -> None:
    shared = ["--data.batch_size=3", "--data.test_crop=64", "--data.captions=first", "--data.seed=5"]
    cli = LightningCLI(Recorder, run=False, args=[f"--data=datamodules.{module}", *settings, *shared])
    assert type(cli.datamodule).__name__ == module
    for argument in settings + shared:
        name, value = argument.removeprefix("--data.").split("=")
        assert str(getattr(cli.datamodule, name)).replace("None", "null") == value


@pytest.mark.parametrize("module", ["SampleDataModule", "CaptionedFolderDataModule", "CocoCaptionsDataModule"])
def test_help_explains_every_argument(module: str) -> None:
    text = io.StringIO()
    with redirect_stdout(text), pytest.raises(SystemExit):
        LightningCLI(Recorder, run=False, args=[f"--data.help=datamodules.{module}"])
    shared = ["batch_size", "crop_size", "test_crop", "num_workers", "seed", "captions", "on_unreadable"]
    own = {"SampleDataModule": "crops_per_image", "CaptionedFolderDataModule": "name"}
    for name in [*shared, own.get(module, "test_list")]:
        assert re.search(rf"\n  --data.{name} [^\n]*\n? +[A-Z\"][^(]", text.getvalue()), name
