"""Street scenes with their label maps: Cityscapes, CamVid, or a data set of the hub, at one small size."""

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.batch import Batch
from datamodules.errors import DataError
from datamodules.sampler import FixedSampler, KeyedSampler, ResumableLoader
from datamodules.sharded import ShardedDataModule
from datamodules.street_classes import TABLES, StreetClasses
from datamodules.street_dataset import SceneStore, StreetDataset, collate
from datamodules.street_files import Scenes, Split, camvid, cityscapes
from datamodules.street_hub import HubScenes

Layout = Literal["cityscapes", "camvid", "hub"]

STRIDE = 64
"""Pixels that become one position of the hyperprior's hyper latent."""
MEMORY_LIMIT = 2 * 2**30
"""Bytes that `in_memory: auto` keeps at most of a split."""

_TABLES_OF: dict[str, tuple[str, ...]] = {
    "cityscapes": ("cityscapes34", "cityscapes19"),
    "camvid": ("camvid12",),
    "hub": tuple(TABLES),
}


class StreetScenesDataModule(ShardedDataModule):
    """Street scenes with a class per pixel, resized to one size; defaults are those of Xu et al., arXiv 2308.08154.

    `layout` says what `root` is:

    - `cityscapes`: the official folders, `leftImg8bit/{train,val}/CITY/X_leftImg8bit.png` with
      `gtFine/{train,val}/CITY/X_gtFine_labelIds.png`; 2,975 and 500 images.
    - `camvid`: `train/` with `trainannot/`, and `val/` with `valannot/`: PNG files of the same names.
    - `hub`: a data set of the Hugging Face hub, or a folder that `datasets` reads.

    Batches (`batch.Batch`) hold

    - `image`: float32 (B, 3, H, W), multiples of 1/255 in [0, 1];
    - `segmentation`: int64 (B, H, W), symbols of `classes`. A codec whose side information is the map at 1/8 takes
      every eighth row and column of it by itself;
    - `name`, `key`; `path`, where scenes are files; `dataset`: `{name}-train` in training and in validation, whose
      images are held out of it, and `{name}-val` in test and prediction.

    Training shuffles by (seed, epoch) and mirrors half of the images; with `crop_size` it cuts out squares; it can
    resume in the middle of an epoch. Validation and test take whole images, the test one per batch. The `val` split
    is the test set, as it is in the paper. Nothing here uses or changes a global random state: batches are the same
    for any number of workers, kept in memory or not, and, at the same global batch, for any number of processes.

    Every file of a split is checked in `setup`, before training.

    Args:
        layout: See above.
        root: Folder of the data set; for `hub` its id, or a folder.
        class_table: Name in `street_classes.TABLES`; null for `cityscapes34` or `camvid12` after the layout. `hub`
            needs one.
        name: Short name of the data set, in logged keys and file names; null for the layout's, or the last part of
            `root` for `hub`.
        size: Height and width that images are resized to, aspect ratio or not. Multiples of 64 cost a codec no
            padding.
        crop_size: Side of random training crops, a multiple of 64, in pixels; null trains on whole images.
        batch_size: Images per batch and process, in training and validation.
        val_images: Training images that are validated on instead of trained on; which ones depends on their names
            alone. 0 trains on all, as the paper does, and validates on nothing.
        num_workers: Threads that decode a split that is kept in memory, once; otherwise processes that decode while
            training.
        seed: Of the order of training samples and of their keys.
        in_memory: Whether decoded images are kept, in each process; "auto" keeps splits of at most 2 GiB. Cityscapes'
            training set at 256x512 takes 1.5 GiB.
        image_column: Column of photographs, for `hub`.
        label_column: Column of label maps, for `hub`.
        train_split: Name of the training split, for `hub`.
        test_split: Name of the split that is tested on, for `hub`.

    Raises:
        DataError: a setting is out of range or does not fit the data or the trainer, or the data are missing or
            broken; in `__init__`, `setup` and the loaders.
    """

    classes: StreetClasses
    """The table of classes; `len(classes)` is the number of symbols in label maps."""

    def __init__(
        self,
        layout: Layout,
        root: str,
        class_table: str | None = None,
        name: str | None = None,
        size: tuple[int, int] = (256, 512),
        crop_size: int | None = None,
        batch_size: int = 16,
        val_images: int = 0,
        num_workers: int = 4,
        seed: int = 0,
        in_memory: bool | Literal["auto"] = "auto",
        image_column: str = "image",
        label_column: str = "label",
        train_split: str = "train",
        test_split: str = "validation",
    ) -> None:
        super().__init__()
        if layout not in _TABLES_OF:
            raise DataError(f"layout is {layout!r}: set --data.layout to {', '.join(_TABLES_OF)}")
        for setting, value, least in (("batch_size", batch_size, 1), ("val_images", val_images, 0)):
            if value < least:
                raise DataError(f"{setting} is {value}: set --data.{setting} to {least} or more")
        if min(size) < 1:
            raise DataError(f"size is {list(size)}: set --data.size to a height and a width of at least 1 pixel")
        if in_memory not in (True, False, "auto"):
            raise DataError(f"in_memory is {in_memory!r}: set --data.in_memory to true, false or auto")
        self.layout = layout
        self.root = root
        self.classes = _table(layout, class_table)
        short = name or (layout if layout != "hub" else Path(root).name)
        self.train_name, self.test_name = f"{short}-train", f"{short}-val"
        self.size = (size[0], size[1])
        self.crop_size = _crop_size(crop_size, self.size)
        self.batch_size = batch_size
        self.val_images = val_images
        self.num_workers = num_workers
        self.seed = seed
        self.in_memory = in_memory
        self.columns = image_column, label_column
        self.splits: dict[Split, str] = {"train": train_split, "val": test_split}
        self._train: StreetDataset | None = None
        self._val: StreetDataset | None = None
        self._test: StreetDataset | None = None

    def prepare_data(self) -> None:
        """Download from the hub, in one process, what all of them then read from its cache."""
        if self.layout == "hub":
            for split in self.splits:
                self._scenes(split)

    def setup(self, stage: str | None = None) -> None:
        """Read and check, once, the scenes of `stage`: fit, validate, test, predict, or None for all."""
        if stage in (None, "fit", "validate") and self._train is None:
            store = self._store("train")
            train, val = self._hold_out(store.scenes.names)
            self._train = StreetDataset(store, train, flip=True, crop_size=self.crop_size)
            self._val = StreetDataset(store, val)
        if stage in (None, "test", "predict") and self._test is None:
            store = self._store("val")
            self._test = StreetDataset(store, range(len(store.scenes)))

    def training_label_maps(self) -> Iterator[Tensor]:
        """Yield the label maps of the images that are trained on, int64 (H, W), as they are without mirroring."""
        self.setup("fit")
        assert self._train is not None
        for index in self._train.indices:
            yield self._train.store.label_map(index)

    def train_dataloader(self) -> ResumableLoader:
        """Return the loader of this process's share of the training scenes.

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
            num_workers=self._processes(self._train),
            pin_memory=self.on_cuda(),
            progress=self.progress if self.trainer is not None else None,
        )

    def val_dataloader(self) -> DataLoader[Batch] | list[Any]:
        """Return the loader of this process's share of the held-out scenes, or none where none are held out."""
        self.setup("validate")
        assert self._val is not None
        return self._evaluation_loader(self._val, self.train_name, self.batch_size) if self.val_images > 0 else []

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of this process's share of the test scenes, one per batch."""
        self.setup("test")
        assert self._test is not None
        return self._evaluation_loader(self._test, self.test_name, 1)

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Return what `test_dataloader` returns."""
        return self.test_dataloader()

    def _evaluation_loader(self, dataset: StreetDataset, name: str, batch_size: int) -> DataLoader[Batch]:
        processes = self._processes(dataset)
        return DataLoader(
            dataset,  # type: ignore[arg-type]  # of items, which the collation makes batches of
            sampler=FixedSampler(len(dataset), *self.share()),
            batch_size=batch_size,
            collate_fn=partial(collate, dataset=name),
            num_workers=processes,
            pin_memory=self.on_cuda(),
            persistent_workers=processes > 0,
            generator=torch.Generator(),  # else each iteration would draw from the global generator
        )

    def _processes(self, dataset: StreetDataset) -> int:
        """Worker processes; none where there is nothing to decode."""
        return 0 if dataset.store.in_memory else self.num_workers

    def _scenes(self, split: Split) -> Scenes:
        if self.layout == "hub":
            return HubScenes(self.root, self.splits[split], *self.columns, self.classes)
        return (cityscapes if self.layout == "cityscapes" else camvid)(Path(self.root), split, self.classes)

    def _store(self, split: Split) -> SceneStore:
        scenes = self._scenes(split)
        fits = len(scenes) * 4 * self.size[0] * self.size[1] <= MEMORY_LIMIT
        return SceneStore(scenes, self.size, fits if self.in_memory == "auto" else self.in_memory, self.num_workers)

    def _hold_out(self, names: list[str]) -> tuple[list[int], list[int]]:
        """Positions to train on and to validate on: the names with the smallest hashes are held out."""
        if self.val_images >= len(names):
            raise DataError(
                f"val_images={self.val_images} leaves nothing to train on out of {len(names)} images of "
                f"{self.train_name}: lower --data.val_images"
            )
        by_hash = sorted(range(len(names)), key=lambda i: hashlib.blake2b(names[i].encode()).digest())
        held_out = sorted(by_hash[: self.val_images])
        return sorted(by_hash[self.val_images :]), held_out


def _table(layout: Layout, name: str | None) -> StreetClasses:
    choices = _TABLES_OF[layout]
    if name is None and layout != "hub":
        name = choices[0]
    if name not in choices:
        raise DataError(
            f"class_table is {name}, but label maps of the layout {layout} are of {' or '.join(choices)}: set "
            "--data.class_table to one of them"
        )
    return TABLES[name]


def _crop_size(crop_size: int | None, size: tuple[int, int]) -> int | None:
    if crop_size is None:
        return None
    if crop_size < 1 or crop_size % STRIDE:
        raise DataError(
            f"crop_size is {crop_size}: set --data.crop_size to a multiple of {STRIDE}, because a codec would pad "
            f"other crops to the next one ({STRIDE} pixels are one position of its hyper latent) and train on padding"
        )
    if crop_size > min(size):
        raise DataError(
            f"crop_size is {crop_size}, but images are resized to {size[0]}x{size[1]} (height x width): lower "
            "--data.crop_size, or raise --data.size"
        )
    return crop_size
