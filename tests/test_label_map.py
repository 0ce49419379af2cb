"""Label maps as side information: taken from a batch, and checked."""

from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_modules.codecs.side_information import LabelMap
from lightning_modules.errors import SettingError

KIND = LabelMap(classes=12)


def maps_of(height: int, width: int) -> Tensor:
    return torch.randint(0, 12, (2, height, width), generator=torch.Generator().manual_seed(0))


def batch_of(segmentation: Tensor, height: int, width: int) -> dict[str, Any]:
    image = torch.zeros(2, 3, height, width)
    return {"image": image, "segmentation": segmentation, "dataset": "camvid-val", "name": ["a.png", "b.png"]}


@pytest.mark.parametrize("size", [(64, 128), (61, 130), (8, 9), (1, 1)])
def test_every_eighth_row_and_column_is_taken(size: tuple[int, int]) -> None:
    full = maps_of(*size)
    taken = KIND.of(batch_of(full.to(torch.int32), *size))
    rows, columns = range(0, size[0], 8), range(0, size[1], 8)
    assert taken.dtype == torch.int64 and taken.shape == (2, len(rows), len(columns))
    assert taken.tolist() == [[[int(each[y, x]) for x in columns] for y in rows] for each in full]
    assert torch.equal(KIND.of(batch_of(taken, *size)), taken), "a reduced map is taken as it is"


def test_another_scale() -> None:
    full = maps_of(10, 12)
    assert torch.equal(LabelMap(12, scale=4).of(batch_of(full, 10, 12)), full[:, [0, 4, 8]][:, :, [0, 4, 8]])


def test_missing_maps_are_refused() -> None:
    with pytest.raises(SettingError, match=r"camvid-val has no label maps.*configs/data/camvid\.yaml"):
        KIND.of({"image": torch.zeros(2, 3, 16, 16), "dataset": "camvid-val"})


@pytest.mark.parametrize("shape", [(16, 8), (3, 2), (16, 17)])
def test_maps_of_another_size_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(SettingError, match=rf"camvid-val.*2 x {shape[0]} x {shape[1]} .*a\.png, b\.png.*2 x 2"):
        KIND.of(batch_of(maps_of(*shape), 16, 16))


def test_another_number_of_maps_is_refused() -> None:
    with pytest.raises(SettingError, match="label maps of 1 x 16 x 16 for images of 2 x 16 x 16"):
        KIND.of(batch_of(maps_of(16, 16)[:1], 16, 16))


@pytest.mark.parametrize("value", [-1, 12, 255])
def test_classes_out_of_range_are_refused(value: int) -> None:
    segmentation = maps_of(2, 3)
    segmentation[1, 1, 2] = value
    with pytest.raises(SettingError, match=rf"camvid-val has class {value} in the label map of b\.png.*0\.\.11"):
        KIND.of(batch_of(segmentation, 16, 24))
