"""Captioned photographs as a stream: hub datasets, parquet files, WebDataset tars, image folders."""

import hashlib
import re
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import DataLoader

from datamodules.batch import Batch
from datamodules.decoding import Decode
from datamodules.errors import DataError
from datamodules.samples import collate, unreadable_tally
from datamodules.sharded import ShardedDataModule
from datamodules.stream_dataset import EvaluationStream, LeftOut, TrainingStream
from datamodules.stream_loader import StreamLoader
from datamodules.stream_order import CaptionPolicy, Cursor
from datamodules.stream_source import Columns, StreamSource
from datamodules.tally import Tally
from datamodules.transforms import RandomCrop, SmallImages

_VERSION = 1
_ENLARGED = {"drop": "are left out", "pad": "are padded", "resize": "are scaled up"}


class StreamingCaptionsDataModule(ShardedDataModule):
    """Captioned photographs read from shards, of which no process ever holds more than two blocks.

    - Training is counted in steps: the stream goes round without end, and an epoch of the trainer is
      `samples_per_epoch` samples. Each worker of each process goes over its own shards in passes; in a pass each
      sample is shown exactly once, and nothing is dropped between passes or epochs.
    - A checkpoint holds the position of every worker of every process. A resumed run shows exactly the samples that
      were left, shuffle buffer included. It needs as many processes and workers as before.
    - Shards are dealt whole where their number divides by processes x workers. The rest is read by all workers, each
      keeping its share of the rows; a warning says so.
    - Validation: the first `val_images` images of `val_split`, centre crop, first caption. Test and prediction: the
      images of `test_split` or their centre `test_crop`, first caption, one per batch.

    Args:
        path: Hub id; or a folder, a file, a pattern or a URL of parquet files, WebDataset tars, or images. `{split}`
            in it stands for the name of the split.
        train_split: Split to train on.
        val_split: Split to validate on.
        test_split: Split to test on; null for none.
        config_name: Configuration of a hub dataset that has several.
        revision: Branch, tag or commit of a hub dataset; pin it where results are to be repeated.
        image_column: Column of encoded images. Dots reach into records.
        caption_column: Column of captions, each a text or a list of texts; null for images without.
        name_column: Column of file names; null for the path that the images have in the shards.
        captions_file: Caption file joined by name in place of a column; see `CaptionedFolderDataModule`.
        train_names: Images to train on: a pattern such as `COCO_train2014_*`, or a JSON list of names; null for all.
        test_names: The same for the test.
        samples_per_epoch: Samples after which the trainer counts an epoch; null counts them before training, where
            the shards are files of this machine.
        name: Short name of the dataset, in logged keys and results; null for the last part of `path`.
        batch_size: Images per batch and process, in training and validation.
        crop_size: Side of training and validation crops, in pixels.
        small_images: What becomes of training images under the crop size: "drop" (counted), "pad" or "resize".
        test_crop: Side of the centre crop of test images, in pixels; null for whole images.
        val_images: Number of images to validate on.
        num_workers: Processes that read and decode; 0 reads in the main process.
        shuffle_buffer: Images per worker that are shuffled together, beyond the order of the shards.
        seed: Of order and keys.
        captions: "all": every pair of an image and one of its captions is a sample; "random": every image, with a
            caption drawn anew in each pass; "first": every image with its first caption. Of data with a row per
            caption each row counts as an image with one caption.
        test_captions: "first": one caption per test image; "best": up to `best_of`, of which the codec takes the
            best.
        best_of: Captions per test image with `test_captions: best`.
        on_unreadable: What training does with an image that cannot be decoded: "skip" it, with a count at the end of
            the epoch, or "raise" an error. Validation and test always raise.
        max_unreadable: Unreadable images per epoch that "skip" bears; null for any number.
        decode: "exact" decodes as Pillow does; "fast" is quicker, with pixels that differ a little.

    Raises:
        DataError: A setting is out of range or does not fit the source; in `setup` and the loaders. A checkpoint is
            of another number of processes or workers, or of other data; in `load_state_dict`.
    """

    def __init__(
        self,
        path: str = "jxie/coco_captions",
        train_split: str = "train",
        val_split: str = "validation",
        test_split: str | None = "test",
        config_name: str | None = None,
        revision: str | None = None,
        image_column: str = "image",
        caption_column: str | None = "caption",
        name_column: str | None = None,
        captions_file: str | None = None,
        train_names: str | None = None,
        test_names: str | None = None,
        samples_per_epoch: int | None = None,
        name: str | None = None,
        batch_size: int = 4,
        crop_size: int = 256,
        small_images: SmallImages = "drop",
        test_crop: int | None = None,
        val_images: int = 500,
        num_workers: int = 4,
        shuffle_buffer: int = 1000,
        seed: int = 0,
        captions: CaptionPolicy = "all",
        test_captions: Literal["first", "best"] = "first",
        best_of: int = 5,
        on_unreadable: Literal["raise", "skip"] = "skip",
        max_unreadable: int | None = None,
        decode: Decode = "exact",
    ) -> None:
        super().__init__()
        at_least_one = {
            "batch_size": batch_size,
            "crop_size": crop_size,
            "test_crop": test_crop,
            "val_images": val_images,
            "shuffle_buffer": shuffle_buffer,
            "samples_per_epoch": samples_per_epoch,
            "best_of": best_of,
        }
        for setting, value in at_least_one.items():
            if value is not None and value < 1:
                raise DataError(f"{setting} is {value}: set --data.{setting} to 1 or more")
        for setting, value in {"num_workers": num_workers, "max_unreadable": max_unreadable}.items():
            if value is not None and value < 0:
                raise DataError(f"{setting} is {value}: set --data.{setting} to 0 or more")
        columns = Columns(image_column, caption_column, name_column)
        self._sources = {
            stage: StreamSource(path, split, columns, config_name, revision, captions_file, names)
            for stage, split, names in (
                ("train", train_split, train_names),
                ("val", val_split, None),
                ("test", test_split, test_names),
            )
            if split is not None
        }
        self.name = name or _short_name(path)
        self.samples_per_epoch = samples_per_epoch
        self.batch_size = batch_size
        self.crop_size = crop_size
        self.small_images: SmallImages = small_images
        self.test_crop = test_crop
        self.val_images = val_images
        self.num_workers = num_workers
        self.shuffle_buffer = shuffle_buffer
        self.seed = seed
        self.captions: CaptionPolicy = captions
        self.best_of = best_of if test_captions == "best" else 0
        self.decode: Decode = decode
        self._left_out = LeftOut(
            unreadable_tally(max_unreadable),
            Tally(f"have a side under crop_size={crop_size} and {_ENLARGED[small_images]}"),
            Tally("have no caption and are left out", "Check --data.caption_column or the caption file."),
            on_unreadable == "raise",
        )
        self._loader: StreamLoader | None = None
        self._restored: dict[str, Any] | None = None

    def setup(self, stage: str | None = None) -> None:
        """Open the splits of a stage: fit, validate, test, predict, or None for all."""
        parts = {"fit": ("train", "val"), "validate": ("val",), None: tuple(self._sources)}
        for part in parts.get(stage, ("test",)):
            if part not in self._sources:
                raise DataError("there is no split to test on: set --data.test_split")
            self._sources[part].open()

    def train_dataloader(self) -> StreamLoader:
        """Return the loader of this process's share of the stream.

        Raises:
            DataError: An epoch has no full global batch, or the trainer would shard the data a second time.
        """
        self.setup("fit")
        rank, world_size = self.training_share()
        if self.trainer is not None and self.trainer.reload_dataloaders_every_n_epochs:  # type: ignore[attr-defined]
            raise DataError("reload_dataloaders_every_n_epochs would begin the stream anew: leave it at 0")
        source = self._sources["train"]
        if self.samples_per_epoch is None:
            self.samples_per_epoch = source.count(self.captions == "all")
        steps = self.samples_per_epoch // (self.batch_size * world_size)
        if steps == 0:
            raise DataError(
                f"an epoch of {self.samples_per_epoch} samples has no global batch of {self.batch_size * world_size} "
                f"({world_size} processes x batch size {self.batch_size}): lower --data.batch_size, use fewer "
                "devices, or raise --data.samples_per_epoch"
            )
        self._warn_of_shared_shards(source.num_shards, world_size)
        self._warn_of_one_split()
        self._loader = StreamLoader(
            partial(self._training_stream, rank, world_size),
            self.batch_size,
            steps,
            f"{self.name}-{source.split}",
            self.num_workers,
            self.on_cuda(),
            self.progress if self.trainer is not None else None,
            self._left_out.report,
        )
        if self._restored is not None:
            self._check_restored(self._restored, world_size)
            self._loader.continue_at(self._restored["ranks"][rank])
            self._restored = None
        return self._loader

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of this process's share of the validation images."""
        self.setup("validate")
        self.check_evaluation(self.val_images, "validation")
        return self._evaluation_loader("val", self.crop_size, self.batch_size, self.val_images)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of this process's share of the test images, one per batch."""
        self.setup("test")
        return self._evaluation_loader("test", self.test_crop, 1, None)

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Return what `test_dataloader` returns."""
        return self.test_dataloader()

    def state_dict(self) -> dict[str, Any]:
        """Positions of all processes, and what they are positions in. All processes have to call it."""
        if self._loader is None:
            return {}
        ranks: list[Any] = [self._loader.position()]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            ranks = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(ranks, self._loader.position())
        return {"version": _VERSION, "ranks": ranks, "order": self._order()}

    def teardown(self, stage: str) -> None:
        """End the workers of training."""
        if stage == "fit" and self._loader is not None:
            self._loader.stop()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from these positions when training starts; `train_dataloader` checks that they fit."""
        self._restored = state_dict or None

    def _order(self) -> dict[str, Any]:
        """The settings without which a position means nothing."""
        source = self._sources["train"]
        return {
            "path": source.located,
            "shards": source.num_shards,
            "num_workers": self.num_workers,
            "seed": self.seed,
            "shuffle_buffer": self.shuffle_buffer,
            "captions": self.captions,
            "train_names": source.names,
            "caption_column": source.columns.caption,
            "revision": source.revision,
            "captions_file": _digest(source.captions_file),
            "names": _digest(source.names) if source.names is not None and source.names.endswith(".json") else None,
        }

    def _check_restored(self, state: dict[str, Any], world_size: int) -> None:
        if state.get("version") != _VERSION:
            raise DataError(
                f"the checkpoint has stream positions of version {state.get('version')}, this is version {_VERSION}: "
                "resume with the code that wrote it"
            )
        if len(state["ranks"]) != world_size:
            raise DataError(
                f"the checkpoint has stream positions of {len(state['ranks'])} processes, and this run has "
                f"{world_size}: samples would be lost or repeated. Resume with as many --trainer.devices (times "
                "--trainer.num_nodes), or start a new run from the weights alone"
            )
        for setting, value in self._order().items():
            before = state["order"].get(setting, value)
            if before != value and setting != "path":  # the same shards may lie elsewhere
                known = "the data have" if setting == "shards" else f"--data.{setting} is now"
                raise DataError(
                    f"the checkpoint was written with {setting} {before}, and {known} {value}: samples would be lost "
                    f"or repeated. Resume with {setting} {before}"
                )

    def _training_stream(self, rank: int, world_size: int, starts: list[Cursor], turn: int) -> TrainingStream:
        return TrainingStream(
            self._sources["train"],
            RandomCrop(self.crop_size, self.small_images),
            starts,
            turn,
            rank,
            world_size,
            self._left_out,
            self.decode,
            self.seed,
            self.shuffle_buffer,
            self.captions,
        )

    def _evaluation_loader(
        self, part: str, side: int | None, batch_size: int, limit: int | None
    ) -> DataLoader[Batch]:
        source = self._sources[part]
        best_of = self.best_of if part == "test" else 0
        small = Tally(f"of {source.describe()} are smaller than the crop and are left out")
        stream = EvaluationStream(source, side, *self.share(), small, limit, best_of)
        return DataLoader(
            stream,  # type: ignore[arg-type]  # of items, which the collation makes batches of
            batch_size=batch_size,
            collate_fn=partial(collate, dataset=f"{self.name}-{source.split}"),
            num_workers=min(1, self.num_workers),  # more would each read everything
            pin_memory=self.on_cuda(),
            generator=torch.Generator(),  # else each iteration would draw from the global generator
        )

    def _warn_of_one_split(self) -> None:
        train, val = self._sources["train"], self._sources.get("val")
        if val is not None and train.same_files(val):
            rank_zero_warn(
                f"{train.path} names no split, so training and validation read the same images, and val/ figures are "
                "of training images: have a folder per split and set --data.path to FOLDER/{split}, or name files "
                "train-00000-of-00008.parquet, validation-..."
            )

    def _warn_of_shared_shards(self, shards: int, world_size: int) -> None:
        consumers = world_size * max(1, self.num_workers)
        shared = shards % consumers
        if shared:
            per_rank = shards // world_size if shards % world_size == 0 else 0
            fitting = max((n for n in range(1, self.num_workers) if per_rank and per_rank % n == 0), default=0)
            advice = f"--data.num_workers {fitting}" if fitting else f"a multiple of {consumers} shards"
            rank_zero_warn(
                f"{shards} shards do not divide by {world_size} processes x {max(1, self.num_workers)} workers: in "
                f"each pass {shared} of them are read by all {consumers}, which keep one row in {consumers} each. "
                f"Every sample is still shown once; {advice} would spare the reading."
            )


def _short_name(path: str) -> str:
    """The last part of a path that names something: `shards` of `shards/{split}/*.parquet`."""
    parts = [re.sub(r"\{split\}|[*?\[\]]", "", Path(part).stem).strip("-_.") for part in path.split("/") if part]
    return next((part for part in reversed(parts) if part), "stream")


def _digest(path: str | None) -> str | None:
    """Of a file's content, to tell whether it is the same at the next start."""
    return None if path is None else hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
