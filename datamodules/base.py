"""What all datamodules of captioned photographs share: hold-out, filtering by size, and the three loaders."""

import hashlib
from abc import ABC, abstractmethod
from functools import partial
from typing import Literal, get_args

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import DataLoader

from datamodules.batch import Batch
from datamodules.caption_variants import caption_variants
from datamodules.decoding import Decode
from datamodules.errors import DataError, UnreadableImageError, first_of
from datamodules.sampler import FixedSampler, KeyedSampler, ResumableLoader
from datamodules.samples import CaptionedDataset, Captions, Sample, collate, image_size
from datamodules.sharded import ShardedDataModule
from datamodules.transforms import CentreCrop, Crop, RandomCrop, SmallImages, full_size

TestCaptions = Literal["first", "best", "ablation"]


class CaptionedImageDataModule(ShardedDataModule, ABC):
    """Captioned photographs: random crops for training, held-out images for validation, whole ones for test.

    - Training: random `crop_size` crops, shuffled by (seed, epoch), resumable in the middle of an epoch.
    - Validation: images held out of the training data, centre crop, first caption.
    - Test and prediction: whole images (or their centre `test_crop`), one per batch, with their first caption or the
      first `best_of`.

    Nothing here uses or changes a global random state: each sample's key decides all that is random about it,
    so the batches are the same for any number of workers, and, at the same global batch, for any number of
    processes.

    Subclasses implement `training_samples` and `test_samples`, and set `train_name` and `test_name`.

    Args:
        batch_size: Images per batch and process, in training and validation.
        crop_size: Side of training and validation crops, in pixels.
        test_crop: Side of the centre crop of test images, in pixels; null for whole images. Images smaller
            than it are left out and counted.
        val_images: Number of images (with all their captions) held out of the training data for validation.
            Which ones depends on their names alone, not on the seed.
        num_workers: Processes that read and crop; 0 reads in the main process.
        seed: Of the order of training samples and of their keys.
        captions: "all": every pair of an image and one of its captions is a training sample; "random": every
            image is one sample, with one of its captions drawn anew in each epoch; "first": every image is one
            sample, with its first caption.
        on_unreadable: What training does with a file that cannot be read: "raise" an error, or "skip" it,
            with a count at the end of the epoch. Validation and test always raise: a mean over other images
            is another figure.
        max_unreadable: With "skip", how many files one process may skip in one epoch (or leave out before it)
            before it stops with an error, so that nobody trains through a dying disk; null for any number.
        small_images: What becomes of images with a side under `crop_size` in training and validation, counted
            in either case: "drop" leaves them out, as the authors' code does; "pad" continues them by their
            mirror image; "resize" scales them up, bicubic, until the shorter side is `crop_size`.
        decode: Of JPEG files in training: "exact", or "fast": libjpeg's fastest inverse DCT and no smoothing of
            subsampled chroma, for crops that differ at about 43 dB.
        test_captions: "first": each test image comes with its first caption; "best": with its first `best_of`,
            for the module to take the one that codes best; "ablation": with its first, another image's, the same for
            all and none, for the module to code it with each (see `caption_variants`).
        best_of: Captions of a test image to choose among, with `test_captions` "best".

    Raises:
        DataError: a setting is out of range, or does not fit the data or the trainer; in `setup` and the
            loaders.
    """

    train_name: str
    """Dataset short name in training and validation batches."""
    test_name: str
    """Dataset short name in test and prediction batches."""
    crops_per_image: int | None = None
    """Training samples per image; None for one per caption."""
    keep_decoded: bool = False
    """Whether decoded training images stay in memory."""

    def __init__(
        self,
        batch_size: int = 4,
        crop_size: int = 256,
        test_crop: int | None = None,
        val_images: int = 64,
        num_workers: int = 4,
        seed: int = 0,
        captions: Captions = "all",
        on_unreadable: Literal["raise", "skip"] = "raise",
        max_unreadable: int | None = None,
        small_images: SmallImages = "drop",
        decode: Decode = "exact",
        test_captions: TestCaptions = "first",
        best_of: int = 5,
    ) -> None:
        super().__init__()
        at_least_one = {
            "batch_size": batch_size,
            "crop_size": crop_size,
            "test_crop": test_crop,
            "val_images": val_images,
            "best_of": best_of,
        }
        for name, value in at_least_one.items():
            if value is not None and value < 1:
                raise DataError(f"{name} is {value}: set --data.{name} to 1 or more")
        one_of = {
            "captions": (captions, get_args(Captions)),
            "on_unreadable": (on_unreadable, ("raise", "skip")),
            "small_images": (small_images, get_args(SmallImages)),
            "decode": (decode, get_args(Decode)),
            "test_captions": (test_captions, get_args(TestCaptions)),
        }
        for name, (choice, choices) in one_of.items():
            if choice not in choices:
                raise DataError(f"{name} is {choice!r}: set --data.{name} to one of {', '.join(choices)}")
        if max_unreadable is not None and max_unreadable < 0:
            raise DataError(f"max_unreadable is {max_unreadable}: set --data.max_unreadable to 0 or more, or to null")
        if max_unreadable is not None and on_unreadable == "raise":
            raise DataError(
                f"max_unreadable={max_unreadable} does nothing where the first unreadable file is an error: "
                "set --data.on_unreadable skip, or --data.max_unreadable null"
            )
        self.batch_size = batch_size
        self.crop_size = crop_size
        self.test_crop = test_crop
        self.val_images = val_images
        self.num_workers = num_workers
        self.seed = seed
        self.captions = captions
        self.on_unreadable = on_unreadable
        self.max_unreadable = max_unreadable
        self.small_images = small_images
        self.decode = decode
        self.test_captions = test_captions
        self.best_of = best_of
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
            samples = self._large_enough(
                self.training_samples(), self.crop_size, "crop_size", self.small_images, self.on_unreadable
            )
            train, val = self.hold_out(samples)
            self._train = CaptionedDataset(
                train,
                RandomCrop(self.crop_size, self.small_images),
                self.captions,
                crops_per_image=self.crops_per_image,
                on_unreadable=self.on_unreadable,
                max_unreadable=self.max_unreadable,
                decode=self.decode,
                keep_decoded=self.keep_decoded,
            )
            self._val = CaptionedDataset(val, CentreCrop(self.crop_size, self.small_images))
        if stage in (None, "test", "predict") and self._test is None:
            samples = self.test_samples()
            crop: Crop = full_size
            if self.test_crop is not None:
                samples = self._large_enough(samples, self.test_crop, "test_crop", "drop", "raise")
                crop = CentreCrop(self.test_crop)
            best_of = self.best_of if self.test_captions == "best" else None
            variants = caption_variants(samples) if self.test_captions == "ablation" else None
            self._test = CaptionedDataset(samples, crop, best_of=best_of, variants=variants)

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
        self.check_evaluation(len(self._val), "validation")
        return self._evaluation_loader(self._val, self.train_name, self.batch_size)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of this process's share of the test images, one per batch."""
        self.setup("test")
        assert self._test is not None
        self.check_evaluation(len(self._test), "test")
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
        self,
        samples: list[Sample],
        side: int,
        setting: str,
        small_images: SmallImages,
        on_unreadable: Literal["raise", "skip"],
    ) -> list[Sample]:
        """Count images with a side under `side` and drop them if asked to; also those without a readable header."""
        kept: list[Sample] = []
        small: list[Sample] = []
        unreadable: list[Sample] = []
        for sample in samples:
            try:
                is_small = min(image_size(sample)) < side
            except UnreadableImageError:
                if on_unreadable == "raise":
                    raise
                unreadable.append(sample)
                continue
            if is_small:
                small.append(sample)
            if not is_small or small_images != "drop":
                kept.append(sample)
        treated = {"drop": "left out", "pad": "padded", "resize": "scaled up"}[small_images]
        for found, reason in (
            (small, f"have a side under {setting}={side} and are {treated}"),
            (unreadable, "are unreadable and are left out"),
        ):
            if found:
                names = first_of([sample.name for sample in found])
                rank_zero_warn(f"{len(found)} of {len(samples)} images {reason}: {names}")
        if self.max_unreadable is not None and len(unreadable) > self.max_unreadable:
            raise DataError(
                f"{len(unreadable)} of {len(samples)} images are unreadable, more than "
                f"max_unreadable={self.max_unreadable}: {first_of([sample.name for sample in unreadable])}. "
                "Check the disk, or raise --data.max_unreadable."
            )
        return kept
