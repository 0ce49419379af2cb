"""Shards of real photographs, and what processes that streamed them have written down."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datamodules.preparation.shards import write_shards
from datamodules.samples import Sample

COLUMNS: dict[str, dict[str, Any]] = {
    "parquet": {"image_column": "image", "caption_column": "captions", "name_column": "filename"},
    "webdataset": {"image_column": "jpg", "caption_column": "json.captions", "name_column": "json.filename"},
}


def coco_mini(root: Path, per_image: int = 5) -> list[Sample]:
    """The 239 photographs of COCO-mini with their captions."""
    samples = []
    for split in ("train", "val"):
        content = json.loads((root / f"coco_mini/annotations/captions_{split}2017.json").read_text())
        captions: dict[int, list[str]] = {}
        for annotation in content["annotations"]:
            captions.setdefault(annotation["image_id"], []).append(" ".join(annotation["caption"].split()))
        for image in content["images"]:
            path = root / "coco_mini" / f"{split}2017" / image["file_name"]
            texts = tuple(dict.fromkeys(captions[image["id"]]))[:per_image]
            samples.append(Sample(image["file_name"], path, texts))
    return samples


def flickr(root: Path, count: int, per_image: int = 5) -> list[Sample]:
    """The first photographs of the Flickr8k sample with their captions."""
    captions: dict[str, list[str]] = {}
    with (root / "flickr8k_1k/captions.csv").open() as file:
        for row in csv.DictReader(file):
            captions.setdefault(row["image"], []).append(row["caption"])
    folder = root / "flickr8k_1k/images"
    return [Sample(name, folder / name, tuple(captions[name][:per_image])) for name in sorted(captions)[:count]]


def shards(samples: Sequence[Sample], folder: Path, kind: str, count: int = 8) -> dict[str, Any]:
    """Write shards; gives the datamodule's settings that read them."""
    write_shards(samples, folder, kind, count)  # type: ignore[arg-type]
    return {"path": str(folder), **COLUMNS[kind]}


def uneven_shards(samples: Sequence[Sample], folder: Path, kind: str, counts: Sequence[int]) -> dict[str, Any]:
    """Shards of these numbers of samples."""
    start = 0
    folder.mkdir()
    suffix = {"parquet": ".parquet", "webdataset": ".tar"}[kind]
    for number, count in enumerate(counts):
        write_shards(samples[start : start + count], folder / "part", kind, 1)  # type: ignore[arg-type]
        (folder / "part" / f"000000{suffix}").rename(folder / f"{number:03d}{suffix}")
        (folder / "part" / "index.json").unlink()
        start += count
    (folder / "part").rmdir()
    return {"path": str(folder), **COLUMNS[kind]}


def seen(folder: Path, before_step: int | None = None) -> list[dict[str, Any]]:
    """What all ranks of a run wrote down."""
    lines = [
        dict(zip(("step", "epoch", "name", "caption", "key"), json.loads(line), strict=True), rank=path.stem)
        for path in sorted(folder.glob("seen_*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    return [line for line in lines if before_step is None or line["step"] < before_step]
