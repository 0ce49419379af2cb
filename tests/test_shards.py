"""Shards: even, reproducible, resumable, and read by Hugging Face `datasets` as they were written."""

import json
import multiprocessing
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest

from datamodules import CaptionedFolderDataModule, CocoCaptionsDataModule
from datamodules.captions import read_captions
from datamodules.errors import DataError
from datamodules.preparation import shards as shards_module
from datamodules.preparation.shard_formats import FORMATS, Writer
from datamodules.preparation.shard_index import Format, digest_of
from datamodules.preparation.shards import bounds, write_shards
from datamodules.samples import Sample
from lightning_modules import cli
from tests.data_helpers import data, needs_data
from tests.preparation_helpers import photographs

BOTH = pytest.mark.parametrize("kind", ["parquet", "webdataset"])


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    folder = tmp_path / "images"
    folder.mkdir()
    images = photographs("val2014", 23)
    for name, content in images.items():
        (folder / name).write_bytes(content)
    return [Sample(name, folder / name, (f"a {name}", 'and "another", é')) for name in images]


def rows_of(folder: Path, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read shards with `datasets`, by shard."""
    for path in sorted(folder.glob("*.parquet" if kind == "parquet" else "*.tar")):
        stream = datasets.load_dataset(kind, data_files=str(path), split="train", streaming=True)
        column = "image" if kind == "parquet" else next(name for name in ("jpg", "png") if name in stream.features)
        for row in stream.cast_column(column, datasets.Image(decode=False)):
            about = row if kind == "parquet" else row["json"]
            image = row[column]
            yield path.name, {"bytes": image["bytes"], **{key: about.get(key) for key in COLUMNS}}


COLUMNS = ("filename", "cocoid", "captions")


def expected(samples: list[Sample]) -> dict[str, dict[str, Any]]:
    return {
        sample.name: {
            "bytes": sample.path.read_bytes(),
            "filename": sample.name,
            "cocoid": int(found[0]) if (found := re.findall(r"\d{12}", sample.name)) else None,
            "captions": list(sample.captions),
        }
        for sample in samples
    }


@BOTH
def test_everything_once_and_untouched(samples: list[Sample], tmp_path: Path, kind: Format) -> None:
    index = write_shards(samples, tmp_path / "out", kind, 5)
    rows = list(rows_of(tmp_path / "out", kind))
    assert len(rows) == 23
    assert {row["filename"]: row for _, row in rows} == expected(samples)
    counts = {name: [shard for shard, _ in rows].count(name) for name, _ in rows}
    assert sorted(counts.values()) == [4, 4, 5, 5, 5]
    content = json.loads((tmp_path / "out" / "index.json").read_text())
    assert {shard["file"]: shard["samples"] for shard in content["shards"]} == counts
    assert (content["format"], content["samples"], content["shard_count"], content["seed"]) == (kind, 23, 5, 0)
    for shard in index.shards:
        assert (shard.bytes, shard.sha256) == (
            (tmp_path / "out" / shard.file).stat().st_size,
            digest_of(tmp_path / "out" / shard.file),
        )
    decoded = next(
        iter(datasets.load_dataset(kind, data_files=str(tmp_path / "out" / content["shards"][0]["file"]))["train"])
    )
    assert decoded["image" if kind == "parquet" else "jpg"].size == (40, 32)


@BOTH
def test_the_order_is_shuffled_by_the_seed_alone(samples: list[Sample], tmp_path: Path, kind: Format) -> None:
    def order(name: str, given: list[Sample], seed: int) -> list[str]:
        write_shards(given, tmp_path / name, kind, 3, seed)
        return [row["filename"] for _, row in rows_of(tmp_path / name, kind)]

    first = order("a", samples, 0)
    assert first not in (sorted(first), order("b", samples, 1))
    assert order("c", samples[::-1], 0) == first
    for number in range(3):
        file = f"{number:06d}{FORMATS[kind].suffix}"
        assert digest_of(tmp_path / "a" / file) == digest_of(tmp_path / "c" / file)


@BOTH
def test_a_second_run_writes_nothing_and_mends_what_is_broken(
    samples: list[Sample], tmp_path: Path, kind: Format, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    suffix = FORMATS[kind].suffix
    index = write_shards(samples, out, kind, 4)
    stamps = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    capsys.readouterr()
    assert write_shards(samples, out, kind, 4, verify=True) == index
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == stamps
    assert capsys.readouterr().out == f"{out}: all 4 shards, 5 to 6 images each\n"
    changed = bytearray((out / f"000001{suffix}").read_bytes())
    changed[len(changed) // 2] ^= 1
    (out / f"000001{suffix}").write_bytes(changed)
    (out / f"000002{suffix}").write_bytes(b"short")
    (out / f"000003{suffix}").unlink()
    write_shards(samples, out, kind, 4)
    assert digest_of(out / f"000001{suffix}") != index.shards[1].sha256, "same size: only --verify reads it"
    assert write_shards(samples, out, kind, 4, verify=True) == index
    assert [digest_of(out / shard.file) for shard in index.shards] == [shard.sha256 for shard in index.shards]


def write_and_die(samples: list[Sample], folder: Path, kind: Format) -> None:
    """Write two shards and half of a third, and be killed."""
    writer = FORMATS[kind]
    calls = []

    def write(path: Path, part: Any, keys: Any) -> None:
        calls.append(path)
        writer.write(path, part, keys)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    shards_module.FORMATS = {**FORMATS, kind: Writer(writer.suffix, write)}  # of this process alone
    write_shards(samples, folder, kind, 6)


@BOTH
def test_a_kill_in_the_middle(samples: list[Sample], tmp_path: Path, kind: Format) -> None:
    import pyarrow.parquet  # noqa: F401  # imported before the fork, which an import in the child might not survive

    killed = multiprocessing.get_context("fork").Process(target=write_and_die, args=(samples, tmp_path / "out", kind))
    killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert len(left) == 4
    assert left[0].startswith(".000002.")
    stamp = (tmp_path / "out" / left[1]).stat().st_mtime_ns
    write_shards(samples, tmp_path / "out", kind, 6)
    write_shards(samples, tmp_path / "whole", kind, 6)
    assert (tmp_path / "out" / left[1]).stat().st_mtime_ns == stamp
    assert {path.name: digest_of(path) for path in (tmp_path / "out").iterdir()} == {
        path.name: digest_of(path) for path in (tmp_path / "whole").iterdir()
    }


def test_other_shards_are_not_overwritten(samples: list[Sample], tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_shards(samples, out, "webdataset", 4)
    before = {path.name: digest_of(path) for path in out.iterdir()}
    others = [Sample(sample.name, sample.path, ("other",)) for sample in samples]
    for given, kind, count, seed, message in (
        (samples, "parquet", 4, 0, "in the format webdataset"),
        (samples, "webdataset", 5, 0, "divided into 4"),
        (samples, "webdataset", 4, 1, "in the order of seed 0"),
        (others, "webdataset", 4, 0, r"of other images or captions \(23 images\)"),
    ):
        with pytest.raises(DataError, match=rf"out holds shards {message}.*--force"):
            write_shards(given, out, kind, count, seed)  # type: ignore[arg-type]
    assert {path.name: digest_of(path) for path in out.iterdir()} == before
    write_shards(samples, out, "parquet", 2, force=True)
    assert sorted(path.name for path in out.iterdir()) == ["000000.parquet", "000001.parquet", "index.json"]
    (out / "mine.parquet").write_bytes(b"")
    with pytest.raises(DataError, match=r"no part of these shards and would be read with them \(mine.parquet\)"):
        write_shards(samples, out, "parquet", 2)
    (out / "index.json").write_text("{}")
    with pytest.raises(DataError, match=r"index.json is no index of shards"):
        write_shards(samples, out, "parquet", 2)


def test_what_cannot_be_written(samples: list[Sample], tmp_path: Path) -> None:
    for count in (0, 24):
        with pytest.raises(DataError, match=rf"23 images cannot be divided into {count} shards"):
            write_shards(samples, tmp_path / "out", "parquet", count)
    with pytest.raises(DataError, match=r"an image is listed twice"):
        write_shards([*samples, samples[0]], tmp_path / "out", "parquet", 2)
    dotted = [Sample(name, samples[0].path) for name in ("a.b.jpg", "a_b.jpg")]
    with pytest.raises(DataError, match=r"would have the same name in a shard"):
        write_shards([dotted[0], Sample("a_b.jpg", samples[1].path)], tmp_path / "out", "webdataset", 1)
    mixed = [Sample("a.JPG", samples[0].path), Sample("b.png", samples[1].path)]
    with pytest.raises(DataError, match=r"of several kinds \(jpg, png\).*write parquet instead"):
        write_shards(mixed, tmp_path / "out", "webdataset", 1)
    samples[5].path.unlink()
    with pytest.raises(DataError, match=rf"{samples[5].name} cannot be read \(No such file.*complete the images"):
        write_shards(samples, tmp_path / "out", "parquet", 2)


@BOTH
def test_names_that_formats_would_trip_over(samples: list[Sample], tmp_path: Path, kind: Format) -> None:
    names = ["my.holiday.photo.jpg", "café 東京.jpg", "UPPER.JPG", "a.jpeg"]
    odd = [Sample(name, sample.path) for name, sample in zip(names, samples, strict=False)]
    write_shards(odd, tmp_path / "out", kind, 2)
    rows = {row["filename"]: row for _, row in rows_of(tmp_path / "out", kind)}
    assert rows == expected(odd)


def test_bounds_are_even() -> None:
    for count, parts in ((82_783, 128), (5, 5), (7, 3), (5_000, 128)):
        sizes = [end - start for start, end in bounds(count, parts)]
        assert sum(sizes) == count
        assert len(sizes) == parts
        assert max(sizes) - min(sizes) <= 1


def test_a_folder_through_the_command_line(
    samples: list[Sample], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [json.dumps({"file_name": f"images/{sample.name}", "text": sample.captions[0]}) for sample in samples]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    command = ["prepare", "shards", str(tmp_path / "images"), "--captions", str(tmp_path / "metadata.jsonl")]
    command += ["-o", str(tmp_path / "out"), "--shard_size", "6", "--format", "webdataset"]
    with pytest.raises(SystemExit):
        cli.main(command)
    assert "23 of them differ in folder or ending only" in capsys.readouterr().err
    cli.main([*command, "--join", "stem"])
    rows = list(rows_of(tmp_path / "out", "webdataset"))
    assert len({shard for shard, _ in rows}) == 4
    assert {row["filename"]: row["captions"] for _, row in rows} == {s.name: [s.captions[0]] for s in samples}


@needs_data
@BOTH
def test_flickr8k(tmp_path: Path, kind: Format) -> None:
    folder = data("flickr8k_1k", "images")
    samples = CaptionedFolderDataModule(folder, data("flickr8k_1k", "captions.csv")).training_samples()[:200]
    write_shards(samples, tmp_path / "out", kind, 8)
    rows = {row["filename"]: row for _, row in rows_of(tmp_path / "out", kind)}
    assert rows == expected(samples)
    captions = read_captions(Path(data("flickr8k_1k", "captions.csv")))
    assert all(tuple(row["captions"]) == captions[name] for name, row in rows.items())


@needs_data
def test_coco_mini_keeps_the_numbers_of_images(tmp_path: Path) -> None:
    samples = CocoCaptionsDataModule(data("coco_mini"), 2017).training_samples()
    write_shards(samples, tmp_path / "out", "parquet", 8)
    annotations = json.loads(Path(data("coco_mini", "annotations", "captions_train2017.json")).read_text())
    ids = {image["file_name"]: image["id"] for image in annotations["images"]}
    assert {row["filename"]: row["cocoid"] for _, row in rows_of(tmp_path / "out", "parquet")} == ids
