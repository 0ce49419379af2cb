"""Streams as PyTorch sees them: the decoded samples of one worker, in training and in evaluation."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import fsspec
from torch.utils.data import IterableDataset, get_worker_info

from datamodules.batch import Batch
from datamodules.decoding import Decode, header_size, read_crop
from datamodules.errors import DataError, UnreadableImageError, first_of
from datamodules.sampler import EVALUATION_EPOCH, sample_key
from datamodules.samples import Item, collate
from datamodules.stream_order import CaptionPolicy, Cursor, ShuffledStream
from datamodules.stream_source import StreamRow, StreamSource
from datamodules.tally import Tally
from datamodules.transforms import CentreCrop, Crop, RandomCrop, SmallImageError, full_size

MAX_FAILURES = 1000
"""How many samples in a row may be left out before reading gives up."""


@dataclass(frozen=True)
class LeftOut:
    """Counts of what is left out, and why."""

    unreadable: Tally
    small: Tally
    """Images under the crop size, left out or enlarged."""
    silent: Tally
    """Images without a caption in data that have captions."""
    raise_unreadable: bool = False

    def report(self) -> None:
        """Warn of all that was noted since the last time, and forget it."""
        for tally in (self.unreadable, self.small, self.silent):
            tally.report()


class Placed(NamedTuple):
    """A decoded sample and the position of its consumer after it."""

    item: Item
    cursor: Cursor


class PlacedBatch(NamedTuple):
    """A batch and the position of its consumer after it."""

    batch: Batch
    cursor: Cursor


def collate_placed(samples: list[Placed], dataset: str) -> PlacedBatch:
    """Collate a batch; its last sample knows the position."""
    return PlacedBatch(collate([sample.item for sample in samples], dataset), samples[-1].cursor)


def source_of(row: StreamRow) -> bytes | Path:
    """The encoded image of a row, or its file.

    Raises:
        UnreadableImageError: It is on another machine and cannot be fetched.
    """
    if isinstance(row.image, bytes):
        return row.image
    if "://" not in row.image:
        return Path(row.image)
    try:
        with fsspec.open(row.image, "rb") as file:
            return bytes(file.read())
    except OSError as error:
        raise UnreadableImageError(f"{row.image} cannot be read ({error}): check the network") from error


def read_item(row: StreamRow, crop: Crop, key: int, decode: Decode) -> Item:
    """Decode the crop of a row.

    Raises:
        UnreadableImageError: The image cannot be decoded, or its file cannot be read.
        SmallImageError: It is smaller than the crop.
    """
    path = row.image if isinstance(row.image, str) else row.name
    return Item(image=read_crop(source_of(row), crop, key, row.name, decode), name=row.name, path=path, key=key)


class TrainingStream(IterableDataset[Placed]):
    """One process's share of a stream: each DataLoader worker takes the part of one consumer.

    Args:
        source: What is read.
        crop: Applied to each image with its key.
        starts: Position of each consumer of this process; as many as DataLoader workers, or one without workers.
        turn: Which of them hands out the next batch.
        rank: Of this process.
        world_size: Number of processes.
        left_out: Counts what is left out.
        decode: See `read_crop`.
        order: Settings of `ShuffledStream`: seed, buffer, captions.
    """

    def __init__(
        self,
        source: StreamSource,
        crop: RandomCrop,
        starts: list[Cursor],
        turn: int,
        rank: int,
        world_size: int,
        left_out: LeftOut,
        decode: Decode,
        seed: int,
        buffer: int,
        captions: CaptionPolicy,
    ) -> None:
        self.source = source
        self.crop = crop
        self.starts = starts
        self.turn = turn
        self.left_out = left_out
        self.decode: Decode = decode
        count = len(starts)
        self.streams = [
            ShuffledStream(
                source.rows, source.num_shards, rank * count + number, world_size * count, seed, buffer, captions
            )
            for number in range(count)
        ]

    def __iter__(self) -> Iterator[Placed]:
        worker = get_worker_info()
        # DataLoader takes batches from its workers in turn, and begins with the first.
        number = (self.turn + (worker.id if worker is not None else 0)) % len(self.starts)
        failed: list[str] = []
        for reference, cursor in self.streams[number].samples(self.starts[number]):
            row = reference.row
            if len(failed) >= MAX_FAILURES:
                raise DataError(
                    f"{len(failed)} samples in a row are left out, such as {first_of(failed)}: check "
                    f"{self.source.describe()}, --data.crop_size and the columns"
                )
            try:
                if not row.captions and self.captioned:
                    self.left_out.silent.note(row.name)
                    failed.append(row.name)
                    continue
                item = read_item(row, self.crop, reference.key, self.decode)
            except SmallImageError:
                self.left_out.small.note(row.name)
                failed.append(row.name)
                continue
            except UnreadableImageError:
                if self.left_out.raise_unreadable:
                    raise
                self.left_out.unreadable.note(row.name)
                failed.append(row.name)
                continue
            failed.clear()
            if self.crop.small_images != "drop" and min(header_size(source_of(row))) < self.crop.size:
                self.left_out.small.note(row.name)
            if row.captions:
                item["caption"] = row.captions[reference.caption]
            yield Placed(item, cursor)

    @property
    def captioned(self) -> bool:
        """Whether images come with captions at all."""
        return self.source.captions_file is not None or self.source.columns.caption is not None


class EvaluationStream(IterableDataset[Item]):
    """The images of a split in the order of their shards, each once: a process takes one in `world_size`.

    Keys depend on nothing but an image's number. Unreadable images raise: a mean over other images is another figure.

    Args:
        source: What is read.
        side: Of the centre crop, in pixels; None for whole images.
        rank: Of this process.
        world_size: Number of processes.
        small: Counts images smaller than the crop, which are left out; it warns when all has been read.
        limit: Images at most, over all processes; None for all.
        best_of: Captions that are handed out with each image beside the first; 0 for none.
    """

    def __init__(
        self,
        source: StreamSource,
        side: int | None,
        rank: int,
        world_size: int,
        small: Tally,
        limit: int | None = None,
        best_of: int = 0,
    ) -> None:
        self.source = source
        self.side = side
        self.crop: Crop = full_size if side is None else CentreCrop(side)
        self.rank = rank
        self.world_size = world_size
        self.small = small
        self.limit = limit
        self.best_of = best_of

    def __iter__(self) -> Iterator[Item]:
        number = 0
        seen: set[str] = set()  # sets with one row per caption repeat their images
        for shard in range(self.source.num_shards):
            for row in self.source.rows(shard):
                if self.limit is not None and number >= self.limit:
                    self._end(number)
                    return
                if row.name in seen:
                    if self.best_of:
                        raise DataError(
                            f"{self.source.describe()} has a row per caption ({row.name} is met twice), so that "
                            "there is no choice within a row: set --data.test_captions first, or take data whose "
                            "rows have lists of captions"
                        )
                    continue
                seen.add(row.name)
                key = sample_key(0, EVALUATION_EPOCH, number)
                try:
                    if number % self.world_size != self.rank:
                        # Every process has to count alike, so it looks at the headers of what others read.
                        small = self.side is not None and min(header_size(source_of(row), row.name)) < self.side
                        number += not small
                        continue
                    item = read_item(row, self.crop, key, "exact")
                except SmallImageError:
                    self.small.note(row.name)
                    continue
                number += 1
                if row.captions:
                    item["caption"] = row.captions[0]
                    if self.best_of:
                        item["captions"] = list(row.captions[: self.best_of])
                yield item
        self._end(number)

    def _end(self, number: int) -> None:
        """Report, and refuse a share without images: the other processes would wait for this one's."""
        self.small.report()
        if number <= self.rank:
            raise DataError(
                f"{self.source.describe()} has {number} images to evaluate for {self.world_size} processes: use "
                "fewer devices, raise --data.val_images, or set --trainer.limit_val_batches 0"
            )
