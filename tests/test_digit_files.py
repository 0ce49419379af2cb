"""Digits from IDX files, from the hub and from scikit-learn, at 32x32 as torchvision has them."""

import gzip
import shutil
import struct
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub.constants
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import MNIST
from torchvision.transforms import Compose, Resize, ToTensor

from datamodules.digit_files import embedded_digits, idx_digits, read_idx
from datamodules.digits import DigitsDataModule, resize
from datamodules.errors import DataError
from tests.data_helpers import data, needs_data

BATCH = 64
STEPS_PER_EPOCH = (1438 - 128) // BATCH


def embedded(**kwargs: Any) -> DigitsDataModule:
    return DigitsDataModule(**{"batch_size": BATCH, **kwargs})


def write_idx(path: Path, elements: np.ndarray, announced: tuple[int, ...] | None = None) -> Path:
    shape = announced or elements.shape
    content = bytes((0, 0, 8, len(shape))) + struct.pack(f">{len(shape)}I", *shape) + elements.astype("u1").tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.fixture
def small_mnist(tmp_path: Path) -> Path:
    """Forty random training and ten test images in MNIST's files, two of them not gzipped."""
    random = np.random.default_rng(0)
    for split, count, suffix in (("train", 40, ".gz"), ("t10k", 10, "")):
        write_idx(tmp_path / f"{split}-images-idx3-ubyte{suffix}", random.integers(0, 256, (count, 28, 28)))
        write_idx(tmp_path / f"{split}-labels-idx1-ubyte{suffix}", np.arange(count) % 10)
    return tmp_path


# -- sources --------------------------------------------------------------------------------------------------------


@needs_data
def test_mnist_equals_torchvisions(tmp_path: Path) -> None:
    shutil.copytree(data("mnist"), tmp_path / "MNIST" / "raw")
    (tmp_path / "MNIST" / "raw").chmod(0o755)
    for path in (tmp_path / "MNIST" / "raw").glob("*.gz"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
    reference = MNIST(str(tmp_path), train=False, transform=Compose([Resize(32), ToTensor()]))
    batches = list(DigitsDataModule(data("mnist"), batch_size=4000).test_dataloader())
    assert [len(batch["name"]) for batch in batches] == [4000, 4000, 2000]
    images, labels = (torch.cat([batch[key] for batch in batches]) for key in ("image", "label"))
    names = [name for batch in batches for name in batch["name"]]
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert torch.equal(labels, reference.targets)
    for index in (*range(0, 10000, 7), 9999):
        image, label = reference[index]
        assert torch.equal(images[index], image)
        assert names[index] == f"test-{index:05d}"
        assert labels[index] == label
    assert np.array_equal(idx_digits(Path(data("mnist")), "train").images, MNIST(str(tmp_path)).data.numpy())


@pytest.mark.parametrize(("before", "side"), [(28, 32), (8, 32), (33, 16), (32, 32), (5, 9)])
def test_resize_equals_torchvisions(before: int, side: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, before, before), dtype=np.uint8)
    transform = Resize(side)
    expected = np.stack([np.asarray(transform(Image.fromarray(image))) for image in images])
    assert np.array_equal(resize(images, side), expected)


def test_embedded_digits() -> None:
    train, test = embedded_digits("train"), embedded_digits("test")
    assert (train.images.shape, test.images.shape) == ((1438, 8, 8), (359, 8, 8))
    assert train.images.max() == 255
    assert np.bincount(test.labels).tolist() == [35, 36, 34, 37, 37, 37, 37, 36, 33, 37]
    module = embedded()
    loaders = (module.train_dataloader(), module.val_dataloader(), module.test_dataloader())
    batches = [list(loader) for loader in loaders]
    assert [len(loader) for loader in loaders] == [len(each) for each in batches] == [STEPS_PER_EPOCH, 2, 6]
    assert [sum(len(batch["name"]) for batch in each) for each in batches] == [BATCH * STEPS_PER_EPOCH, 128, 359]
    assert [each[0]["dataset"] for each in batches] == ["digits", "digits", "digits-test"]
    names = [name for each in batches for batch in each for name in batch["name"]]
    assert len(names) == len(set(names))
    assert batches[1][0]["name"][0] == "train-01310"
    transform = Compose([Resize(32), ToTensor()])
    for batch in batches[0]:
        assert {key: value.dtype for key, value in batch.items() if isinstance(value, torch.Tensor)} == {
            "image": torch.float32,
            "label": torch.int64,
            "key": torch.int64,
        }
        for image, label, name in zip(batch["image"], batch["label"], batch["name"], strict=True):
            index = int(name.removeprefix("train-"))
            assert label == train.labels[index]
            assert torch.equal(image, transform(Image.fromarray(train.images[index])))


def test_files_without_gz_and_the_name(small_mnist: Path) -> None:
    module = DigitsDataModule(str(small_mnist), batch_size=8, val_images=8)
    assert [len(loader) for loader in (module.train_dataloader(), module.test_dataloader())] == [4, 2]
    assert next(iter(module.test_dataloader()))["dataset"] == "mnist-test"
    assert DigitsDataModule(str(small_mnist), name="fashion").train_name == "fashion"


def break_images(images: Path, labels: Path) -> None:
    images.unlink()


def break_gzip(images: Path, labels: Path) -> None:
    images.write_bytes(images.read_bytes()[: images.stat().st_size // 2])


def break_gzip_name(images: Path, labels: Path) -> None:
    images.write_bytes(gzip.decompress(images.read_bytes()))


def break_swapped(images: Path, labels: Path) -> None:
    content = images.read_bytes()
    images.write_bytes(labels.read_bytes())
    labels.write_bytes(content)


def break_header(images: Path, labels: Path) -> None:
    images.write_bytes(gzip.compress(bytes((0, 0, 8, 3, 0, 0))))


def break_empty(images: Path, labels: Path) -> None:
    images.write_bytes(gzip.compress(b""))


def break_elements(images: Path, labels: Path) -> None:
    write_idx(images, np.zeros((39, 28, 28)), announced=(40, 28, 28))


def break_count(images: Path, labels: Path) -> None:
    write_idx(labels, np.zeros(39))


def break_label(images: Path, labels: Path) -> None:
    write_idx(labels, np.arange(40) % 11)


def break_size(images: Path, labels: Path) -> None:
    write_idx(images, np.zeros((40, 32, 28)))


def break_all(images: Path, labels: Path) -> None:
    write_idx(images, np.zeros((0, 28, 28)))
    write_idx(labels, np.zeros(0))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (break_images, r"there is no train-images-idx3-ubyte\[.gz\] in .*: expected .*check --data.root"),
        (break_gzip, r"train-images-idx3-ubyte.gz is truncated or no gzip file .*again"),
        (break_gzip_name, r"is truncated or no gzip file"),
        (break_swapped, r"begins with the bytes 00 00 08 01, .*3 dimensions begins with 00 00 08 03"),
        (break_header, r"ends within its header of 16 bytes"),
        (break_empty, r"begins with the bytes \(none\)"),
        (break_elements, r"holds 30576 elements, but its header announces 40 x 28 x 28 = 31360"),
        (break_count, r"holds 40 images but 39 labels"),
        (break_label, r"has label 10 at position 10 \(3 labels are not in 0..9\)"),
        (break_size, r"holds images of 32x28, expected 28x28"),
        (break_all, r"holds no images"),
    ],
)
def test_broken_files_are_named(small_mnist: Path, harm: Any, message: str) -> None:
    harm(small_mnist / "train-images-idx3-ubyte.gz", small_mnist / "train-labels-idx1-ubyte.gz")
    with pytest.raises(DataError, match=message):
        DigitsDataModule(str(small_mnist), val_images=8).setup("fit")


def test_idx_refuses_other_element_types(tmp_path: Path) -> None:
    (tmp_path / "floats").write_bytes(bytes((0, 0, 13, 1, 0, 0, 0, 1)) + struct.pack(">f", 1.0))
    with pytest.raises(DataError, match=r"00 00 0d 01"):
        read_idx(tmp_path / "floats", 1)


def hub_folder(folder: Path, images: np.ndarray, column: str = "image") -> str:
    """A data set as the hub would serve it: Parquet files with PNG pictures and classes."""
    folder.mkdir()
    features = datasets.Features({column: datasets.Image(), "label": datasets.ClassLabel(num_classes=10)})
    for split in ("train", "test"):
        rows = {column: [Image.fromarray(image) for image in images], "label": [i % 10 for i in range(len(images))]}
        datasets.Dataset.from_dict(rows, features).to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return str(folder)


def test_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    images = np.random.default_rng(0).integers(0, 256, (30, 28, 28), dtype=np.uint8)
    module = DigitsDataModule(hub_id=hub_folder(tmp_path / "good", images), batch_size=30)
    module.prepare_data()
    (batch,) = module.test_dataloader()
    assert np.array_equal((batch["image"][:, 0] * 255).round().numpy(), resize(images, 32))
    assert batch["label"].tolist() == [i % 10 for i in range(30)]
    assert batch["dataset"] == "mnist-test"
    colour = hub_folder(tmp_path / "colour", np.repeat(images[..., None], 3, -1))
    with pytest.raises(DataError, match=r"has images of RGB 28x28, expected 8-bit greyscale"):
        DigitsDataModule(hub_id=colour).setup("test")
    with pytest.raises(DataError, match=r"has columns picture, label, but no image: set --data.hub_id"):
        DigitsDataModule(hub_id=hub_folder(tmp_path / "columns", images, "picture")).setup("test")


def test_hub_without_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    with pytest.raises(DataError, match=r"cannot load split train of 'ylecun/mnist'.*Without network, put the four"):
        DigitsDataModule(hub_id="ylecun/mnist").prepare_data()


# -- order and keys -------------------------------------------------------------------------------------------------
