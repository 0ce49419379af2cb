"""Streams over real processes: every sample of an epoch once, whatever dies in between."""

import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.ranks import finish, start
from tests.stream_helpers import coco_mini, flickr, seen, shards, uneven_shards
from tests.stream_program import stream

SETTINGS = {"crop_size": 32, "val_split": "none", "test_split": None, "shuffle_buffer": 16, "batch_size": 4}


@pytest.fixture(scope="module")
def sources(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """240 photographs with a caption each (a number that 1, 2 and 3 ranks divide), in 8 shards of each format."""
    folder = tmp_path_factory.mktemp("shards")
    samples = coco_mini(data_root, 1) + flickr(data_root, 1, per_image=1)
    assert len(samples) == 240
    return {kind: shards(samples, folder / kind, kind) for kind in ("parquet", "webdataset")}


@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_sample_once_per_epoch(world: int, sources: dict, tmp_path: Path) -> None:
    runs = [
        {
            "folder": str(tmp_path / f"{kind}-{workers}"),
            "data": {**SETTINGS, **source, "captions": "first", "num_workers": workers, "samples_per_epoch": 240},
            "epochs": 2,
        }
        for kind, source in sources.items()
        for workers in (0, 1, 2)
    ]
    finish(start(world, stream, runs))
    for run in runs:
        lines = seen(Path(run["folder"]))
        for epoch in range(2):
            names = Counter(line["name"] for line in lines if line["epoch"] == epoch)
            assert len(names) == 240 and set(names.values()) == {1}, (run["folder"], epoch)
        assert Counter(line["rank"] for line in lines) == {f"seen_{rank}": 480 // world for rank in range(world)}
        orders = [[line["name"] for line in lines if line["epoch"] == epoch] for epoch in range(2)]
        assert orders[0] != orders[1]


@pytest.mark.parametrize("kind", ["parquet", "webdataset"])
def test_killed_twice_and_resumed_shows_exactly_the_rest(kind: str, sources: dict, tmp_path: Path) -> None:
    """Two ranks with two workers each; a pair of an image and a caption is a sample."""
    data = {**SETTINGS, **sources[kind], "num_workers": 2, "samples_per_epoch": 240}
    # 30 steps an epoch. Checkpoints at 7, 14, ...; rank 1 dies at 17, then, resumed from 14, at 40.
    whole = {"folder": str(tmp_path / "whole"), "data": data, "epochs": 2, "save_every": 7}
    finish(start(2, stream, [whole]))
    expected = seen(tmp_path / "whole")
    folder = tmp_path / "stopped"
    kept: list[dict[str, Any]] = []
    for kill_at in (17, 40, None):
        run = {"folder": str(folder), "data": data, "epochs": 2, "save_every": 7, "kill_at": kill_at, "kill_rank": 1}
        processes = start(2, stream, [run])
        if kill_at is None:
            finish(processes)
        else:
            assert processes[1].wait(timeout=120) == -signal.SIGKILL
            processes[0].kill()  # it waits for the other for ever
        step = torch.load(folder / "last.ckpt", weights_only=False)["global_step"]
        assert step == {17: 14, 40: 37, None: 60}[kill_at] or (kill_at == 40 and step == 35)
        kept += seen(folder, before_step=step)
        for path in folder.glob("seen_*.jsonl"):
            path.unlink()
    assert sorted(kept, key=str) == sorted(expected, key=str)
    for epoch in range(2):
        names = Counter(line["name"] for line in kept if line["epoch"] == epoch)
        assert len(names) == 240 and set(names.values()) == {1}


def test_uneven_shards_never_hang_and_lose_nothing(data_root: Path, tmp_path: Path) -> None:
    """Ranks go round their shards at their own pace; keys tell passes apart, so none may come twice."""
    samples = coco_mini(data_root, 2)[:100]
    pairs = {(sample.name, caption) for sample in samples for caption in sample.captions}
    source = uneven_shards(samples, tmp_path / "shards", "webdataset", [31, 2, 17, 1, 9, 25, 12, 3])
    data = {**SETTINGS, **source, "num_workers": 2, "samples_per_epoch": 200}
    run = {"folder": str(tmp_path / "run"), "data": data, "epochs": 5}
    finish(start(2, stream, [run]))
    lines = seen(tmp_path / "run")
    assert len(lines) == 5 * 200
    assert max(Counter(line["key"] for line in lines).values()) == 1
    assert {(line["name"], line["caption"]) for line in lines} == pairs
