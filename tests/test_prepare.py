"""`prepare coco` from archives to a checked data set, with interruptions, damage and wrong counts."""

import dataclasses
import fcntl
import io
import json
import multiprocessing
import os
import signal
import time
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from datamodules import CocoCaptionsDataModule
from datamodules.errors import DataError
from datamodules.preparation.coco import prepare_coco
from datamodules.preparation.extraction import DRAFTS, extract
from datamodules.preparation.releases import Release
from lightning_modules import cli
from lightning_modules.commands.errors import CommandError
from lightning_modules.commands.prepare import main
from tests.data_helpers import data, needs_data
from tests.preparation_helpers import annotations_of, file_server, photographs, publish, published

TRAIN = photographs("train2014", 12)
VAL = photographs("val2014", 7)


@pytest.fixture
def release(tmp_path: Path) -> Release:
    return publish(tmp_path / "served", {"train2014": TRAIN, "val2014": VAL})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_from_the_server_to_the_official_layout(
    release: Release, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "coco"
    with file_server(tmp_path / "served") as server:
        assert prepare_coco(root, release, server=f"{server.url}/")
        asked = len(server.asked)
        stamps = {path: path.stat().st_mtime_ns for path in root.rglob("*.j*")}
        assert not prepare_coco(root, release, server=server.url)
        assert len(server.asked) == asked == 3
    assert contents(root / "train2014") == TRAIN
    assert contents(root / "val2014") == VAL
    # Of the annotations only the captions, of the archives nothing.
    assert sorted(path.name for path in root.iterdir()) == [".prepare.lock", "annotations", "train2014", "val2014"]
    assert set(contents(root / "annotations")) == {"captions_train2014.json", "captions_val2014.json"}
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*.j*")} == stamps, "nothing is written twice"
    assert f"{root / 'train2014'}: all 12 images" in capsys.readouterr().out
    samples = CocoCaptionsDataModule(str(root)).training_samples()
    assert {sample.name: sample.path.read_bytes() for sample in samples} == TRAIN
    assert samples[3].captions[4] == f"caption 4 of {samples[3].name}"


def test_one_split_then_the_other(release: Release, tmp_path: Path) -> None:
    with file_server(tmp_path / "served") as server:
        prepare_coco(tmp_path, release, ["val"], server.url)
        assert not (tmp_path / "train2014").exists()
        prepare_coco(tmp_path, release, ["train"], server.url, keep_archives=True)
    assert contents(tmp_path / "train2014") == TRAIN
    paths = [path for path, _ in server.asked]
    assert paths == ["/annotations/annotations_trainval2014.zip", "/zips/val2014.zip", "/zips/train2014.zip"]
    assert set(contents(tmp_path / "archives")) == {"train2014.zip"}
    # What was asked to be kept is not removed by a later run that asks for nothing.
    prepare_coco(tmp_path, release, server="http://127.0.0.1:1")
    assert (tmp_path / "archives" / "train2014.zip").is_file()


def test_archives_from_a_folder_are_only_read(release: Release, tmp_path: Path) -> None:
    folder = tmp_path / "stick"
    folder.mkdir()
    for path in (tmp_path / "served").rglob("*.zip"):
        path.rename(folder / path.name)
    before = contents(folder)
    arguments = ["coco", "--root", str(tmp_path / "coco"), "--archives", str(folder)]
    (folder / "val2014.zip").write_bytes(before["val2014.zip"][:-1])
    with pytest.raises(
        CommandError, match=r"stick/val2014.zip has .* bytes instead of .*: replace it with http://images"
    ):
        main(arguments, {2014: release})
    (folder / "val2014.zip").unlink()
    with pytest.raises(
        CommandError, match=r"no .*stick/val2014.zip: put the file http://images.*/zips/val2014.zip there"
    ):
        main(arguments, {2014: release})
    (folder / "val2014.zip").write_bytes(before["val2014.zip"])
    main(arguments, {2014: release})
    assert contents(folder) == before
    assert contents(tmp_path / "coco" / "val2014") == VAL


def test_without_network_one_line_says_what_to_fetch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*arguments: str) -> str:
        with pytest.raises(SystemExit) as stopped:
            cli.main(["prepare", "coco", *arguments])
        assert stopped.value.code == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        return error

    with file_server(tmp_path) as server:  # has nothing
        error = said("--root", str(tmp_path / "coco"), "--mirror", server.url)
    for part in ("says 404", "annotations_trainval2014.zip (252.9 MB) by other means", "--archives", "continues"):
        assert part in error
    assert "there is no folder" in said("--root", str(tmp_path), "--archives", str(tmp_path / "absent"))


def test_shards_names_its_own_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*arguments: str) -> str:
        with pytest.raises(SystemExit):
            cli.main(["prepare", "shards", *arguments, "-o", str(tmp_path / "out")])
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1
        assert "--data" not in error
        return error

    folder, captions = str(tmp_path / "images"), tmp_path / "captions.json"
    assert "name the one that holds the images" in said(folder)
    (tmp_path / "images").mkdir()
    assert "name the folder that holds the images themselves" in said(folder)
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "a.png")
    assert "set --captions to a .json" in said(folder, "--captions", str(captions))
    captions.write_text('{"a.jpg": "x"}')
    assert "--join stem matches these" in said(folder, "--captions", str(captions))
    captions.write_text('{"a.jpg": "x", "b/a.jpg": "y"}')
    assert "or set --join to name" in said(folder, "--captions", str(captions), "--join", "stem")


def unpack_and_die(archive: Path, root: Path) -> None:
    """Unpack five files, and be killed."""
    calls = []

    def advance(size: int) -> None:
        calls.append(size)
        if len(calls) == 5:
            os.kill(os.getpid(), signal.SIGKILL)

    extract(archive, root, lambda name: True, advance=advance)


def test_a_kill_in_the_middle_of_unpacking(release: Release, tmp_path: Path) -> None:
    archive, root = tmp_path / "served" / "zips" / "train2014.zip", tmp_path / "coco"
    killed = multiprocessing.get_context("fork").Process(target=unpack_and_die, args=(archive, root))
    killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    folder = root / "train2014"
    assert (folder / DRAFTS).is_dir()
    there = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.jpg")}
    assert len(there) == 5
    (folder / DRAFTS / "half.jpg").write_bytes(b"half")
    with file_server(tmp_path / "served") as server:
        assert prepare_coco(root, release, server=server.url)
    assert contents(folder) == TRAIN, "all of it, and no draft"
    assert {name: (folder / name).stat().st_mtime_ns for name in there} == there, (
        "what was there is not written again"
    )


def test_a_kill_in_the_middle_of_a_download(release: Release, tmp_path: Path) -> None:
    whole = (tmp_path / "served" / "zips" / "train2014.zip").read_bytes()
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives" / "train2014.zip.part").write_bytes(whole[:10_000])
    with file_server(tmp_path / "served") as server:
        prepare_coco(tmp_path, release, server=server.url)
    assert ("/zips/train2014.zip", "bytes=10000-") in server.asked
    assert not (tmp_path / "archives").exists()


def test_files_of_another_size_are_not_overwritten(release: Release, tmp_path: Path) -> None:
    name = next(iter(TRAIN))
    (tmp_path / "train2014").mkdir()
    (tmp_path / "train2014" / name).write_bytes(b"mine")
    with file_server(tmp_path / "served") as server:
        with pytest.raises(DataError, match=rf"1 files are there already with another size .*{name}.*--force"):
            prepare_coco(tmp_path, release, server=server.url)
        assert contents(tmp_path / "train2014") == {name: b"mine"}
        prepare_coco(tmp_path, release, server=server.url, force=True)
    assert contents(tmp_path / "train2014") == TRAIN


def test_wrong_counts(release: Release, tmp_path: Path) -> None:
    served = tmp_path / "served"
    more = dataclasses.replace(release.splits["val"], captions=36)
    with file_server(served) as server, pytest.raises(DataError, match=r"7 images and 35 captions, but 7 and 36 are"):
        prepare_coco(tmp_path / "a", dataclasses.replace(release, splits={"val": more}), ["val"], server.url)
    with zipfile.ZipFile(served / "zips" / "val2014.zip", "w") as archive:
        for name in list(VAL)[:-2]:
            archive.writestr(f"val2014/{name}", VAL[name])
    fewer = dataclasses.replace(release.splits["val"], archive=published(served, "zips/val2014.zip"))
    with (
        file_server(served) as server,
        pytest.raises(DataError, match=r"has 5 of 7 images .*missing are COCO_val2014_"),
    ):
        prepare_coco(tmp_path / "b", dataclasses.replace(release, splits={"val": fewer}), ["val"], server.url)
    (tmp_path / "c" / "annotations").mkdir(parents=True)
    (tmp_path / "c" / "annotations" / "captions_val2014.json").write_text("[]")
    with pytest.raises(DataError, match=r"captions_val2014.json is not a COCO captions file: delete it"):
        prepare_coco(tmp_path / "c", release, ["val"])


@pytest.mark.parametrize("name", ["../outside.jpg", "/outside.jpg", "a/../../outside.jpg", "c:\\outside.jpg"])
def test_members_outside_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("good.jpg", b"1")
        archive.writestr(zipfile.ZipInfo(name), b"2")
    with pytest.raises(DataError, match=r"is a link or lies outside of the folder"):
        extract(tmp_path / "bad.zip", tmp_path / "root", lambda name: True)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["bad.zip", "root"]


def test_damaged_and_linking_archives(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(DataError, match="is a link"):
        extract(tmp_path / "link.zip", tmp_path, lambda name: True)
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("first.jpg", b"first" * 100)
        archive.writestr("second.jpg", b"second" * 100)
    content = (tmp_path / "bad.zip").read_bytes()
    (tmp_path / "bad.zip").write_bytes(content.replace(b"secondsecond", b"secondSECOND", 1))
    with pytest.raises(DataError, match=r"bad.zip is damaged or no zip file .*CRC"):
        extract(tmp_path / "bad.zip", tmp_path / "root", lambda name: True)
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["first.jpg"], "whole files only"
    (tmp_path / "bad.zip").write_bytes(content[:200])
    with pytest.raises(DataError, match="no zip file"):
        extract(tmp_path / "bad.zip", tmp_path / "root", lambda name: True)


def test_a_folder_that_is_a_link(release: Release, tmp_path: Path) -> None:
    (tmp_path / "other_disk").mkdir()
    (tmp_path / "train2014").symlink_to(tmp_path / "other_disk")
    with file_server(tmp_path / "served") as server:
        prepare_coco(tmp_path, release, ["train"], server.url)
    assert contents(tmp_path / "other_disk") == TRAIN


def test_a_second_process_at_work_is_told_of(release: Release, tmp_path: Path) -> None:
    with (tmp_path / ".prepare.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DataError, match=r"another process prepares"):
            prepare_coco(tmp_path, release)


def test_a_place_that_cannot_be_written(release: Release, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        CommandError, match=r"Not a directory: .*file/coco'?: mend this, and the same command continues"
    ):
        main(["coco", "--root", str(tmp_path / "file" / "coco")], {2014: release})


def test_archives_in_the_folder_for_downloads_are_left_when_they_are_somebody_elses(
    release: Release, tmp_path: Path
) -> None:
    folder = tmp_path / "archives"
    folder.mkdir()
    for path in (tmp_path / "served").rglob("*.zip"):
        path.rename(folder / path.name)
    prepare_coco(tmp_path, release, archives=folder)
    assert len(contents(folder)) == 3


def test_ctrl_c_keeps_all_and_says_how_to_continue(
    release: Release, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = (tmp_path / "served" / "annotations" / "annotations_trainval2014.zip").read_bytes()
    part = tmp_path / "coco" / "archives" / "annotations_trainval2014.zip.part"
    # So many failures that it waits when the signal comes, however slow this machine is.
    with file_server(tmp_path / "served", cuts=[100], states=[200, *[503] * 7]) as server:
        arguments = ["coco", "--root", str(tmp_path / "coco"), "--mirror", server.url]

        def run() -> None:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a script's background
            main(arguments, {2014: release})

        process = multiprocessing.get_context("fork").Process(target=run)
        process.start()
        deadline = time.monotonic() + 60
        while not (part.exists() and part.stat().st_size == 100) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid or 0, signal.SIGINT)
        process.join()
        assert process.exitcode == 130
        assert capfd.readouterr().err == "interrupted; the same command continues\n"
        assert part.read_bytes() == whole[:100]
        server.states.clear()
        main(arguments, {2014: release})
    assert contents(tmp_path / "coco" / "val2014") == VAL


@needs_data
def test_coco_mini_through_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    splits = {}
    annotations = {}
    for split, count in (("train2017", 20), ("val2017", 9)):
        folder = Path(data("coco_mini", split))
        content = json.loads(Path(data("coco_mini", "annotations", f"captions_{split}.json")).read_text())
        images = content["images"][:count]
        splits[split] = {image["file_name"]: (folder / image["file_name"]).read_bytes() for image in images}
        ids = {image["id"] for image in images}
        texts = [text for text in content["annotations"] if text["image_id"] in ids]
        annotations[split] = {**content, "images": images, "annotations": texts}
    release = publish(tmp_path / "served", splits, annotations)
    arguments = [
        "coco",
        "--root",
        str(tmp_path / "coco"),
        "--year",
        "2017",
        "--shards",
        "parquet",
        "--shard_count",
        "4",
    ]
    with file_server(tmp_path / "served") as server:
        main([*arguments, "--mirror", server.url], {2017: release})
    assert contents(tmp_path / "coco" / "train2017") == splits["train2017"]
    shards = tmp_path / "coco" / "shards" / "train2017"
    assert sorted(path.name for path in shards.iterdir()) == [*(f"00000{i}.parquet" for i in range(4)), "index.json"]
    capsys.readouterr()
    main(arguments, {2017: release})
    assert "was complete already" in capsys.readouterr().out
    batch = next(
        iter(CocoCaptionsDataModule(str(tmp_path / "coco"), 2017, val_images=2, num_workers=0).val_dataloader())
    )
    assert batch["image"].shape[1:] == (3, 256, 256)


def test_the_helper_publishes_what_coco_would() -> None:
    content = annotations_of(VAL)
    with Image.open(io.BytesIO(next(iter(VAL.values())))) as image:
        assert (content["images"][0]["width"], content["images"][0]["height"]) == image.size
    assert len(content["annotations"]) == 5 * len(VAL)
