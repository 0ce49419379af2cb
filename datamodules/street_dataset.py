"""Street scenes at one size as training and evaluation read them: from memory or from their source, keyed."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NotRequired, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.batch import Batch
from datamodules.street_files import Scenes, nearest


class SceneItem(TypedDict):
    """One element of a `StreetDataset`."""

    image: Tensor
    """uint8 (3, H, W)."""
    segmentation: Tensor
    """uint8 (H, W)."""
    name: str
    key: int
    path: NotRequired[str]


class SceneStore:
    """Scenes resized to one size, decoded once and kept as 8-bit tensors, or decoded at every look.

    Either way every scene is checked on construction: a wrong file ends a run before it trains.

    Args:
        scenes: The source.
        size: (height, width).
        in_memory: Whether they are kept: 4 bytes per pixel and scene.
        threads: That decode, or check, at once.

    Raises:
        DataError: the first scene, in order, that cannot be used; see `Scenes.scene`.
    """

    def __init__(self, scenes: Scenes, size: tuple[int, int], in_memory: bool, threads: int = 1) -> None:
        self.scenes = scenes
        self.size = size
        self.in_memory = in_memory
        self._kept: tuple[Tensor, Tensor] | None = None
        with ThreadPoolExecutor(max(1, threads)) as pool:  # Pillow decodes and resizes without the GIL
            if in_memory:
                images = torch.empty((len(scenes), 3, *size), dtype=torch.uint8)
                maps = torch.empty((len(scenes), *size), dtype=torch.uint8)

                def keep(index: int) -> None:
                    images.numpy()[index], maps.numpy()[index] = scenes.scene(index, size)

                _each(pool, keep, len(scenes))
                self._kept = images, maps
            else:
                _each(pool, scenes.check, len(scenes))

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Image uint8 (3, H, W) and label map uint8 (H, W)."""
        if self._kept is not None:
            return self._kept[0][index], self._kept[1][index]
        image, symbols = self.scenes.scene(index, self.size)
        return torch.from_numpy(image.copy()), torch.from_numpy(symbols.copy())

    def label_map(self, index: int) -> Tensor:
        """Label map, int64 (H, W)."""
        if self._kept is not None:
            return self._kept[1][index].long()
        return torch.from_numpy(nearest(self.scenes.symbols(index), self.size).astype(np.int64))


def _each(pool: ThreadPoolExecutor, work: Callable[[int], None], count: int) -> None:
    """Do the work for all positions; the error of the first of them that fails is raised."""
    for _ in pool.map(work, range(count)):
        pass


class StreetDataset(Dataset[SceneItem]):
    """Map-style dataset over some scenes of a store, indexed by `(index, key)`: what is random comes from the key.

    Args:
        store: The scenes.
        indices: Positions in the store; element i is the scene `indices[i]`.
        flip: Whether half of the samples are mirrored left to right, image and label map together.
        crop_size: Side of a square that is cut out at random, in pixels; null takes whole images.
    """

    def __init__(
        self, store: SceneStore, indices: Sequence[int], flip: bool = False, crop_size: int | None = None
    ) -> None:
        self.store = store
        self.indices = indices
        self.flip = flip
        self.crop_size = crop_size

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, item: tuple[int, int]) -> SceneItem:
        index, key = item
        index = self.indices[index]
        image, segmentation = self.store[index]
        generator = torch.Generator().manual_seed(key)
        mirrored = self.flip and bool(torch.randint(2, (), generator=generator))
        if self.crop_size is not None:
            height, width = segmentation.shape
            top = int(torch.randint(height - self.crop_size + 1, (), generator=generator))
            left = int(torch.randint(width - self.crop_size + 1, (), generator=generator))
            rows, columns = slice(top, top + self.crop_size), slice(left, left + self.crop_size)
            image, segmentation = image[:, rows, columns], segmentation[rows, columns]
        if mirrored:
            image, segmentation = image.flip(-1), segmentation.flip(-1)
        scenes = self.store.scenes
        element = SceneItem(image=image, segmentation=segmentation, name=scenes.names[index], key=key)
        path = scenes.path(index)
        if path is not None:
            element["path"] = path
        return element


def collate(items: list[SceneItem], dataset: str) -> Batch:
    """Stack items into a `Batch` of the data set with this short name."""
    batch = Batch(
        # Divided here, on the CPU: a GPU multiplies by the reciprocal, which differs in the last place.
        image=torch.stack([item["image"] for item in items]).float().div_(255),
        segmentation=torch.stack([item["segmentation"] for item in items]).long(),
        name=[item["name"] for item in items],
        dataset=dataset,
        key=torch.tensor([item["key"] for item in items], dtype=torch.int64),
    )
    paths = [item["path"] for item in items if "path" in item]
    if paths:
        batch["path"] = paths
    return batch
