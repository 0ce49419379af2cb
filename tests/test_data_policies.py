"""What becomes of small images, unreadable ones and captions: by policy, counted, for any number of workers."""

import json
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.errors import DataError
from datamodules.sampler import sample_key
from datamodules.samples import CaptionedDataset, Sample, collate, draw_caption
from datamodules.tally import Tally
from datamodules.transforms import CentreCrop, RandomCrop, full_size, padded, scaled_up
from lightning_modules.codecs.clip import ClipPart, load_clip
from lightning_modules.codecs.text_encoder import ClipTextEncoder
from tests.data_helpers import flat_keys, folder_module, truncate, write_captioned_folder, write_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_captioned_folder(tmp_path)


def write_small(folder: Path, *numbers: int, size: tuple[int, int] = (12, 30)) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    for number in numbers:
        Image.fromarray(pixels).save(folder / f"image{number}.png")


# --- small images ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize(("policy", "treated"), [("drop", "left out"), ("pad", "padded"), ("resize", "scaled up")])
def test_small_images(folder: Path, policy: str, treated: str, num_workers: int) -> None:
    write_small(folder, 3, 11)
    module = folder_module(folder, small_images=policy, num_workers=num_workers, batch_size=3)
    with pytest.warns(
        UserWarning, match=rf"^2 of 20 images have a side under crop_size=16 and are {treated}: image3"
    ):
        module.setup("fit")
    batches = list(module.train_dataloader()) + list(module.val_dataloader())
    assert all(batch["image"].shape[1:] == (3, 16, 16) for batch in batches)
    names = {name for batch in batches for name in batch["name"]}
    assert len(names) == (18 if policy == "drop" else 20)
    with pytest.warns(UserWarning, match=r"^2 of 20 images have a side under test_crop=14 and are left out"):
        assert len(folder_module(folder, small_images=policy, test_crop=14).test_dataloader()) == 18


def test_padding_continues_by_mirror_images() -> None:
    pixels = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
    larger = np.asarray(padded(Image.fromarray(pixels), 15))
    assert larger.shape == (15, 15, 3)
    for y in range(15):
        for x in range(15):
            # Position 0 of the picture is at 5; a mirror has period twice the length.
            row, column = (y - 5) % 10, (x - 5) % 8
            assert np.array_equal(larger[y, x], pixels[min(row, 9 - row), min(column, 7 - column)])
    assert padded(Image.fromarray(pixels), 5).size == (5, 5)  # one missing pixel goes to the right
    assert np.array_equal(np.asarray(padded(Image.fromarray(pixels), 5))[:, :4], pixels)
    assert np.asarray(padded(Image.new("RGB", (1, 1), (9, 8, 7)), 8)).reshape(-1, 3).tolist() == [[9, 8, 7]] * 64


def test_scaling_keeps_the_aspect_ratio() -> None:
    for size, expected in (((12, 30), (16, 40)), ((30, 12), (40, 16)), ((1, 200), (16, 3200)), ((15, 15), (16, 16))):
        assert scaled_up(Image.new("RGB", size), 16).size == expected
    flat = np.asarray(scaled_up(Image.new("RGB", (12, 30), (7, 90, 200)), 16))
    assert (flat == np.array([7, 90, 200])).all()


def test_only_small_images_are_changed_and_the_key_places_the_crop() -> None:
    wide = Image.fromarray(np.random.default_rng(0).integers(0, 256, (10, 60, 3)).astype(np.uint8))
    large = wide.resize((60, 60))
    for policy in ("pad", "resize"):
        crop = RandomCrop(16, policy)
        assert crop.box((60, 10), 0) is None
        assert crop(large, 3) == RandomCrop(16)(large, 3)
        enlarged = padded(wide, 16) if policy == "pad" else scaled_up(wide, 16)
        assert crop(wide, 3) == RandomCrop(16)(enlarged, 3)
        assert CentreCrop(16, policy)(wide, 3) == CentreCrop(16)(enlarged, 3)
        assert len({crop(wide, key).tobytes() for key in range(20)}) > 5


# --- unreadable images -----------------------------------------------------------------------------------


@pytest.mark.parametrize("num_workers", [0, 2])
def test_too_many_unreadable_images_end_the_epoch(folder: Path, num_workers: int) -> None:
    names = list({n for batch in folder_module(folder).train_dataloader() for n in batch["name"]})[:3]
    for name in names:
        truncate(folder / name)
    settings: dict[str, Any] = {"on_unreadable": "skip", "num_workers": num_workers}
    with pytest.raises(DataError, match=r"3 unreadable images were replaced .* more than max_unreadable=2: image\d"):
        list(folder_module(folder, max_unreadable=2, **settings).train_dataloader())
    module = folder_module(folder, max_unreadable=3, **settings)
    loader = module.train_dataloader()
    for epoch in range(2):  # each epoch counts anew
        loader.sampler.set_epoch(epoch)
        with pytest.warns(UserWarning, match=r"^3 unreadable images were replaced by the next image \(as seen"):
            assert len(flat_keys(loader)) == 48


def test_too_many_unreadable_headers_stop_before_training(folder: Path) -> None:
    for number in range(3):
        (folder / f"image{number}.png").write_bytes(b"")
    with pytest.warns(UserWarning, match="3 of 20 images are unreadable"):
        folder_module(folder, on_unreadable="skip", max_unreadable=3).setup("fit")
    with pytest.raises(DataError, match=r"3 of 20 images are unreadable, more than max_unreadable=2: image0"):
        folder_module(folder, on_unreadable="skip", max_unreadable=2).setup("fit")


def test_tally() -> None:
    tally = Tally("were padded", "Look at them.")
    for number in range(20):
        tally.note(f"café{number}.png" + "x" * 300)
        tally.note(f"café{number}.png" + "x" * 300)
    assert len(tally) == 20
    with pytest.warns(
        UserWarning, match=r"^20 images were padded \(as seen by rank 0\): café0.png.* and 17 more. Look"
    ):
        tally.report()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tally.report()  # nothing to tell
    tally.note("a")
    with pytest.warns(UserWarning, match=r"^1 images were padded \(as seen by rank 0\): a. Look"):
        tally.report()


# --- captions --------------------------------------------------------------------------------------------


def test_random_captions_are_uniform_and_drawn_anew_each_epoch(folder: Path) -> None:
    counts = Counter(draw_caption(5, sample_key(0, 0, index)) for index in range(5000))
    assert set(counts) == set(range(5)) and max(counts.values()) < 1150  # 1000 ± 5 standard deviations of 28
    # Independent of where the crop is: its left edge tells nothing of the caption.
    crop = RandomCrop(10)
    left = {number: [] for number in range(2)}
    for key in range(4000):
        box = crop.box((110, 10), key)
        assert box is not None
        left[draw_caption(2, key)].append(box[0])
    assert abs(np.mean(left[0]) - np.mean(left[1])) < 5

    def captions(num_workers: int, epoch: int) -> dict[str, str]:
        loader = folder_module(folder, captions="random", num_workers=num_workers).train_dataloader()
        assert loader.sampler.size == 16  # one sample per image
        loader.sampler.set_epoch(epoch)
        return {n: c for batch in loader for n, c in zip(batch["name"], batch["caption"], strict=True)}

    first, second = captions(0, 0), captions(0, 1)
    assert first == captions(2, 0) and first != second
    assert all(caption.startswith(f"{name} ") for name, caption in first.items())
    assert {caption[-1] for caption in [*first.values(), *second.values()]} == set("abc")


def test_best_of_n_captions_come_with_test_batches(folder: Path) -> None:
    for best_of, ends in ((2, "ab"), (9, "abc")):
        module = folder_module(folder, test_captions="best", best_of=best_of)
        batch = next(iter(module.test_dataloader()))
        assert batch["captions"] == [[f"image0.png {end}" for end in ends]]
        assert batch["caption"] == ["image0.png a"]
    for module in (folder_module(folder), folder_module(folder, test_captions="first", best_of=3)):
        assert "captions" not in next(iter(module.test_dataloader()))
    assert "captions" not in next(iter(folder_module(folder, test_captions="best").train_dataloader()))


def test_strange_captions_do_not_break_a_batch(tmp_path: Path) -> None:
    texts = ("", "word " * 10_000, "caf\udce9 \x00 \ufffd", "👩‍🚀" * 50)
    samples = [
        Sample(name, tmp_path / name, (text,)) for name, text in zip(write_images(tmp_path, 4), texts, strict=True)
    ]
    dataset = CaptionedDataset(samples, full_size, captions="random")
    batch = collate([dataset[index, index] for index in range(4)], "x")
    assert batch["caption"] == list(texts)
    (tmp_path / "folder").mkdir()
    write_images(tmp_path / "folder", 8)
    captions = {f"image{n}.png": [text or "x", ""] for n, text in enumerate(texts * 2)}
    (tmp_path / "captions.json").write_text(json.dumps(captions))
    model, tokenizer = load_clip(ClipPart(pretrained=False, architecture="tiny"))
    encoder = ClipTextEncoder(model.text_model, tokenizer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        batches = list(folder_module(tmp_path / "folder", batch_size=2).train_dataloader())
    assert len(batches) == 2
    for batch in batches:
        assert encoder.tokenize(batch["caption"])[0].shape == (2, 38)


# --- settings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"small_images": "stretch"},
            r"small_images is 'stretch': set --data.small_images to one of drop, pad, resize",
        ),
        ({"decode": "quick"}, r"decode is 'quick': set --data.decode to one of exact, fast"),
        ({"captions": "best"}, r"captions is 'best': set --data.captions to one of all, random, first"),
        ({"test_captions": "all"}, r"set --data.test_captions to one of first, best"),
        ({"on_unreadable": "ignore"}, r"set --data.on_unreadable to one of raise, skip"),
        ({"best_of": 0}, r"best_of is 0: set --data.best_of to 1 or more"),
        ({"max_unreadable": -1, "on_unreadable": "skip"}, r"max_unreadable is -1: set --data.max_unreadable to 0"),
        ({"max_unreadable": 5}, r"max_unreadable=5 does nothing .*: set --data.on_unreadable skip"),
    ],
)
def test_settings_out_of_range(folder: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        folder_module(folder, **settings)


def test_fast_decode_is_for_training_alone(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 40, 40, 3)).astype(np.uint8)
    root = write_captioned_folder(tmp_path)
    for number, pixels in enumerate(noise):
        Image.fromarray(pixels).save(root / f"image{number}.png", "JPEG", quality=80)
    exact, fast = (folder_module(root, decode=decode) for decode in ("exact", "fast"))
    for loader, equal in (("train_dataloader", False), ("val_dataloader", True), ("test_dataloader", True)):
        one, other = (next(iter(getattr(module, loader)())) for module in (exact, fast))
        assert one["key"].tolist() == other["key"].tolist()
        assert torch.equal(one["image"], other["image"]) is equal
