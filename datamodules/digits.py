"""Handwritten digits at 32x32, in memory: MNIST from IDX files or the hub, or the digits that scikit-learn ships."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from datamodules.digit_files import DigitSet, Split, embedded_digits, hub_digits, idx_digits
from datamodules.errors import DataError
from datamodules.in_memory import (
    FixedBatchSampler,
    InMemoryDataset,
    KeyedBatchSampler,
    ResumableBatchLoader,
    WholeBatchLoader,
)
from datamodules.sharded import ShardedDataModule

SIDE = 32
"""Height and width of the images of a batch, in pixels."""
_SHARE_OF_FREE_MEMORY = 0.1  # what `device_cache: auto` may take of a GPU: the networks need the rest


class DigitsDataModule(ShardedDataModule):
    """Greyscale digits of 32x32 with their class, held in memory and batched by indexing.

    The source is `root`, or `hub_id`, or, with neither, the 1,797 digits in the scikit-learn wheel. The official
    split is kept: MNIST trains on 60,000 and tests on 10,000 images. scikit-learn's digits have none, so their last
    359 are the test set. Images are resized once, on the 8-bit grid, to exactly what torchvision's `Resize(32)` and
    `ToTensor` make of the 8-bit picture (Pillow's bilinear filter); they are neither normalised nor augmented.

    Batches (`batch.Batch`) hold

    - `image`: float32 (B, 1, 32, 32), multiples of 1/255 in [0, 1];
    - `label`: int64 (B,), the digit;
    - `name`: the split and the position in it, such as `test-00042`; validation images are `train-...`, too;
    - `dataset`: `{name}` in training and validation, `{name}-test` in test and prediction;
    - `key`: int64 (B,), a hash of (seed, epoch, sample); in evaluation of the sample alone.

    Training takes one permutation per (seed, epoch), dealt out to the processes so that all of them together see the
    batches that one process with their global batch would see, drops the last incomplete batch, and resumes in the
    middle of an epoch. Nothing here uses or changes a global random state.

    Args:
        root: Folder with the four original MNIST files (`train-images-idx3-ubyte.gz` and so on, with or without
            .gz); null for another source.
        hub_id: Data set on the Hugging Face hub, such as `ylecun/mnist`, or a local copy of one; null for another
            source.
        name: Short name of the data set, in logged keys and file names; null for `mnist`, or for `digits` where the
            digits are scikit-learn's.
        batch_size: Images per batch and process, in every stage.
        val_images: The last this many training images are validated on instead of trained on. 0 trains on all, as
            the paper does, and validates on nothing.
        seed: Of the order of training samples and of their keys.
        device_cache: Where the images are kept. True: on the device that trains, so that no batch is copied to it;
            false: in main memory; "auto": on the device if they take at most a tenth of its free memory. MNIST at
            32x32 takes 290 MB with its test set.

    Raises:
        DataError: a setting is out of range or does not fit the data or the trainer, or the data are missing or
            broken; in `__init__`, `setup` and the loaders.
    """

    def __init__(
        self,
        root: str | None = None,
        hub_id: str | None = None,
        name: str | None = None,
        batch_size: int = 128,
        val_images: int = 128,
        seed: int = 0,
        device_cache: bool | Literal["auto"] = "auto",
    ) -> None:
        super().__init__()
        if root is not None and hub_id is not None:
            raise DataError(f"root is {root} and hub_id is {hub_id}: set --data.root or --data.hub_id to null")
        if batch_size < 1:
            raise DataError(f"batch_size is {batch_size}: set --data.batch_size to 1 or more")
        if val_images < 0:
            raise DataError(f"val_images is {val_images}: set --data.val_images to 0 or more")
        if device_cache not in (True, False, "auto"):
            raise DataError(f"device_cache is {device_cache!r}: set --data.device_cache to true, false or auto")
        self.root = None if root is None else Path(root)
        self.hub_id = hub_id
        self.train_name = name or ("digits" if root is None and hub_id is None else "mnist")
        self.test_name = f"{self.train_name}-test"
        self.batch_size = batch_size
        self.val_images = val_images
        self.seed = seed
        self.device_cache = device_cache
        self._train: InMemoryDataset | None = None
        self._val: InMemoryDataset | None = None
        self._test: InMemoryDataset | None = None

    def prepare_data(self) -> None:
        """Download from the hub, in one process, what all of them then read from its cache."""
        if self.hub_id is not None:
            for split in ("train", "test"):
                hub_digits(self.hub_id, split)

    def setup(self, stage: str | None = None) -> None:
        """Read and resize, once, the images of `stage`: fit, validate, test, predict, or None for all."""
        if stage in (None, "fit", "validate") and self._train is None:
            images, labels = self._tensors("train")
            count = len(images) - self.val_images
            if count < 1:
                raise DataError(
                    f"val_images={self.val_images} leaves nothing to train on out of {len(images)} images of "
                    f"{self.train_name}: lower --data.val_images"
                )
            self._train = InMemoryDataset(images[:count], labels[:count], "train", 0, self.train_name)
            self._val = InMemoryDataset(images[count:], labels[count:], "train", count, self.train_name)
        if stage in (None, "test", "predict") and self._test is None:
            self._test = InMemoryDataset(*self._tensors("test"), "test", 0, self.test_name)

    def train_dataloader(self) -> ResumableBatchLoader:
        """Return the loader of this process's share of the training images.

        Raises:
            DataError: there is less than one global batch, or the trainer is set up in a way that would undo
                the loader's own sharding and order.
        """
        self.setup("fit")
        assert self._train is not None
        rank, world_size = self.training_share()
        return ResumableBatchLoader(
            self._train,
            KeyedBatchSampler(len(self._train), self.batch_size, self.seed, rank, world_size),
            pin_memory=self._pinned(self._train),
            progress=self.progress if self.trainer is not None else None,
        )

    def val_dataloader(self) -> WholeBatchLoader | list[Any]:
        """Return the loader of this process's share of the held-out images, or none where none are held out."""
        self.setup("validate")
        assert self._val is not None
        return self._evaluation_loader(self._val) if self.val_images > 0 else []

    def test_dataloader(self) -> WholeBatchLoader:
        """Return the loader of this process's share of the test images."""
        self.setup("test")
        assert self._test is not None
        return self._evaluation_loader(self._test)

    def predict_dataloader(self) -> WholeBatchLoader:
        """Return what `test_dataloader` returns."""
        return self.test_dataloader()

    def _evaluation_loader(self, dataset: InMemoryDataset) -> WholeBatchLoader:
        sampler = FixedBatchSampler(len(dataset), self.batch_size, *self.share())
        return WholeBatchLoader(dataset, sampler=sampler, pin_memory=self._pinned(dataset))

    def _read(self, split: Split) -> DigitSet:
        if self.root is not None:
            return idx_digits(self.root, split)
        return embedded_digits(split) if self.hub_id is None else hub_digits(self.hub_id, split)

    def _tensors(self, split: Split) -> tuple[Tensor, Tensor]:
        digits = self._read(split)
        # Divided here, on the CPU: a GPU multiplies by the reciprocal, which differs in the last place.
        images = torch.from_numpy(resize(digits.images, SIDE)).unsqueeze(1).float().div_(255)
        labels = torch.from_numpy(digits.labels)
        device = self._cache_device(images.nbytes)
        return images.to(device), labels.to(device)

    def _cache_device(self, size: int) -> torch.device:
        device = torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
        if self.device_cache is True or device.type == "cpu":
            return device
        if self.device_cache == "auto" and device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if size <= _SHARE_OF_FREE_MEMORY * free:
                return device
        return torch.device("cpu")

    def _pinned(self, dataset: InMemoryDataset) -> bool:
        return self.on_cuda() and not dataset.images.is_cuda


def resize(images: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Resize many square 8-bit images at once to what Pillow's bilinear filter makes of each.

    Pillow resizes rows first, rounds to 8 bits, then resizes columns, all rows alike. So the rows of all images are
    resized as one tall picture, and then the columns as the rows of another.

    Args:
        images: (N, S, S). With other shapes Pillow may start with the columns.
        side: Height and width to resize to, in pixels.

    Returns:
        (N, side, side).
    """
    for _ in range(2):
        count, height, width = images.shape
        tall = Image.fromarray(images.reshape(count * height, width))
        rows = np.asarray(tall.resize((side, count * height), Image.Resampling.BILINEAR))
        images = np.ascontiguousarray(rows.reshape(count, height, side).transpose(0, 2, 1))
    return images
