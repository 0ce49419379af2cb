"""The two formats of shards: parquet with images inside, and WebDataset tar files."""

import io
import json
import re
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from datamodules.errors import DataError, first_of
from datamodules.preparation.shard_index import Format
from datamodules.samples import Sample

_ROW_GROUP = 64
"""Images that a reader of parquet must hold at a time; about 10 MB of COCO."""

_COCO_NAME = re.compile(r"(?:COCO_(?:train|val)2014_)?(\d{12})\.jpg")
_SAME_ENDING = {"jpeg": "jpg", "tiff": "tif"}


class Writer(NamedTuple):
    """How shards of a format are written."""

    suffix: str
    write: Callable[[Path, Sequence[Sample], Mapping[str, str]], None]
    """Takes the file, its samples, and the key of each sample's name."""


def coco_id(name: str) -> int | None:
    """Return the number that a COCO file name stands for, None for other names.

    >>> [coco_id(name) for name in ("COCO_val2014_000000000042.jpg", "000000000139.jpg", "kodim01.png")]
    [42, 139, None]
    """
    found = _COCO_NAME.fullmatch(name)
    return int(found[1]) if found else None


def keys_of(samples: Sequence[Sample], format: Format) -> dict[str, str]:
    """Return the name that each sample's file has inside a shard, by the sample's name.

    In tar files everything before the first dot tells what belongs together, and readers take the kinds of files from
    the first samples: names lose further dots and folders, and there must be one kind of image.

    Raises:
        DataError: names are the same, become the same, or are of several kinds.
    """
    tar = format == "webdataset"
    keys = {sample.name: _tar_name(sample.name) if tar else sample.name for sample in samples}
    owners: dict[str, str] = {}
    clashes = []
    for sample in samples:
        key = keys[sample.name].partition(".")[0] if tar else sample.name
        first = owners.setdefault(key, sample.path.as_posix())
        if first != sample.path.as_posix():
            clashes.append(f"{first} and {sample.path}")
    if clashes or len(keys) < len(samples):
        told = first_of(clashes) if clashes else "an image is listed twice"
        raise DataError(f"{max(1, len(clashes))} images would have the same name in a shard ({told}): rename them")
    kinds = sorted({key.rpartition(".")[2] for key in keys.values()})
    if tar and len(kinds) > 1:
        raise DataError(
            f"the images are of several kinds ({', '.join(kinds)}), which readers of WebDataset do not take: write "
            "parquet instead"
        )
    return keys


def _tar_name(name: str) -> str:
    base, _, ending = name.rpartition(".")
    for separator in "./\\":
        base = base.replace(separator, "_")
    ending = ending.lower()
    return f"{base}.{_SAME_ENDING.get(ending, ending)}"


def _write_tar(path: Path, samples: Sequence[Sample], keys: Mapping[str, str]) -> None:
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for sample in samples:
            about: dict[str, Any] = {"captions": list(sample.captions), "filename": sample.name}
            if (number := coco_id(sample.name)) is not None:
                about["cocoid"] = number
            key = keys[sample.name]
            _add(tar, key, _content(sample))
            _add(tar, f"{key.partition('.')[0]}.json", json.dumps(about, ensure_ascii=False).encode())


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    # Nothing of the machine and the hour goes in: the same samples give the same bytes.
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _write_parquet(path: Path, samples: Sequence[Sample], keys: Mapping[str, str]) -> None:
    # Both take seconds to import.
    import pyarrow
    import pyarrow.parquet
    from datasets import Features, Image, List, Value

    features = Features(
        {"image": Image(), "filename": Value("string"), "cocoid": Value("int64"), "captions": List(Value("string"))}
    )
    schema = features.arrow_schema
    # JPEG and PNG do not get smaller, and statistics over them would be images.
    options: dict[str, Any] = {"compression": "NONE", "use_dictionary": False, "write_statistics": False}
    with pyarrow.parquet.ParquetWriter(path, schema, **options) as writer:
        for start in range(0, len(samples), _ROW_GROUP):
            group = samples[start : start + _ROW_GROUP]
            rows = {
                "image": [{"bytes": _content(sample), "path": sample.name} for sample in group],
                "filename": [sample.name for sample in group],
                "cocoid": [coco_id(sample.name) for sample in group],
                "captions": [list(sample.captions) for sample in group],
            }
            writer.write_table(pyarrow.Table.from_pydict(rows, schema=schema))


def _content(sample: Sample) -> bytes:
    try:
        return sample.path.read_bytes()
    except OSError as error:
        raise DataError(f"{sample.path} cannot be read ({error.strerror}): complete the images first") from error


FORMATS: Mapping[Format, Writer] = {
    "parquet": Writer(".parquet", _write_parquet),
    "webdataset": Writer(".tar", _write_tar),
}
