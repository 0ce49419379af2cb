"""`index.json` beside shards: what they hold and whether they are whole."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, Self, get_args

from datamodules.errors import DataError
from lightning_modules.files import write_atomically

INDEX = "index.json"

Format = Literal["parquet", "webdataset"]
"""Of shards."""


@dataclass(frozen=True)
class IndexedShard:
    """A shard that is whole: file name, number of samples, size in bytes, SHA-256 in hexadecimal digits."""

    file: str
    samples: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class ShardIndex:
    """What `index.json` holds.

    `format`, `seed`, `samples` (of all shards), `shard_count` and `content` (a hash of names and captions) say what
    is to be written; `shards` what is there so far, by number.
    """

    format: Format
    seed: int
    samples: int
    shard_count: int
    content: str
    shards: tuple[IndexedShard, ...] = ()

    def having(self, shards: Mapping[str, IndexedShard]) -> Self:
        """Return the index with these shards."""
        return replace(self, shards=tuple(shards[name] for name in sorted(shards)))

    def difference(self, other: Self) -> str:
        """Say in what another plan differs from this one, or nothing."""
        if self.format != other.format:
            return f"in the format {other.format}"
        if self.content != other.content:
            return f"of other images or captions ({other.samples:,} images)"
        if self.seed != other.seed:
            return f"in the order of seed {other.seed}"
        return f"divided into {other.shard_count}" if self.shard_count != other.shard_count else ""


def read_index(folder: Path) -> ShardIndex | None:
    """Read the index of a folder, None if there is none.

    Raises:
        DataError: the file is not such an index.
    """
    path = folder / INDEX
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        shards = tuple(IndexedShard(**shard) for shard in content.pop("shards"))
        index = ShardIndex(**content, shards=shards)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{path} is no index of shards ({error}): choose another folder") from error
    if index.format not in get_args(Format):
        raise DataError(f"{path} is of the unknown format {index.format!r}: choose another folder")
    return index


def write_index(folder: Path, index: ShardIndex) -> None:
    """Write the index, whole."""
    text = json.dumps(asdict(index), indent=1) + "\n"
    write_atomically(folder / INDEX, lambda draft: draft.write_text(text, encoding="utf-8"))


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
