"""The paper's evaluation sets: which images, how cropped, and what is said where they are missing."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from PIL import Image

import datamodules
from datamodules import CaptionedFolderDataModule, CocoCaptionsDataModule
from datamodules.coco import draw
from datamodules.errors import DataError
from datamodules.samples import Sample
from tests.conftest import ROOT
from tests.data_helpers import data, needs_data, write_images

VAL_NAMES = [f"COCO_val2014_{number:012d}.jpg" for number in range(40_504)]
FIRST_DRAWN = (0, 43, 200)
DRAWN_SHA256 = "19c47f509a1310ad59ba8a1a69dfe82d8dc0a61ca4d63f4f79e256dd3dc3ac10"


def overlay(name: str, root: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Any:
    """Build the datamodule of an overlay where DATA_ROOT is `root`."""
    monkeypatch.setenv("DATA_ROOT", str(root))
    config: Any = OmegaConf.to_container(OmegaConf.load(ROOT / "configs" / "data" / f"{name}.yaml"), resolve=True)
    module, _, kind = config["data"]["class_path"].partition(".")
    assert module == "datamodules"
    return getattr(datamodules, kind)(**config["data"]["init_args"], num_workers=0, **settings)


def write_val2014(root: Path, sizes: list[tuple[int, int]]) -> list[str]:
    """Write val2014 with an image of each size (width, height)."""
    folder = root / "coco" / "val2014"
    folder.mkdir(parents=True)
    images = []
    for number, size in enumerate(sizes):
        Image.new("RGB", size, (number, 0, 0)).save(folder / VAL_NAMES[number], "JPEG")
        images.append({"id": number, "file_name": VAL_NAMES[number], "width": size[0], "height": size[1]})
    texts = [{"image_id": number, "caption": f"{i} of {number}"} for number in range(len(sizes)) for i in range(5)]
    (root / "coco" / "annotations").mkdir()
    content = {"images": images, "annotations": texts}
    (root / "coco" / "annotations" / "captions_val2014.json").write_text(json.dumps(content))
    return VAL_NAMES[: len(sizes)]


def test_coco_30k_is_the_list_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = write_val2014(tmp_path, [(300, 280), (640, 480), (200, 500), (256, 256)])
    module = overlay("coco_30k", tmp_path, monkeypatch)
    with pytest.raises(DataError, match=r"no .*30k_list.json: set --data.test_list .*github.com/effl-lab/TACO"):
        module.setup("test")
    (tmp_path / "captions").mkdir()
    (tmp_path / "captions" / "mscoco_30k_list.json").write_text(json.dumps([names[3], names[2], names[0]]))
    with pytest.warns(UserWarning, match=rf"1 of 3 images have a side under test_crop=256 .*{names[2]}"):
        batches = list(module.test_dataloader())
    assert [batch["name"] for batch in batches] == [[names[3]], [names[0]]]
    assert all(batch["image"].shape == (1, 3, 256, 256) for batch in batches)
    assert {batch["dataset"] for batch in batches} == {"mscoco_30k_list"}
    assert batches[0]["caption"] == ["0 of 3"]
    references = json.loads((ROOT / "configs/references/taco_text_coco30k.json").read_text())
    assert references["dataset"] == module.test_name, "reports set it beside the paper's figures"


@needs_data
def test_the_published_list_is_restval() -> None:
    names = json.loads(Path(data("captions", "mscoco_30k_list.json")).read_text())
    assert len(names) == len(set(names)) == 30_504
    assert all(name.startswith("COCO_val2014_") and name.endswith(".jpg") for name in names)


def test_a_list_with_an_image_twice(tmp_path: Path) -> None:
    names = write_val2014(tmp_path, [(300, 280)])
    (tmp_path / "list.json").write_text(json.dumps(names * 2))
    module = CocoCaptionsDataModule(str(tmp_path / "coco"), test_list=str(tmp_path / "list.json"))
    with pytest.raises(DataError, match=r"list.json names 1 images more than once \(COCO_val2014_0+.jpg\)"):
        module.setup("test")


def test_coco_40k_is_all_of_it_uncropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [(300, 280), (640, 480), (100, 90)]
    names = write_val2014(tmp_path, sizes)
    module = overlay("coco_40k", tmp_path, monkeypatch)
    batches = list(module.test_dataloader())
    assert [batch["name"] for batch in batches] == [[name] for name in names]
    assert [tuple(batch["image"].shape) for batch in batches] == [(1, 3, height, width) for width, height in sizes]
    assert {batch["dataset"] for batch in batches} == {"coco2014-val"}


def test_coco_1k_is_one_draw_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = [Sample(name, Path(name)) for name in VAL_NAMES]
    drawn = [sample.name for sample in draw(samples, 1000, 0)]
    # Computed by coreutils and Perl's Digest::SHA: names in the order of their hashes, the first 1,000 by name.
    assert drawn[:3] == [f"COCO_val2014_{number:012d}.jpg" for number in FIRST_DRAWN]
    assert hashlib.sha256("".join(f"{name}\n" for name in drawn).encode()).hexdigest() == DRAWN_SHA256
    assert sorted(sample.name for sample in draw(samples[::-1], 1000, 0)) == drawn
    assert len({sample.name for sample in draw(samples, 1000, 1)} & set(drawn)) < 60
    assert {sample.name for sample in draw(samples, 100, 0)} < set(drawn)

    write_val2014(tmp_path, [(64, 48)] * 5)
    module = overlay("coco_1k", tmp_path, monkeypatch)
    assert (module.test_count, module.test_seed, module.test_crop) == (1000, 0, None)
    with pytest.raises(DataError, match=r"test_count is 1000, but there are 5 images: lower --data.test_count"):
        module.setup("test")
    few = CocoCaptionsDataModule(str(tmp_path / "coco"), test_count=3, test_seed=7, test_crop=None, num_workers=0)
    assert few.test_name == "coco2014-val-3-seed7"
    names = [batch["name"][0] for batch in few.test_dataloader()]
    ranked = sorted(VAL_NAMES[:5], key=lambda name: hashlib.sha256(f"7:{name}".encode()).hexdigest())
    assert names == sorted(ranked[:3])
    with pytest.raises(DataError, match=r"test_count is 0: set --data.test_count to 1 or more"):
        CocoCaptionsDataModule("coco", test_count=0)


@pytest.mark.parametrize("name", ["coco_30k", "coco_40k", "coco_1k", "coco"])
def test_missing_coco_says_which_command_fetches_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = rf"prepare coco --root {tmp_path}/coco --year 2014"
    with pytest.raises(DataError, match=rf"no .*val2014: expected .*{command}"):
        overlay(name, tmp_path, monkeypatch).setup("test")


@needs_data
def test_clic_is_whole_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captions = Path(data("captions", "clic_ofa.json"))
    names = list(json.loads(captions.read_text()))
    # The file names that CLIC gave to its 250 professional and 178 mobile test images.
    assert len(names) == 428
    assert all(len(name) == 36 and int(name[:32], 16) >= 0 and name.endswith(".png") for name in names)
    with pytest.raises(DataError, match=r"no folder .*clic2020: .*CLIC2020Professional_test.zip and CLIC2020Mob"):
        overlay("clic", tmp_path, monkeypatch).setup("test")
    folder = tmp_path / "clic2020"
    folder.mkdir()
    for name in names[:-2]:
        Image.new("RGB", (8, 8)).save(folder / name)
    with pytest.raises(DataError, match=r"no caption file .*clic_ofa.json: .*materials/clic_ofa.json of github.com"):
        overlay("clic", tmp_path, monkeypatch).setup("test")
    (tmp_path / "captions").mkdir()
    (tmp_path / "captions" / "clic_ofa.json").write_bytes(captions.read_bytes())
    with pytest.raises(DataError, match=r"2 captions in .*clic_ofa.json have no image: .*CLIC2020Mobile_test"):
        overlay("clic", tmp_path, monkeypatch).setup("test")
    for name in names[-2:]:
        Image.new("RGB", (70, 65)).save(folder / name)
    module = overlay("clic", tmp_path, monkeypatch)
    module.setup("test")
    assert len(module.test_dataloader()) == 428
    assert module.test_name == "clic2020"
    references = json.loads((ROOT / "configs/references/taco_table1_captions.json").read_text())
    assert references["dataset"] == module.test_name


@needs_data
def test_kodak_is_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = overlay("kodak", Path(data()), monkeypatch)
    with pytest.warns(UserWarning, match=r"of 24 captions in .*kodak_ofa.json, 1 have bytes that are not text"):
        module.setup("test")
    assert len(module.test_dataloader()) == 24
    (tmp_path / "kodak").mkdir()
    with pytest.raises(DataError, match=r"no image in .*kodak .*r0k.us/graphics/kodak"):
        overlay("kodak", tmp_path, monkeypatch).setup("test")


def test_an_incomplete_set_is_refused_only_where_that_is_asked(tmp_path: Path) -> None:
    names = write_images(tmp_path / "images", 3)
    (tmp_path / "captions.json").write_text(json.dumps(dict.fromkeys([*names, "gone.png"], "x")))
    settings = (str(tmp_path / "images"), str(tmp_path / "captions.json"))
    with pytest.warns(UserWarning, match="1 captions in .* have no image: gone.png"):
        assert len(CaptionedFolderDataModule(*settings).test_samples()) == 3
    with pytest.raises(DataError, match=r"no image: gone.png. Put these images into .*or set --data.complete false"):
        CaptionedFolderDataModule(*settings, complete=True).test_samples()
