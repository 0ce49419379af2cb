"""The streaming datamodule on its own: sources, columns, policies, refusals."""

import io
import json
import logging
import multiprocessing
import tarfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from datamodules.decoding import load_rgb
from datamodules.errors import DataError
from datamodules.streaming import StreamingCaptionsDataModule
from datamodules.transforms import RandomCrop, to_tensor
from tests.data_helpers import Recorder, trainer
from tests.stream_helpers import COLUMNS, coco_mini, flickr, shards

SETTINGS: dict[str, Any] = {"crop_size": 32, "num_workers": 0, "batch_size": 4, "shuffle_buffer": 8}


@pytest.fixture(scope="module")
def source(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return shards(coco_mini(data_root)[:24], tmp_path_factory.mktemp("set") / "shards", "parquet", 4)


def module(source: dict[str, Any], **settings: Any) -> StreamingCaptionsDataModule:
    return StreamingCaptionsDataModule(**{**SETTINGS, "samples_per_epoch": 24, **source, **settings})


def epoch(data: StreamingCaptionsDataModule) -> list[Any]:
    batches = list(data.train_dataloader())
    data.teardown("fit")
    return batches


def write_tar(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def jpeg(colour: Any = (10, 200, 30), size: tuple[int, int] = (40, 36), mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["parquet", "webdataset"])
def test_batches_are_the_crops_of_the_files(kind: str, data_root: Path, tmp_path: Path) -> None:
    samples = {sample.name: sample for sample in coco_mini(data_root)[:16]}
    data = module(shards(list(samples.values()), tmp_path / "shards", kind, 4), samples_per_epoch=16)
    batches = epoch(data)
    assert len(batches) == 4
    for batch in batches:
        assert batch["dataset"] == "shards-train" and batch["image"].dtype == torch.float32
        for image, name, caption, key in zip(
            batch["image"], batch["name"], batch["caption"], batch["key"].tolist(), strict=True
        ):
            assert caption in samples[name].captions
            assert torch.equal(image, to_tensor(RandomCrop(32)(load_rgb(samples[name].path), key)))


def test_image_folder_with_a_caption_file(data_root: Path) -> None:
    folder = data_root / "flickr8k_1k"
    data = module(
        {"path": str(folder / "images"), "captions_file": str(folder / "captions.csv")},
        samples_per_epoch=1000,
        captions="first",
        name="flickr",
        shuffle_buffer=50,
    )
    batches = epoch(data)
    known = {sample.name: sample.captions for sample in flickr(data_root, 1000)}
    names = Counter(name for batch in batches for name in batch["name"])
    assert len(names) == 1000 and batches[0]["dataset"] == "flickr-train"
    for batch in batches[:5]:
        for name, caption in zip(batch["name"], batch["caption"], strict=True):
            assert caption == " ".join(known[name][0].split())


def test_all_pairs_one_random_caption_or_the_first(source: dict, data_root: Path) -> None:
    captions = {sample.name: sample.captions for sample in coco_mini(data_root)[:24]}
    pairs = sum(len(texts) for texts in captions.values())
    data = module(source, samples_per_epoch=None, batch_size=1)
    batches = epoch(data)
    assert data.samples_per_epoch == len(batches) == pairs
    assert Counter((b["name"][0], b["caption"][0]) for b in batches) == Counter(
        (name, text) for name, texts in captions.items() for text in texts
    )
    for policy in ("random", "first"):
        data = module(source, samples_per_epoch=None, batch_size=1, captions=policy)
        loader = data.train_dataloader()
        first, second = ({b["name"][0]: b["caption"][0] for b in loader} for _ in range(2))
        assert first.keys() == second.keys() == captions.keys()
        assert (first == second) == (policy == "first")


def test_workers_read_every_sample_once_and_warn_where_shards_are_shared(source: dict) -> None:
    with pytest.warns(UserWarning, match=r"4 shards do not divide by 1 processes x 3 workers.*--data.num_workers 2"):
        batches = epoch(module(source, captions="first", num_workers=3, batch_size=2))
    assert set(Counter(name for batch in batches for name in batch["name"]).values()) == {1}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "4 shards")
        module(source, num_workers=2).train_dataloader()


def test_names_by_pattern_and_by_list(source: dict, tmp_path: Path) -> None:
    data = module(source, captions="first", samples_per_epoch=None, batch_size=1)
    names = sorted(batch["name"][0] for batch in epoch(data))
    wanted = [name for name in names if name.startswith("0000000")]
    assert 0 < len(wanted) < len(names)
    (tmp_path / "names.json").write_text(json.dumps(names[:7]))
    for chosen, expected in (("0000000*", wanted), (str(tmp_path / "names.json"), names[:7])):
        data = module(source, captions="first", samples_per_epoch=None, batch_size=1, train_names=chosen)
        assert sorted(batch["name"][0] for batch in epoch(data)) == expected


def test_validation_takes_the_first_images_and_test_all_each_once(source: dict, data_root: Path) -> None:
    captions = {sample.name: sample.captions for sample in coco_mini(data_root)[:24]}
    data = module(source, val_split="train", val_images=5, test_split="train", test_captions="best", best_of=3)
    validation = list(data.val_dataloader())
    assert sum(len(batch["name"]) for batch in validation) == 5
    assert all(batch["image"].shape[-2:] == (32, 32) for batch in validation)
    test = list(data.test_dataloader())
    assert Counter(batch["name"][0] for batch in test) == Counter(list(captions))
    for batch in test:
        assert batch["captions"] == [list(captions[batch["name"][0]][:3])]
    again = [batch["name"] for batch in data.test_dataloader()]
    assert again == [batch["name"] for batch in test]


def test_bad_images_and_captions_are_left_out_and_counted(tmp_path: Path) -> None:
    """Broken, empty, small and uncaptioned images among good ones of every kind."""
    good = {
        "grey": jpeg(90, mode="L"),
        "cmyk": jpeg((10, 20, 30, 40), mode="CMYK"),
        "plain": jpeg(),
        "long": jpeg(),
        "garbled": jpeg(),
    }
    bad = {
        "empty": b"",
        "html": b"<html>not found</html>",
        "cut": jpeg(size=(400, 400))[:600],
        "small": jpeg(size=(20, 90)),
    }
    captions: dict[str, bytes] = dict.fromkeys((*good, *bad), b"a caption")
    captions |= {"long": b"word " * 10_000, "garbled": b"New K\xff F\xfe", "silent": b"   "}
    files = {}
    for name, image in {**good, **bad, "silent": jpeg()}.items():
        files |= {f"{name}.jpg": image, f"{name}.txt": captions[name]}
    write_tar(tmp_path / "set.tar", files)
    data = module(
        {"path": str(tmp_path / "set.tar"), "image_column": "jpg", "caption_column": "txt"},
        samples_per_epoch=10,
        batch_size=1,
    )
    with pytest.warns(UserWarning) as told:
        batches = epoch(data)
    assert {batch["name"][0] for batch in batches} == {f"{name}.jpg" for name in good}
    texts = " ".join(str(warning.message) for warning in told)
    for name in ("empty", "html", "cut"):
        assert f"{name}.jpg" in texts
    assert "3 unreadable images" in texts
    assert "1 images have a side under crop_size=32 and are left out" in texts and "small.jpg" in texts
    assert "1 images have no caption" in texts and "silent.jpg" in texts
    said = {batch["name"][0]: batch["caption"][0] for batch in batches}
    assert said["garbled.jpg"] == "New K F" and len(said["long.jpg"]) > 1000


@pytest.mark.parametrize("record", [b'["a"]', b"3", b"{", b"[" * 100_000], ids=["list", "number", "cut", "deep"])
def test_a_record_that_is_no_object_costs_its_own_caption_only(tmp_path: Path, record: bytes) -> None:
    files = {}
    for name, about in (("a", b'{"caption": "one"}'), ("b", record), ("c", b'{"caption": "three"}')):
        files |= {f"{name}.jpg": jpeg(), f"{name}.json": about}
    write_tar(tmp_path / "set.tar", files)
    source = {"path": str(tmp_path / "set.tar"), "image_column": "jpg", "caption_column": "json.caption"}
    with pytest.warns(UserWarning, match=r"1 images have no caption.*b\.jpg"):
        batches = epoch(module(source, samples_per_epoch=4, batch_size=1))
    assert {batch["name"][0]: batch["caption"][0] for batch in batches} == {"a.jpg": "one", "c.jpg": "three"}


def test_limits_and_policies_for_bad_images(tmp_path: Path) -> None:
    files = {f"{n}.jpg": b"broken" for n in range(4)} | {"good.jpg": jpeg(), "low.jpg": jpeg(size=(60, 10))}
    write_tar(tmp_path / "set.tar", files)
    source = {"path": str(tmp_path / "set.tar"), "image_column": "jpg", "caption_column": None}
    with pytest.raises(DataError, match="cannot be read as an 8-bit image"):
        epoch(module(source, on_unreadable="raise", samples_per_epoch=8))
    with pytest.raises(DataError, match=r"more than max_unreadable=2"):
        epoch(module(source, max_unreadable=2, samples_per_epoch=8))
    for policy, count in (("drop", 1), ("pad", 2), ("resize", 2)):
        with pytest.warns(UserWarning, match="crop_size=32 and are"):
            batches = epoch(module(source, small_images=policy, samples_per_epoch=4, batch_size=1))
        assert len({batch["name"][0] for batch in batches}) == count
        assert all(batch["image"].shape == (1, 3, 32, 32) and "caption" not in batch for batch in batches)


def test_a_set_without_any_good_image_is_an_error_and_no_endless_search(tmp_path: Path) -> None:
    write_tar(tmp_path / "set.tar", {f"{number}.jpg": b"broken" for number in range(10)})
    source = {"path": str(tmp_path / "set.tar"), "image_column": "jpg", "caption_column": None}
    with pytest.raises(DataError, match="1000 samples in a row are left out"):
        epoch(module(source))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"image_column": "picture"}, r"no column 'picture', but .*image.*: set --data.image_column"),
        ({"caption_column": "text"}, r"no column 'text'.*--data.caption_column, or null"),
        ({"image_column": "cocoid"}, r"column 'cocoid' of .* holds no images"),
        ({"path": "no/such-set"}, r"no/such-set .*cannot be opened.*Set --data.path .*configs/data/coco.yaml"),
        ({"samples_per_epoch": 3}, r"an epoch of 3 samples has no global batch of 4"),
        ({"batch_size": 0}, r"batch_size is 0: set --data.batch_size to 1 or more"),
        ({"num_workers": -1}, r"num_workers is -1"),
        ({"train_names": "none*"}, r"consumer 1 of 1 has nothing to read"),
    ],
)
def test_what_cannot_be_streamed_is_told(
    source: dict, changes: dict, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=told):
        epoch(module(source, **changes))


def test_counting_needs_files_of_this_machine(source: dict) -> None:
    data = module(source, samples_per_epoch=None)
    data._sources["train"].path = "https://example.invalid/{split}.parquet"
    with pytest.raises(DataError, match=r"set --data.samples_per_epoch"):
        data._sources["train"].count(True)


def test_checkpoints_of_other_processes_workers_or_orders_are_refused(source: dict, tmp_path: Path) -> None:
    fitting = trainer(max_steps=2, limit_val_batches=0)
    fitting.fit(Recorder(), datamodule=module(source, captions="first"))
    fitting.save_checkpoint(tmp_path / "two.ckpt")
    for changes, told in (
        ({"num_workers": 2}, "written with num_workers 0, and --data.num_workers is now 2"),
        ({"seed": 5}, "written with seed 0"),
        ({"captions": "all"}, "written with captions first"),
        ({"shuffle_buffer": 9}, "written with shuffle_buffer 8"),
    ):
        with pytest.raises(DataError, match=told):
            trainer(max_steps=4, limit_val_batches=0).fit(
                Recorder(),
                datamodule=module(source, **{"captions": "first", **changes}),
                ckpt_path=str(tmp_path / "two.ckpt"),
            )
    state = torch.load(tmp_path / "two.ckpt", weights_only=False)
    state["StreamingCaptionsDataModule"]["ranks"] *= 2
    torch.save(state, tmp_path / "ranks.ckpt")
    with pytest.raises(DataError, match=r"positions of 2 processes, and this run has 1.*--trainer.devices"):
        trainer(max_steps=4, limit_val_batches=0).fit(
            Recorder(), datamodule=module(source, captions="first"), ckpt_path=str(tmp_path / "ranks.ckpt")
        )


@pytest.mark.parametrize("workers", [0, 2])
def test_interrupted_anywhere_equals_uninterrupted(source: dict, tmp_path: Path, workers: int) -> None:
    """Stops inside an epoch, at its end, and in a later one; 24 images with five captions each in epochs of 40."""

    def data() -> StreamingCaptionsDataModule:
        return module(source, num_workers=workers, samples_per_epoch=40)

    whole = Recorder()
    trainer(max_epochs=4, limit_val_batches=0).fit(whole, datamodule=data())
    assert len(whole.seen) == 40
    kept, checkpoint = [], None
    for stop in (3, 10, 27, 40):
        part = Recorder()
        fitting = trainer(max_steps=stop, max_epochs=-1, limit_val_batches=0)
        fitting.fit(part, datamodule=data(), ckpt_path=checkpoint)
        checkpoint = str(tmp_path / f"{stop}.ckpt")
        fitting.save_checkpoint(checkpoint)
        kept += part.seen
    assert kept == whole.seen
    assert len({key for batch in kept for key in batch}) == 160  # two passes of 120, nothing twice


def test_workers_end_with_training(source: dict, tmp_path: Path) -> None:
    data = module(source, num_workers=2, captions="first", samples_per_epoch=8)
    before = {process.pid for process in multiprocessing.active_children()}
    fitting = trainer(max_epochs=2, limit_val_batches=0, default_root_dir=tmp_path)
    fitting.fit(Recorder(), datamodule=data)
    assert {process.pid for process in multiprocessing.active_children()} <= before
    (position,) = data.state_dict()["ranks"]
    assert position["batches"] == 0 and all(any(cursor) for cursor in position["cursors"])


def test_the_path_may_name_the_split(data_root: Path, tmp_path: Path) -> None:
    samples = coco_mini(data_root)
    for split, part in (("train", samples[:8]), ("held_out", samples[8:12])):
        shards(part, tmp_path / split, "parquet", 2)
    data = module(
        {"path": str(tmp_path / "{split}"), **COLUMNS["parquet"]}, val_split="held_out", name="mini", captions="first"
    )
    assert {n for b in data.val_dataloader() for n in b["name"]} == {sample.name for sample in samples[8:12]}
    assert {n for b in epoch(data) for n in b["name"]} == {sample.name for sample in samples[:8]}


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logging.getLogger("datasets").setLevel(logging.ERROR)
