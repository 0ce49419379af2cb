"""Street scenes: what is refused, before anything is trained on it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datamodules.errors import DataError
from datamodules.street_classes import TABLES
from datamodules.street_scenes import StreetScenesDataModule
from tests.data_helpers import Recorder, trainer, truncate
from tests.street_data_helpers import HEIGHT, WIDTH, module, scene, write_camvid, write_cityscapes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_camvid(tmp_path / "camvid")


def wrong_value(root: Path) -> None:
    labels = scene(4)[1]
    labels[70, 3] = 12
    Image.fromarray(labels).save(root / "trainannot" / "scene4.png")


def wrong_size(root: Path) -> None:
    Image.fromarray(scene(4)[1][:-1]).save(root / "trainannot" / "scene4.png")


def coloured(root: Path) -> None:
    Image.fromarray(scene(4)[0]).save(root / "trainannot" / "scene4.png")


def wide(root: Path) -> None:
    Image.fromarray(scene(4)[1].astype(np.uint16) + 300).save(root / "trainannot" / "scene4.png")


BROKEN = {
    "no map": (
        lambda root: (root / "trainannot" / "scene4.png").unlink(),
        r"1 of 18 images have no label map \(scene4.png in .*/train\): add what is missing, or remove them",
    ),
    "no image": (
        lambda root: (root / "train" / "scene4.png").unlink(),
        r"1 of 18 label maps have no image \(scene4.png in .*/trainannot\)",
    ),
    "value": (wrong_value, r"trainannot/scene4.png holds the value 12 \(1 pixels .*camvid12, which has 0 to 11\)"),
    "wide value": (wide, r"trainannot/scene4.png holds the value 3\d\d \(12288 pixels"),
    "size": (wrong_size, r"train/scene4.png is 128x96, but its label map .*trainannot/scene4.png is 128x95"),
    "colours": (
        coloured,
        r"trainannot/scene4.png is an image of mode RGB, not a map with one class number per pixel",
    ),
    "truncated image": (
        lambda root: truncate(root / "train" / "scene4.png"),
        r"train/scene4.png cannot be read as an 8-bit image \(.*\): copy it again, or remove it and .*trainannot",
    ),
    "truncated map": (
        lambda root: truncate(root / "trainannot" / "scene4.png"),
        r"trainannot/scene4.png cannot be read as an 8-bit image \(.*\): .* remove it and .*train/scene4.png",
    ),
    "no folder": (
        lambda root: (root / "trainannot").rename(root / "masks"),
        r"there is no folder .*/trainannot: expected train/, trainannot/, .*--data.root and --data.layout",
    ),
    "empty": (
        lambda root: [path.unlink() for path in (root / "train").iterdir()],
        r"/train holds no \*.png: expected train/",
    ),
}


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("kind", BROKEN)
def test_broken_data_end_the_run_before_it_trains(root: Path, kind: str, in_memory: bool) -> None:
    damage, message = BROKEN[kind]
    damage(root)
    model = Recorder()
    with pytest.raises(DataError, match=message):
        trainer(max_epochs=1).fit(model, datamodule=module(root, in_memory=in_memory, num_workers=2))
    assert model.seen == []


def test_unpaired_cityscapes_and_label_ids_where_train_ids_should_be(tmp_path: Path) -> None:
    ids = np.resize(np.arange(34, dtype=np.uint8), (64, 64))
    root = write_cityscapes(tmp_path, {"ulm": ids, "jena": ids})
    (root / "gtFine" / "val" / "ulm" / "ulm_000000_000019_gtFine_labelIds.png").unlink()
    with pytest.raises(DataError, match=r"1 of 2 images have no label map \(ulm_000000_000019_leftImg8bit.png"):
        StreetScenesDataModule("cityscapes", str(root), num_workers=0).setup("test")
    table = TABLES["cityscapes19_train_ids"]
    assert sorted(table.symbols) == [*range(19), 255]
    assert set(np.flatnonzero(table.lookup() >= 0)) == {*range(19), 255}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layout": "kitti"}, r"layout is 'kitti': set --data.layout to cityscapes, camvid, hub"),
        ({"batch_size": 0}, r"batch_size is 0"),
        ({"val_images": -1}, r"val_images is -1"),
        ({"val_images": 18}, r"val_images=18 leaves nothing to train on out of 18 images of camvid-train"),
        ({"size": (0, 64)}, r"size is \[0, 64\]"),
        ({"crop_size": 96}, r"crop_size is 96: set --data.crop_size to a multiple of 64, because"),
        ({"crop_size": 128}, r"crop_size is 128, but images are resized to 96x128"),
        ({"in_memory": "maybe"}, r"in_memory is 'maybe'"),
        ({"class_table": "cityscapes34"}, r"class_table is cityscapes34, but label maps of the layout camvid are of"),
        (
            {"layout": "hub"},
            r"class_table is None, but .* layout hub are of cityscapes34 or .*set --data.class_table",
        ),
        ({"batch_size": 17}, r"16 samples, fewer than one global batch of 17"),
    ],
)
def test_settings_out_of_range_are_refused(root: Path, settings: dict[str, Any], message: str) -> None:
    defaults: dict[str, Any] = {"layout": "camvid", "size": (HEIGHT, WIDTH), "val_images": 2, "num_workers": 0}
    with pytest.raises(DataError, match=message):
        StreetScenesDataModule(root=str(root), **{**defaults, **settings}).train_dataloader()
