"""Who reads which rows, in which order, and from where a stream resumes."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice, pairwise

import pytest

from datamodules.errors import DataError
from datamodules.stream_order import MAX_BLOCK_BYTES, Cursor, Reference, ShuffledStream, shards_of_pass
from datamodules.stream_source import StreamRow

LENGTHS = [7, 5, 6, 1, 9, 4, 8, 2]
"""Rows of uneven shards."""


class Shards:
    """Rows of made-up shards; each row has as many captions as its number modulo three."""

    def __init__(self, lengths: list[int], size: int = 10) -> None:
        self.lengths = lengths
        self.image = b"x" * size
        self.reads = 0

    def __call__(self, shard: int, start: int) -> Iterator[StreamRow]:
        for row in range(start, self.lengths[shard]):
            self.reads += 1
            captions = tuple(f"caption {i} of {shard}/{row}" for i in range(row % 3))
            yield StreamRow(shard, row, f"{shard}/{row}", self.image, captions)

    def pairs(self) -> Counter[tuple[str, int]]:
        """Every sample of a pass once."""
        rows = [row for shard in range(len(self.lengths)) for row in self(shard, 0)]
        return Counter((row.name, i) for row in rows for i in range(max(1, len(row.captions))))


def stream(consumer: int = 0, consumers: int = 1, shards: Shards | None = None, **settings: object) -> ShuffledStream:
    shards = shards or Shards(LENGTHS)
    options: dict = {"seed": 3, "buffer": 4, **settings}
    return ShuffledStream(shards, len(shards.lengths), consumer, consumers, **options)


def one_pass(stream: ShuffledStream, number: int = 0) -> list[Reference]:
    """The samples of a pass: those up to the one whose following position is in the next."""
    taken = []
    for reference, position in stream.samples(Cursor(number)):
        taken.append(reference)
        if position.number > number:
            return taken
    raise AssertionError


def what(references: list[Reference]) -> Counter[tuple[str, int]]:
    return Counter((reference.row.name, reference.caption) for reference in references)


@pytest.mark.parametrize("consumers", [1, 2, 3, 4, 6, 8, 11])
@pytest.mark.parametrize("buffer", [1, 4, 1000])
def test_all_consumers_together_see_each_sample_of_a_pass_once(consumers: int, buffer: int) -> None:
    shards = Shards(LENGTHS)
    for number in range(3):
        seen = [what(one_pass(stream(c, consumers, shards, buffer=buffer), number)) for c in range(consumers)]
        assert sum(seen, Counter()) == shards.pairs()


def test_whole_shards_are_read_by_one_consumer_where_they_divide_and_the_rest_by_all() -> None:
    for consumers, whole in ((4, 8), (3, 6), (8, 8), (9, 0)):
        shares = [shards_of_pass(0, 5, 8, consumer, consumers) for consumer in range(consumers)]
        dealt = [share.shard for own in shares for share in own if share.whole]
        assert len(dealt) == len(set(dealt)) == whole
        assert all({share.shard for share in own if not share.whole} == {*range(8)} - {*dealt} for own in shares)


def test_shared_rows_are_dealt_evenly() -> None:
    counts = [len(one_pass(stream(c, 5, Shards([3, 4, 4, 1]), captions="first"))) for c in range(5)]
    assert sorted(counts) == [2, 2, 2, 3, 3]


@pytest.mark.parametrize("captions", ["all", "random", "first"])
def test_resumed_after_any_sample_goes_on_as_if_never_stopped(captions: str) -> None:
    whole = stream(1, 3, captions=captions)
    expected = list(islice(whole.samples(Cursor()), 90))
    for stop in range(0, 60, 7):
        position = expected[stop][1]
        assert list(islice(whole.samples(position), 30)) == expected[stop + 1 : stop + 31]


def test_a_stop_reads_one_block_again_and_no_more() -> None:
    shards = Shards([100])
    whole = stream(shards=shards, buffer=10)
    position = list(islice(whole.samples(Cursor()), 70))[-1][1]
    shards.reads = 0
    next(whole.samples(position))
    # The block, and of the next one as much as had been read before.
    assert shards.reads <= 2 * 10


def test_order_depends_on_seed_pass_and_consumer_and_nothing_else() -> None:
    def order(consumer: int = 0, number: int = 0, **settings: object) -> list[tuple[str, int, int]]:
        return [(r.row.name, r.caption, r.key) for r in one_pass(stream(consumer, 2, **settings), number)]

    assert order() == order()
    assert order() != order(seed=4)
    assert sorted(order()) != sorted(order(number=1))  # other shards and other keys
    keys = [key for consumer in range(2) for *_, key in order(consumer)]
    assert len(set(keys)) == len(keys)


def test_captions_of_one_image_are_spread_over_the_block() -> None:
    shards = Shards([300])
    names = [reference.row.name for reference in one_pass(stream(shards=shards, buffer=300))]
    assert sum(a == b for a, b in pairwise(names)) < 5
    assert names != sorted(names)


def test_random_captions_change_from_pass_to_pass_and_are_all_drawn() -> None:
    shards = Shards([200])
    drawn = [
        {r.row.name: r.caption for r in one_pass(stream(shards=shards, captions="random"), number)}
        for number in (0, 1)
    ]
    assert drawn[0].keys() == drawn[1].keys() and len(drawn[0]) == 200
    assert drawn[0] != drawn[1]
    assert {drawn[0][f"0/{row}"] for row in range(2, 200, 3)} == {0, 1}


def test_the_next_block_is_read_little_by_little() -> None:
    shards = Shards([100])
    read = []
    for _ in islice(stream(shards=shards, buffer=20, captions="first").samples(Cursor()), 40):
        read.append(shards.reads)
    assert read[0] <= 22
    assert max(after - before for before, after in pairwise(read)) <= 2


def test_large_images_make_smaller_blocks() -> None:
    shards = Shards([20], size=MAX_BLOCK_BYTES // 4)
    whole = stream(shards=shards, buffer=1000, captions="first")
    assert what(one_pass(whole)) == Counter((f"0/{row}", 0) for row in range(20))
    shards.reads = 0
    next(whole.samples(Cursor()))
    assert shards.reads <= 6


def test_a_consumer_without_rows_is_an_error_and_no_endless_search() -> None:
    with pytest.raises(DataError, match="consumer 3 of 3 has nothing to read in 1 shards: use fewer devices"):
        next(stream(2, 3, Shards([2])).samples(Cursor()))


def test_a_consumer_whose_shards_are_empty_in_one_pass_reads_on_in_the_next() -> None:
    """As where few images of a data set are wanted: 2 of 8 shards have none, and each of 4 consumers gets 2."""
    lengths = [0, 0, 3, 3, 3, 3, 3, 3]
    one = stream(consumers=4, shards=Shards(lengths))
    empty = [n for n in range(200) if all(lengths[s.shard] == 0 for s in shards_of_pass(3, n, 8, 0, 4))]
    assert empty, "it does happen"
    taken = list(islice(one.samples(Cursor(empty[0])), 3))
    assert taken[0][1].number > empty[0]
    with pytest.raises(DataError, match="has nothing to read in 8 shards"):
        next(stream(shards=Shards([0] * 8)).samples(Cursor()))


@pytest.mark.parametrize("done", [10, 20, 10_000])
def test_a_position_in_data_that_have_changed_is_refused(done: int) -> None:
    """Not searched for: with fewer captions than before there is no such sample."""
    with pytest.raises(DataError, match=rf"taken {done} samples of a block that now has 10: .* have changed"):
        next(stream(shards=Shards([10]), buffer=20, captions="first").samples(Cursor(done=done)))
