"""Which files of a path a split is, and what a data set of shards cannot give."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image

from datamodules import StreamingCaptionsDataModule
from datamodules.errors import DataError
from datamodules.stream_source import StreamSource
from lightning_modules.cli import main
from tests.conftest import OFFLINE, ROOT
from tests.test_streaming import jpeg


def write_parquet(path: Path, names: list[str], captions: list[Any] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = {
        "image": [{"bytes": jpeg(), "path": name} for name in names],
        "caption": [f"this is {name}" for name in names] if captions is None else captions,
    }
    Dataset.from_dict(rows).to_parquet(path)


def names_of(source: StreamSource) -> list[str]:
    return [row.name for shard in range(source.num_shards) for row in source.rows(shard)]


def test_a_folder_as_the_hub_has_it_gives_each_split_its_files(tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        for shard in range(2):
            write_parquet(tmp_path / f"{split}-0000{shard}-of-00002.parquet", [f"{split}{shard}.jpg"])
    for split in ("train", "validation", "test"):
        assert names_of(StreamSource(str(tmp_path), split)) == [f"{split}0.jpg", f"{split}1.jpg"]
    with pytest.raises(DataError, match=r"none of its \.parquet files begins with val-"):
        StreamSource(str(tmp_path), "val").open()


def test_files_without_rows_are_left_out(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", [])
    write_parquet(tmp_path / "b.parquet", ["b.jpg"])
    for path in (tmp_path, tmp_path / "*.parquet"):
        assert names_of(StreamSource(str(path))) == ["b.jpg"]


def test_a_broken_file_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"cannot be opened \(Arrow.*mend or replace it"):
        StreamSource(str(tmp_path)).open()


def data(path: Path | str, **settings: Any) -> StreamingCaptionsDataModule:
    options: dict[str, Any] = {"num_workers": 0, "crop_size": 32, "batch_size": 1, "val_images": 1, **settings}
    return StreamingCaptionsDataModule(str(path), **options)


def test_training_and_validation_on_the_same_images_is_warned_of(tmp_path: Path, recwarn: Any) -> None:
    write_parquet(tmp_path / "train" / "a.parquet", ["a.jpg", "b.jpg"])
    write_parquet(tmp_path / "validation" / "a.parquet", ["c.jpg"])
    data(tmp_path / "{split}").train_dataloader()
    assert not [w for w in recwarn if "names no split" in str(w.message)]
    with pytest.warns(UserWarning, match="names no split, so training and validation read the same images"):
        data(tmp_path / "train").train_dataloader()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("shards/{split}/*.parquet", "shards"),
        ("data/{split}-*.parquet", "data"),
        ("jxie/coco_captions", "coco_captions"),
        ("{split}", "stream"),
        ("/data/photos/", "photos"),
    ],
)
def test_short_name(path: str, name: str) -> None:
    assert data(path).name == name


def test_a_row_per_caption_has_no_best_of_several(tmp_path: Path) -> None:
    write_parquet(tmp_path / "test" / "a.parquet", ["a.jpg", "a.jpg"], ["one", "two"])
    first = list(data(tmp_path / "{split}").test_dataloader())
    assert [batch["caption"] for batch in first] == [["one"]]
    with pytest.raises(DataError, match=r"a row per caption \(a\.jpg is met twice\).*test_captions first"):
        list(data(tmp_path / "{split}", test_captions="best").test_dataloader())


def test_other_captions_are_refused_at_a_resume(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train" / "a.parquet", ["a.jpg", "b.jpg"])
    write_parquet(tmp_path / "validation" / "a.parquet", ["c.jpg"])
    captions = tmp_path / "captions.json"
    captions.write_text(json.dumps({"a.jpg": ["one", "two"], "b.jpg": ["three"]}))
    before = data(tmp_path / "{split}", captions_file=str(captions))
    next(iter(before.train_dataloader()))
    state = before.state_dict()
    same = data(tmp_path / "{split}", captions_file=str(captions))
    same.load_state_dict(state)
    same.train_dataloader()
    captions.write_text(json.dumps({"a.jpg": ["one"], "b.jpg": ["three"]}))
    other = data(tmp_path / "{split}", captions_file=str(captions))
    other.load_state_dict(state)
    with pytest.raises(DataError, match="written with captions_file"):
        other.train_dataloader()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_a_worker_is_one_line(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    for number in range(4):
        pixels = torch.randint(256, (64, 64, 3), dtype=torch.uint8).numpy().astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    for broken in tmp_path.glob("*.png"):
        broken.write_bytes(broken.read_bytes()[:2000])
    settings = ["--data", "datamodules.CaptionedFolderDataModule", "--data.root", str(tmp_path)]
    settings += [
        "--data.crop_size",
        "64",
        "--data.val_images",
        "1",
        "--data.num_workers",
        str(workers),
        "--data.batch_size",
        "1",
    ]
    with pytest.raises(SystemExit):
        main(["fit", "-c", "configs/taco.yaml", *OFFLINE, *settings, "--run_dir", str(tmp_path / "run"),
              "--trainer.limit_val_batches", "0"])  # fmt: skip
    told = capsys.readouterr().err
    line = told[told.index("error: ") :]
    assert "cannot be read as an 8-bit image" in line and "Traceback" not in line and line.count("\n") == 1
