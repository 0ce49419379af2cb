"""What all datamodules of captioned photographs share: hold-out, filtering by size, and the three loaders."""

import hashlib
from abc import ABC, abstractmethod
from functools import partial
from typing import Literal

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import DataLoader

from datamodules.batch import Batch
from datamodules.errors import DataError, UnreadableImageError, first_of
from datamodules.sampler import FixedSampler, KeyedSampler, ResumableLoader
from datamodules.samples import CaptionedDataset, Sample, collate, image_size
from datamodules.sharded import ShardedDataModule
from datamodules.transforms import CentreCrop, Crop, RandomCrop, full_size


class CaptionedImageDataModule(ShardedDataModule, ABC):
    """Captioned photographs: random crops for training, held-out images for validation, whole ones for test.

    - Training: random `crop_size` crops, shuffled by (seed, epoch), resumable in the middle of an epoch.
    - Validation: images held out of the training data, centre crop, first caption.
    - Test and prediction: whole images (or their centre `test_crop`), first caption, one per batch.

    Nothing here uses or changes a global random state: each sample's key decides all that is random about it,
    so the batches are the same for any number of workers, and, at the same global batch, for any number of
    processes.

    Subclasses implement `training_samples` and `test_samples`, and set `train_name` and `test_name`.

    Args:
        batch_size: Images per batch and process, in training and validation.
        crop_size: Side of training and validation crops, in pixels. Smaller images are left out and counted.
        test_crop: Side of the centre crop of test images, in pixels; null for whole images. Images smaller
            than it are left out and counted.
        val_images: Number of images (with all their captions) held out of the training data for validation.
            Which ones depends on their names alone, not on the seed.
        num_workers: Processes that read and crop; 0 reads in the main process.
        seed: Of the order of training samples and of their keys.
        captions: "all": every pair of an image and one of its captions is a training sample; "first": every
            image is one sample, with its first caption.
        on_unreadable: What training does with a file that cannot be read: "raise" an error, or "skip" it,
            with a count at the end of the epoch. Validation and test always raise: a mean over other images
            is another figure.

    Raises:
        DataError: a setting is out of range, or does not fit the data or the trainer; in `setup` and the
            loaders.
    """

    train_name: str
    """Dataset short name in training and validation batches."""
    test_name: str
    """Dataset short name in test and prediction batches."""
    crops_per_image: int | None = None
    keep_decoded: bool = False
    """Training samples per image; None for one per caption."""

    def __init__(
        self,
        batch_size: int = 4,
        crop_size: int = 256,
        test_crop: int | None = None,
        val_images: int = 64,
        num_workers: int = 4,
        seed: int = 0,
        captions: Literal["all", "first"] = "all",
        on_unreadable: Literal["raise", "skip"] = "raise",
    ) -> None:
        super().__init__()
        at_least_one = {
            "batch_size": batch_size,
            "crop_size": crop_size,
            "test_crop": test_crop,
            "val_images": val_images,
        }
        for name, value in at_least_one.items():
            if value is not None and value < 1:
                raise DataError(f"{name} is {value}: set --data.{name} to 1 or more")
        self.batch_size = batch_size
        self.crop_size = crop_size
        self.test_crop = test_crop
        self.val_images = val_images
        self.num_workers = num_workers
        self.seed = seed
        self.captions = captions
        self.on_unreadable = on_unreadable
        self._train: CaptionedDataset | None = None
        self._val: CaptionedDataset | None = None
        self._test: CaptionedDataset | None = None

    @abstractmethod
    def training_samples(self) -> list[Sample]:
        """List the images to train on and to hold validation images out of."""

    @abstractmethod
    def test_samples(self) -> list[Sample]:
        """List the images to test on."""

    def hold_out(self, samples: list[Sample]) -> tuple[list[Sample], list[Sample]]:
        """Split training samples into those to train on and those to validate on.

        The `val_images` images whose names have the smallest hashes are held out: the same ones whatever the
        order, the seed and the number of captions, and nearly the same ones when images are added.

        Raises:
            DataError: nothing would be left to train on.
        """
        if self.val_images >= len(samples):
            raise DataError(
                f"val_images={self.val_images} leaves nothing to train on out of {len(samples)} images "
                f"of {self.train_name}: lower --data.val_images"
            )
        by_hash = sorted(samples, key=lambda sample: hashlib.blake2b(sample.name.encode()).digest())
        held_out = {sample.name for sample in by_hash[: self.val_images]}
        train = [sample for sample in samples if sample.name not in held_out]
        return train, [sample for sample in samples if sample.name in held_out]

    def setup(self, stage: str | None = None) -> None:
        """List and filter, once, the samples of `stage`: fit, validate, test, predict, or None for all."""
        if stage in (None, "fit", "validate") and self._train is None:
            samples = self._large_enough(self.training_samples(), self.crop_size, "crop_size", self.on_unreadable)
            train, val = self.hold_out(samples)
            self._train = CaptionedDataset(
                train,
                RandomCrop(self.crop_size),
                self.captions,
                self.crops_per_image,
                self.on_unreadable,
                self.keep_decoded,
            )
            self._val = CaptionedDataset(val, CentreCrop(self.crop_size))
        if stage in (None, "test", "predict") and self._test is None:
            samples = self.test_samples()
            crop: Crop = full_size
            if self.test_crop is not None:
                samples = self._large_enough(samples, self.test_crop, "test_crop", "raise")
                crop = CentreCrop(self.test_crop)
            self._test = CaptionedDataset(samples, crop)

    def train_dataloader(self) -> ResumableLoader:
        """Return the loader of this process's share of the training samples.

        Raises:
            DataError: there is less than one global batch, or the trainer is set up in a way that would undo
                the loader's own sharding and order.
        """
        self.setup("fit")
        assert self._train is not None
        rank, world_size = self.training_share()
        return ResumableLoader(
            self._train,
            KeyedSampler(len(self._train), self.batch_size, self.seed, rank, world_size),
            collate_fn=partial(collate, dataset=self.train_name),
            num_workers=self.num_workers,
            pin_memory=self.on_cuda(),
            progress=self.progress if self.trainer is not None else None,
            on_epoch_end=self._train.report_unreadable,
        )

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of this process's share of the held-out images."""
        self.setup("validate")
        assert self._val is not None
        return self._evaluation_loader(self._val, self.train_name, self.batch_size)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of this process's share of the test images, one per batch."""
        self.setup("test")
        assert self._test is not None
        return self._evaluation_loader(self._test, self.test_name, 1)

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Return what `test_dataloader` returns."""
        return self.test_dataloader()

    def _evaluation_loader(self, dataset: CaptionedDataset, name: str, batch_size: int) -> DataLoader[Batch]:
        return DataLoader(
            dataset,  # type: ignore[arg-type]  # of items, which the collation makes batches of
            sampler=FixedSampler(len(dataset), *self.share()),
            batch_size=batch_size,
            collate_fn=partial(collate, dataset=name),
            num_workers=self.num_workers,
            pin_memory=self.on_cuda(),
            persistent_workers=self.num_workers > 0,
            generator=torch.Generator(),  # else each iteration would draw from the global generator
        )

    def _large_enough(
        self, samples: list[Sample], side: int, setting: str, on_unreadable: Literal["raise", "skip"]
    ) -> list[Sample]:
        """Drop images with a side under `side`, and, where asked to, those without a readable header."""
        large: list[Sample] = []
        small: list[Sample] = []
        unreadable: list[Sample] = []
        for sample in samples:
            try:
                group = large if min(image_size(sample)) >= side else small
            except UnreadableImageError:
                if on_unreadable == "raise":
                    raise
                group = unreadable
            group.append(sample)
        for dropped, reason in (
            (small, f"have a side under {setting}={side}"),
            (unreadable, "are unreadable"),
        ):
            if dropped:
                names = first_of([sample.name for sample in dropped])
                rank_zero_warn(f"{len(dropped)} of {len(samples)} images {reason} and are left out: {names}")
        return large
