"""Captioned images packed into shards for streaming, in an order that is shuffled once."""

import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from datamodules.errors import DataError, first_of
from datamodules.preparation.progress import advancing, say
from datamodules.preparation.shard_formats import FORMATS, Writer, keys_of
from datamodules.preparation.shard_index import (
    INDEX,
    Format,
    IndexedShard,
    ShardIndex,
    digest_of,
    read_index,
    write_index,
)
from datamodules.preparation.space import require_space
from datamodules.samples import Sample
from lightning_modules.files import write_atomically

_SUFFIXES = frozenset(writer.suffix for writer in FORMATS.values())

SHARD_COUNT = 128
"""Divides by the usual products of processes and workers, so that each of them reads whole shards."""


def write_shards(
    samples: Sequence[Sample],
    folder: Path,
    format: Format,
    shard_count: int = SHARD_COUNT,
    seed: int = 0,
    force: bool = False,
    verify: bool = False,
) -> ShardIndex:
    """Write samples as shards, or finish a writing that was interrupted.

    The order is shuffled once, by hashes of seed and name, so that every shard is a random part of the whole; shards
    differ by at most one in their number of samples. Image files go into them byte for byte. Each shard is written
    whole or not at all, and noted in `index.json` with its size and SHA-256; what is noted and there is not written
    again. The same samples and settings give the same shards.

    Args:
        samples: What to write; names must be unique.
        folder: Where to; it is made. It holds shards of one set in one format.
        format: "parquet": columns `image` (bytes and path, a Hugging Face `Image`), `filename`, `cocoid` (null where
            a name is not one of COCO's) and `captions` (a list); "webdataset": tar files with `NAME.jpg` and, as
            `NAME.json`, `captions`, `filename` and, for COCO, `cocoid`.
        shard_count: How many shards, numbered from `000000`.
        seed: Of the order.
        force: Replace shards of other samples or settings.
        verify: Compare the SHA-256 of shards that are there, not only their size; those that differ are written anew.

    Returns:
        What `index.json` holds.

    Raises:
        DataError: there are fewer samples than shards, names clash, a file is missing or the disk too small, or the
            folder holds other shards.
        OSError: a shard cannot be written.
    """
    if not 1 <= shard_count <= len(samples):
        raise DataError(
            f"{len(samples)} images cannot be divided into {shard_count} shards: set --shard_count to at least 1 and "
            "at most the number of images"
        )
    writer = FORMATS[format]
    keys = keys_of(samples, format)
    plan = ShardIndex(format, seed, len(samples), shard_count, _content(samples), ())
    kept = _begun(folder, plan, force, verify)
    order = sorted(samples, key=lambda sample: _rank(sample.name, seed))
    parts = [order[start:end] for start, end in bounds(len(order), shard_count)]
    missing = [number for number in range(shard_count) if name_of(number, writer.suffix) not in kept]
    if missing:
        sizes = {number: _size(parts[number]) for number in missing}
        total = sum(sizes.values())
        folder.mkdir(parents=True, exist_ok=True)
        require_space(folder, total, f"writing {len(missing)} shards")
        # Before the first shard, so that a kill leaves no shard that nobody knows.
        write_index(folder, plan.having(kept))
        say(
            f"{len(samples):,} images -> {folder}, {shard_count} shards"
            + (f", {len(kept)} are there" if kept else "")
        )
        with advancing("writing shards", total) as advance:
            for number in missing:
                path = folder / name_of(number, writer.suffix)
                kept[path.name] = _write(path, writer, parts[number], keys)
                write_index(folder, plan.having(kept))
                advance(sizes[number])
    index = plan.having(kept)
    say(f"{folder}: all {shard_count} shards, {min(map(len, parts))} to {max(map(len, parts))} images each")
    return index


def bounds(count: int, parts: int) -> list[tuple[int, int]]:
    """Divide `count` things into consecutive parts that differ by at most one.

    >>> bounds(7, 3)
    [(0, 3), (3, 5), (5, 7)]
    """
    size, longer = divmod(count, parts)
    starts = [part * size + min(part, longer) for part in range(parts + 1)]
    return list(itertools.pairwise(starts))


def name_of(number: int, suffix: str) -> str:
    """File name of a shard."""
    return f"{number:06d}{suffix}"


def _write(path: Path, writer: Writer, samples: Sequence[Sample], keys: Mapping[str, str]) -> IndexedShard:
    write_atomically(path, lambda draft: writer.write(draft, samples, keys))
    return IndexedShard(path.name, len(samples), path.stat().st_size, digest_of(path))


def _begun(folder: Path, plan: ShardIndex, force: bool, verify: bool) -> dict[str, IndexedShard]:
    """The shards of this plan that are there, by file name; what is left of a killed run is removed."""
    found = read_index(folder)
    if found is not None and (difference := plan.difference(found)):
        if not force:
            raise DataError(
                f"{folder} holds shards {difference}: choose another folder, or replace them with --force"
            )
        for number in range(found.shard_count):
            (folder / name_of(number, FORMATS[found.format].suffix)).unlink(missing_ok=True)
        (folder / INDEX).unlink()
        found = None
    suffix = FORMATS[plan.format].suffix
    own = set() if found is None else {name_of(number, suffix) for number in range(plan.shard_count)}
    strangers = []
    for path in list(folder.iterdir()) if folder.is_dir() else []:
        if re.fullmatch(rf"\.\d{{6}}\.\d+{re.escape(suffix)}", path.name):
            path.unlink()  # the draft of a shard
        elif path.suffix in _SUFFIXES and path.name not in own:
            strangers.append(path.name)
    if strangers:
        raise DataError(
            f"{folder} holds files that are no part of these shards and would be read with them "
            f"({first_of(sorted(strangers))}): move them away, or choose another folder"
        )
    shards = () if found is None else found.shards
    return {shard.file: shard for shard in shards if _is_whole(folder / shard.file, shard, verify)}


def _is_whole(path: Path, shard: IndexedShard, verify: bool) -> bool:
    if not path.is_file() or path.stat().st_size != shard.bytes:
        return False
    return not verify or digest_of(path) == shard.sha256


def _rank(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()


def _size(samples: Sequence[Sample]) -> int:
    try:
        return sum(sample.path.stat().st_size for sample in samples)
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read ({error.strerror}): complete the images first") from error


def _content(samples: Sequence[Sample]) -> str:
    """What shards are made of, apart from pixels: names and captions, in any order."""
    digest = hashlib.sha256()
    for sample in sorted(samples, key=lambda sample: sample.name):
        digest.update("\0".join([sample.name, *sample.captions, "\n"]).encode())
    return digest.hexdigest()
