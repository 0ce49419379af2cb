"""Where a stream comes from: shards on the hub, on disk or behind a URL, read row by row by `datasets`."""

from __future__ import annotations

import fnmatch
import glob
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.utilities import rank_zero_info

from datamodules.captions import clean_captions, read_captions, read_json
from datamodules.errors import DataError

if TYPE_CHECKING:
    from datasets import IterableDataset

_OF_A_SPLIT = re.compile(r"(train|validation|test)-\d+-of-\d+")
_KINDS = {".parquet": "parquet", ".tar": "webdataset", ".tgz": "webdataset", ".gz": "webdataset"}


@dataclass(frozen=True, slots=True)
class StreamRow:
    """One row of a shard: an encoded image and its captions."""

    shard: int
    row: int
    name: str
    image: bytes | str
    """The encoded file, or its path or URL where the shard is a folder of files."""
    captions: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes that the row keeps in memory."""
        return len(self.image)


@dataclass(frozen=True)
class Columns:
    """Which columns of the source hold what. A dot reaches into records: `json.captions`.

    Args:
        image: Encoded images.
        caption: A caption or a list of captions; null for images without.
        name: File names; null takes the path stored with the image, WebDataset's key, or the place of the row.
    """

    image: str = "image"
    caption: str | None = "caption"
    name: str | None = None


@dataclass
class StreamSource:
    """One split of a dataset, as shards of rows in a fixed order.

    Args:
        path: Hub id (`jxie/coco_captions`); or a folder, a file, a pattern such as `shards/*.parquet`, or a URL of
            any kind that fsspec reads, of parquet files, WebDataset tars or an image folder. `{split}` in it is
            replaced by `split`.
        split: Split of a hub dataset.
        columns: What the columns are called.
        config_name: Configuration of a hub dataset that has several.
        revision: Branch, tag or commit of a hub dataset.
        captions_file: Captions joined by file name in place of a column; see `read_captions`.
        names: Which images to take: a pattern such as `COCO_train2014_*`, or the path of a JSON list of file names;
            null for all.

    Raises:
        DataError: The source cannot be opened, holds no rows, or lacks a column; in `open`. It cannot be read any
            further; in `rows`.
    """

    path: str
    split: str = "train"
    columns: Columns = field(default_factory=Columns)
    config_name: str | None = None
    revision: str | None = None
    captions_file: str | None = None
    names: str | None = None

    def __post_init__(self) -> None:
        self._data: IterableDataset | None = None
        self._captions: dict[str, tuple[str, ...]] | None = None
        self._chosen: frozenset[str] | None = None
        self._pattern: str | None = None

    @property
    def located(self) -> str:
        """The path with the split in its place."""
        return self.path.replace("{split}", self.split)

    @property
    def local(self) -> bool:
        """Whether the shards are files of this machine."""
        return "://" not in self.located and (_is_pattern(self.located) or Path(self.located).exists())

    @property
    def num_shards(self) -> int:
        """Files that can be read independently of each other."""
        return int(self.open().num_shards)

    def same_files(self, other: StreamSource) -> bool:
        """Whether another split is read from the same files: neither path nor file names say which is which."""
        if "://" not in self.located and not self.local:
            return False
        return _files(self.located, self.split) == _files(other.located, other.split)

    def describe(self) -> str:
        """For messages."""
        return (
            f"{self.located} (split {self.split})" if "{split}" not in self.path and not self.local else self.located
        )

    def open(self) -> IterableDataset:
        """Open the source, once: names and columns are checked, images stay encoded."""
        if self._data is None:
            if self.captions_file is not None:
                self._captions = read_captions(Path(self.captions_file))
            self._read_names()
            data = self._load()
            try:
                data = data.decode(False)
                first = next(iter(data.iter(1)), None)
            except Exception as error:  # of datasets, Arrow, fsspec, the hub: there is no common type
                raise DataError(f"{self.describe()} cannot be read ({_told(error)}): download it again") from error
            if first is None:
                raise DataError(f"{self.describe()} holds no rows: check --data.path and the split")
            self._check_columns({key: values[0] for key, values in first.items()})
            self._data = data
        return self._data

    def rows(self, shard: int, start: int = 0) -> Iterator[StreamRow]:
        """Rows of a shard from the one numbered `start` on; images that `names` leaves out are not yielded.

        Raises:
            DataError: The shard is broken, or out of reach for longer than `datasets` retries.
        """
        data = self.open().shard(num_shards=self.num_shards, index=shard)
        number = start
        try:
            # `iter(1)` and not `iter`: the latter would share the shard between this DataLoader's workers once more.
            for batch in (data.skip(start) if start else data).iter(1):
                row = self._row(shard, number, {key: values[0] for key, values in batch.items()})
                if self._wanted(row.name):
                    yield row
                number += 1
        except Exception as error:  # of datasets, Arrow, fsspec, the hub: there is no common type
            raise DataError(
                f"shard {shard} of {self.describe()} cannot be read after {number} rows ({_told(error)}): check the "
                "disk or the network, and continue with --if_exists resume"
            ) from error

    def count(self, each_caption: bool) -> int:
        """Count the images, or the pairs of an image and a caption, by reading all rows once.

        Raises:
            DataError: The source is not on this machine.
        """
        if not self.local:
            raise DataError(
                f"nobody knows how many samples {self.describe()} has without reading it: set "
                "--data.samples_per_epoch, which only says after how many samples the trainer counts an epoch"
            )
        rank_zero_info(f"Counting the samples of {self.located}; --data.samples_per_epoch spares that.")
        rows = (row for shard in range(self.num_shards) for row in self.rows(shard))
        return sum(max(1, len(row.captions)) if each_caption else 1 for row in rows)

    def _load(self) -> IterableDataset:
        from datasets import load_dataset  # takes a moment, which other datamodules need not wait for

        from datamodules.tolerant_webdataset import TolerantWebDataset

        path = self.located
        try:
            if "://" in path or _is_pattern(path) or Path(path).exists():
                kind, files = _files(path, self.split)
                if kind == "webdataset":
                    return TolerantWebDataset(data_files={"data": files}).as_streaming_dataset(split="data")
                options: dict[str, Any] = {"drop_labels": True} if kind == "imagefolder" else {}
                return load_dataset(kind, data_files={"data": files}, split="data", streaming=True, **options)
            return load_dataset(path, self.config_name, split=self.split, revision=self.revision, streaming=True)
        except Exception as error:  # of datasets, Arrow, fsspec, the hub: there is no common type
            if self.local:
                raise DataError(f"{self.describe()} cannot be opened ({_told(error)}): mend or replace it") from error
            raise DataError(
                f"{self.describe()} cannot be opened ({_told(error)}): there is no such folder here, and no such "
                "dataset on the hub that can be reached. Set --data.path to a folder, a file pattern, a URL or a hub "
                "id; without network, -c configs/data/coco.yaml reads COCO in its official layout"
            ) from error

    def _read_names(self) -> None:
        if self.names is not None and self.names.endswith(".json"):
            listed = read_json(Path(self.names))
            if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
                raise DataError(f"{self.names} is not a JSON list of file names: set --data.train_names to one")
            self._chosen = frozenset(_stem(name) for name in listed)
        else:
            self._pattern = self.names

    def _wanted(self, name: str) -> bool:
        if self._chosen is not None:
            return _stem(name) in self._chosen
        return self._pattern is None or fnmatch.fnmatchcase(name, self._pattern)

    def _check_columns(self, row: dict[str, Any]) -> None:
        c = self.columns
        wanted = {"image_column": c.image, "name_column": c.name}
        if self._captions is None:
            wanted["caption_column"] = c.caption
        for setting, column in wanted.items():
            if column is not None and _value(row, column) is _MISSING:
                raise DataError(
                    f"{self.describe()} has no column {column!r}, but {', '.join(_flat(row))}: set --data.{setting}"
                    + (", or null for images without captions" if setting == "caption_column" else "")
                )
        if not isinstance(_value(row, c.image), dict | bytes | str | None):
            raise DataError(f"column {c.image!r} of {self.describe()} holds no images: set --data.image_column")

    def _row(self, shard: int, number: int, values: dict[str, Any]) -> StreamRow:
        stored = _value(values, self.columns.image)
        record: dict[str, Any] = (
            stored if isinstance(stored, dict) else {"bytes": stored if isinstance(stored, bytes) else None}
        )
        path: str | None = stored if isinstance(stored, str) else record.get("path")
        image: bytes | None = record.get("bytes")
        name: Any = None if self.columns.name is None else _value(values, self.columns.name)
        if not isinstance(name, str) or not name:
            key = values.get("__key__") or f"{shard:05d}-{number:06d}"
            name = path.rsplit("/", 1)[-1] if path else key
        if self._captions is not None:
            captions = self._captions.get(name, ())
        else:
            given = None if self.columns.caption is None else _value(values, self.columns.caption)
            texts = given if isinstance(given, list) else [given]
            captions = clean_captions([text for text in texts if isinstance(text, str)])
        return StreamRow(shard, number, name, image if image is not None else path or b"", captions)


_MISSING = object()


def _value(row: Any, column: str) -> Any:
    """The value of a column; dots reach into records."""
    if isinstance(row, dict) and column in row:
        return row[column]
    head, _, rest = column.partition(".")
    return _value(row[head], rest) if rest and isinstance(row, dict) and head in row else _MISSING


def _flat(row: dict[str, Any]) -> list[str]:
    """The columns that settings can name."""
    deep = {key: value for key, value in row.items() if isinstance(value, dict) and "bytes" not in value}
    return [key for key in row if key not in deep] + [
        f"{key}.{name}" for key, value in deep.items() for name in value
    ]


def _is_pattern(path: str) -> bool:
    return any(character in path for character in "*?[")


def _stem(name: str) -> str:
    """Lists name files, shards often keys without the ending."""
    return name.rsplit(".", 1)[0]


def _files(path: str, split: str) -> tuple[str, str | list[str]]:
    """The builder of `datasets` that reads a path, and the files for it, sorted so that shards keep their numbers.

    Of a folder as the hub has it, `train-00000-of-00128.parquet` beside `test-...`, those of the split. Parquet files
    without rows are left out: `datasets` cannot read them.
    """
    folder = Path(path)
    if "://" in path:
        return _KINDS.get(Path(path).suffix.lower(), "imagefolder"), path
    if folder.is_dir():
        for suffix in (".parquet", ".tar"):
            files = sorted(str(file) for file in folder.glob(f"*{suffix}"))
            if any(_OF_A_SPLIT.match(Path(file).name) for file in files):
                files = [file for file in files if Path(file).name.startswith(f"{split}-")]
                if not files:
                    raise FileNotFoundError(f"none of its {suffix} files begins with {split}-")
            if files:
                return _KINDS[suffix], _with_rows(files, suffix)
        return "imagefolder", sorted(str(file) for file in folder.rglob("*") if file.is_file())
    suffix = folder.suffix.lower()
    files = sorted(glob.glob(path)) if _is_pattern(path) else [path]  # noqa: PTH207  the pattern may be absolute
    if suffix != ".parquet" or not files:
        return _KINDS.get(suffix, "imagefolder"), path
    return "parquet", _with_rows(files, suffix)


def _with_rows(files: list[str], suffix: str) -> list[str]:
    if suffix != ".parquet":
        return files
    from pyarrow.parquet import read_metadata

    return [file for file in files if read_metadata(file).num_rows > 0] or files[:1]


def _told(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
