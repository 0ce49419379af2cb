"""Small street scenes on disk, whose pixels tell where they come from."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datamodules.street_scenes import StreetScenesDataModule

HEIGHT, WIDTH = 96, 128
COUNT = 18


def scene(number: int) -> tuple[np.ndarray, np.ndarray]:
    """An image whose every pixel is (number, x, y), and a map of every CamVid class that depends on all three."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.uint8)
    return np.stack([np.full_like(x, number), x, y], -1), (x // 5 + y // 7 + number).astype(np.uint8) % 12


def write_camvid(root: Path, count: int = COUNT) -> Path:
    """Write scenes in CamVid's layout, of the test set from number 100 on; gives the folder."""
    for split, first in (("train", 0), ("val", 100)):
        for folder in (root / split, root / f"{split}annot"):
            folder.mkdir(parents=True)
        for number in range(first, first + count):
            for folder, pixels in zip((split, f"{split}annot"), scene(number), strict=True):
                Image.fromarray(pixels).save(root / folder / f"scene{number}.png")
    return root


def write_cityscapes(root: Path, values: dict[str, np.ndarray]) -> Path:
    """Write label maps in Cityscapes' layout, a city for each, both sets alike; gives the folder."""
    for split in ("train", "val"):
        for number, (city, labels) in enumerate(values.items()):
            image, gt = root / "leftImg8bit" / split / city, root / "gtFine" / split / city
            image.mkdir(parents=True)
            gt.mkdir(parents=True)
            stem = f"{city}_{number:06d}_000019"
            Image.fromarray(np.stack([labels] * 3, -1)).save(image / f"{stem}_leftImg8bit.png")
            Image.fromarray(labels).save(gt / f"{stem}_gtFine_labelIds.png")
            (gt / f"{stem}_gtFine_polygons.json").write_text("{}")
            Image.fromarray(np.stack([labels] * 3, -1)).save(gt / f"{stem}_gtFine_color.png")
    return root


def module(root: Path, **kwargs: Any) -> StreetScenesDataModule:
    """A datamodule of what `write_camvid` wrote."""
    settings = {"size": (HEIGHT, WIDTH), "batch_size": 4, "val_images": 2, "num_workers": 0}
    return StreetScenesDataModule("camvid", str(root), **{**settings, **kwargs})
