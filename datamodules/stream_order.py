"""The order of a stream: who reads which rows, how they are shuffled, and how a position is told in six numbers.

A *consumer* is one worker of one process. Each goes over its rows in *passes* without end; within a pass it sees each
of its rows exactly once, and all consumers together each row of the data. Nothing random comes from anywhere but
(seed, pass, place of the row), so a position can be resumed by reading on from it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import torch

from datamodules.errors import DataError
from datamodules.sampler import sample_key
from datamodules.samples import draw_caption
from datamodules.stream_source import StreamRow

CaptionPolicy = Literal["all", "random", "first"]
ReadRows = Callable[[int, int], Iterator[StreamRow]]
"""Rows of a shard from a row on."""
_Rows = Iterator[tuple[StreamRow | None, "Cursor"]]
MAX_BLOCK_BYTES = 128 * 2**20
"""Encoded images that a block holds at most, whatever the number of rows asked for."""
MAX_EMPTY_PASSES = 100
"""How many passes in a row may have nothing for a consumer. Each deals the shards anew, and where few images are
wanted (`train_names`) a consumer may well get shards without any."""
_SHARDS, _BLOCK = -2, -3  # take the place of the sample's index in hashes


class Cursor(NamedTuple):
    """A position in the endless sequence of one consumer."""

    number: int = 0
    """Of the pass."""
    place: int = 0
    """Position in the consumer's list of shards in this pass, where the block begins."""
    row: int = 0
    """Row of that shard, where the block begins."""
    shared: int = 0
    """Rows of shards that all consumers read, counted before the block begins."""
    done: int = 0
    """Samples of the shuffled block that have been taken."""


class Reference(NamedTuple):
    """One sample, not yet decoded."""

    row: StreamRow
    caption: int
    """Index into the row's captions."""
    key: int


class ShardShare(NamedTuple):
    """What one consumer reads in a pass, in order."""

    shard: int
    whole: bool
    """All rows are this consumer's; else every one of `consumers` rows."""


def shards_of_pass(seed: int, number: int, shards: int, consumer: int, consumers: int) -> list[ShardShare]:
    """List the shards that a consumer reads in a pass.

    They are dealt whole, in an order that each pass draws anew. Those left over when they do not divide are read by
    all consumers, each keeping one row in `consumers`: no row is lost, at the price of reading these shards several
    times.
    """
    generator = torch.Generator().manual_seed(sample_key(seed, number, _SHARDS))
    order = torch.randperm(shards, generator=generator).tolist()
    whole = shards - shards % consumers
    dealt = [ShardShare(shard, True) for shard in order[consumer:whole:consumers]]
    return dealt + [ShardShare(shard, False) for shard in order[whole:]]


class ShuffledStream:
    """The endless sequence of one consumer's samples, each with the position after it.

    Rows are read in blocks of `buffer` images, and all samples of a block are shuffled: the pairs of one image with
    its five captions are apart as any other two samples of the block. A position inside a block is resumed by reading
    the block again. While a block is handed out the next one is read little by little, so that no batch waits for a
    whole block.

    Args:
        read: Reads the rows of a shard.
        shards: Number of shards.
        consumer: This one's number.
        consumers: How many there are over all processes and workers.
        seed: Of order and keys.
        buffer: Images in a block; fewer where they exceed `MAX_BLOCK_BYTES`.
        captions: "all": each pair of an image and a caption is a sample; "random": each image, with a caption that
            its key draws; "first": each image, with its first caption.
    """

    def __init__(
        self,
        read: ReadRows,
        shards: int,
        consumer: int = 0,
        consumers: int = 1,
        seed: int = 0,
        buffer: int = 1000,
        captions: CaptionPolicy = "all",
    ) -> None:
        self.read = read
        self.shards = shards
        self.consumer = consumer
        self.consumers = consumers
        self.seed = seed
        self.buffer = buffer
        self.captions: CaptionPolicy = captions

    def samples(self, start: Cursor) -> Iterator[tuple[Reference, Cursor]]:
        """Yield samples without end, each with the position of the next.

        Raises:
            DataError: There is nothing for this consumer, or the position is of other data.
        """
        rows = self._rows(start)
        block = _full_block(start, rows, self.buffer)
        done = start.done
        samples = len(self._references(block))
        if samples <= done:
            raise DataError(
                f"the checkpoint has taken {done} samples of a block that now has {samples}: data, captions or names "
                "have changed since. Resume with those of the checkpoint, or start a new run from the weights alone"
            )
        while True:
            references = self._references(block)
            following = _Block(block.end, rows, self.buffer)
            for taken in range(done, len(references)):
                position = block.start._replace(done=taken + 1)
                if taken + 1 < len(references):
                    following.fill(len(block.rows) * (taken + 1) // len(references))
                else:
                    following.fill()
                    if not following.rows:
                        following = _full_block(following.end, rows, self.buffer)
                    position = following.start
                yield references[taken], position
            block, done = following, 0

    def _rows(self, start: Cursor) -> _Rows:
        """This consumer's rows from a block's start on, each with the position after it; None ends a pass."""
        number, first, row, shared = start[:4]
        empty = 0
        while True:
            found = (first, row) != (0, 0)
            shares = shards_of_pass(self.seed, number, self.shards, self.consumer, self.consumers)
            for place in range(first, len(shares)):
                shard, whole = shares[place]
                for read in self.read(shard, row if place == first else 0):
                    mine = whole or shared % self.consumers == self.consumer
                    shared += not whole
                    if mine:
                        found = True
                        yield read, Cursor(number, place, read.row + 1, shared)
            empty = 0 if found else empty + 1
            if empty > MAX_EMPTY_PASSES or (empty == 1 and not self._anything()):
                raise DataError(
                    f"consumer {self.consumer + 1} of {self.consumers} has nothing to read in {self.shards} shards: "
                    "use fewer devices or a smaller --data.num_workers, or check --data.train_names"
                )
            number, first, row, shared = number + 1, 0, 0, 0
            yield None, Cursor(number)

    def _anything(self) -> bool:
        """Whether any shard has a row, if not of this consumer."""
        return any(True for shard in range(self.shards) for _ in self.read(shard, 0))

    def _references(self, block: _Block) -> list[Reference]:
        """The samples of a block in the order that its place draws."""
        number = block.start.number
        references = []
        for row in block.rows:
            place = (row.shard << 32 | row.row) << 8
            if self.captions == "random":
                key = sample_key(self.seed, number, place)
                references.append(Reference(row, draw_caption(max(1, len(row.captions)), key), key))
                continue
            choices = max(1, len(row.captions)) if self.captions == "all" else 1
            references += [Reference(row, i, sample_key(self.seed, number, place + i)) for i in range(choices)]
        place = (block.start.place << 32 | block.start.row) << 8 | 255
        random.Random(sample_key(self.seed + self.consumer, number, place)).shuffle(references)
        return references


class _Block:
    """Rows that are shuffled together: consecutive ones of a consumer, all of one pass."""

    def __init__(self, start: Cursor, reader: _Rows, buffer: int) -> None:
        self.start = start._replace(done=0)
        self.end = self.start
        self.rows: list[StreamRow] = []
        self._reader = reader
        self._buffer = buffer
        self._size = 0
        self._complete = False

    def fill(self, rows: int | None = None) -> None:
        """Read until the block has as many rows, or is complete."""
        while not self._complete and (rows is None or len(self.rows) < rows):
            row, self.end = next(self._reader)
            if row is None:
                self._complete = True
                return
            self.rows.append(row)
            self._size += row.size
            self._complete = len(self.rows) >= self._buffer or self._size >= MAX_BLOCK_BYTES


def _full_block(start: Cursor, reader: _Rows, buffer: int) -> _Block:
    """The first block that has rows; the one before may have taken the last row of the pass."""
    while True:
        block = _Block(start, reader, buffer)
        block.fill()
        if block.rows:
            return block
        start = block.end
