"""Label maps of the first images as palette pictures."""

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from callbacks.label_maps import COLOURS, LabelMaps, class_colour, to_label_picture
from callbacks.run_files import label_map_path
from datamodules.street_classes import TABLES
from tests.callback_helpers import TinyCodec, TinyImages, run_test, trainer
from tests.callback_helpers import collate as collate_images
from tests.decoder_helpers import DATASET, Decoders, TinyDigits
from tests.decoder_helpers import collate as collate_digits

MAPS = {i: (torch.arange(30).reshape(5, 6) + 3 * i) % 12 for i in range(9)}


class Labelled(Decoders):
    """Hands on the label map in every decoder's output, as the codecs do."""

    def _outputs(self, batch: Any, tested: bool) -> Any:
        outputs = super()._outputs(batch, tested)
        for output in outputs if isinstance(outputs, list) else [outputs]:
            output["segmentation"] = batch["segmentation"]
        return outputs


def labelled(count: int = 9, batch_size: int = 2) -> DataLoader:
    digits = TinyDigits(count)
    samples = [{**digits[i], "segmentation": MAPS[i]} for i in range(count)]

    def collate(items: list[dict[str, Any]]) -> Any:
        return {**collate_digits(items), "segmentation": torch.stack([item["segmentation"] for item in items])}

    return DataLoader(samples, batch_size=batch_size, collate_fn=collate)  # type: ignore[arg-type]


def test_first_maps_once_per_image_of_the_data_set_proper(tmp_path, monkeypatch):
    import callbacks.label_maps as module

    drawn: list[int] = []
    monkeypatch.setattr(module, "to_label_picture", lambda *a: drawn.append(1) or to_label_picture(*a))
    run_test(tmp_path, LabelMaps(5), model=Labelled(), data=labelled())
    (folder,) = (tmp_path / "label_maps").iterdir()
    assert folder.name == DATASET and len(drawn) == 5
    # Names fall where places rise: the first five of the order are the last by name.
    assert sorted(path.name for path in folder.iterdir()) == [f"test-{9 - i:05d}.png" for i in reversed(range(5))]
    for i in range(5):
        picture = Image.open(label_map_path(tmp_path, DATASET, f"test-{9 - i:05d}"))
        assert picture.mode == "P" and np.array_equal(np.asarray(picture), MAPS[i].numpy())


def test_predict_writes_too(tmp_path):
    trainer(tmp_path, LabelMaps()).predict(Labelled("g1", alone=True), labelled(9))
    assert len(list((tmp_path / "label_maps" / DATASET).iterdir())) == 8


def test_one_decoder_and_images_without_label_maps(tmp_path):
    run_test(tmp_path, LabelMaps(), model=TinyCodec(), data=DataLoader(TinyImages(2), collate_fn=collate_images))
    assert not (tmp_path / "label_maps").exists()


def test_colours_are_those_of_the_datas_table(tmp_path):
    class Data(L.LightningDataModule):
        classes = TABLES["camvid12"]

        def test_dataloader(self) -> DataLoader:
            return labelled(2)

    trainer(tmp_path, LabelMaps()).test(Labelled("g1"), datamodule=Data(), verbose=False)
    picture = Image.open(label_map_path(tmp_path, DATASET, "test-00002"))
    drawn = np.asarray(picture.convert("RGB"))
    for value, name in enumerate(TABLES["camvid12"].names):
        assert (drawn[MAPS[0].numpy() == value] == COLOURS[name]).all()
    assert COLOURS["void"] == (0, 0, 0)


@pytest.mark.parametrize("table", sorted(TABLES))
def test_every_class_of_every_table_has_a_colour_of_its_own(table):
    classes = TABLES[table]
    assert set(classes.names) <= COLOURS.keys()
    evaluated = [class_colour(classes.names.index(name), classes.names) for name in classes.evaluated]
    assert len(set(evaluated)) == len(evaluated) and (0, 0, 0) not in evaluated


def test_classes_without_names_are_told_apart_by_number():
    colours = [class_colour(i) for i in range(40)]
    assert colours == [class_colour(i) for i in range(40)] and len(set(colours)) == 40
    assert class_colour(2, ("sky", "car")) == class_colour(2)
    assert class_colour(1, ("sky", "never heard of")) == class_colour(1)
    steps = [sum(abs(a - b) for a, b in zip(*pair, strict=True)) for pair in pairwise(colours)]
    assert min(steps) > 60


@pytest.mark.parametrize("value", [-1, 256])
def test_numbers_beyond_a_palette_are_refused(value):
    with pytest.raises(ValueError, match=f"{value}.*callbacks.LabelMaps draws classes from 0 to 255"):
        to_label_picture(torch.tensor([[3, value]]))


def test_needs_an_image():
    with pytest.raises(ValueError, match="max_images is 0"):
        LabelMaps(max_images=0)


def test_names_cannot_lead_out_of_the_run(tmp_path):
    output = {"dataset": "d", "name": ["../x"], "segmentation": MAPS[0][None], "image": 0, "x_hat": 0}
    batch = {"dataset": "d", "name": ["../x"]}
    fake: Any = SimpleNamespace(world_size=1, global_rank=0, default_root_dir=str(tmp_path), datamodule=None)
    with pytest.raises(ValueError, match="cannot name a file"):
        LabelMaps().on_test_batch_end(fake, None, output, batch)  # type: ignore[arg-type]
