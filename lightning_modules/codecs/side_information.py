"""Side information Y: what the networks see of it, and what the bitstream carries of it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.codecs.cdf_tables import CdfTables, tables_of_probabilities
from lightning_modules.codecs.range_coder import SymbolDecoder, SymbolEncoder
from lightning_modules.errors import SettingError


class ClassLabel:
    """A class per image, sent losslessly at log2(classes) bits (Xu et al., section 4.2).

    Args:
        classes: Number of classes, all equally likely to the coder. (MNIST's empirical entropy is 3.319 bits against
            log2 10 = 3.322: a prior would gain nothing.)
    """

    def __init__(self, classes: int = 10) -> None:
        self.classes = classes

    @property
    def channels(self) -> int:
        """Of the embedding."""
        return self.classes

    def of(self, batch: Mapping[str, Any]) -> Tensor:
        """Y of a batch, int64 (B,).

        Raises:
            SettingError: The batch has no labels, or labels out of range.
        """
        if "label" not in batch:
            raise SettingError(
                f"the data {batch.get('dataset', '')} has no labels, which this codec sends as side information: use "
                "labelled data, or set model.codec.conditional to false"
            )
        labels: Tensor = batch["label"]
        return self.checked(labels)

    def checked(self, labels: Tensor) -> Tensor:
        """The labels themselves.

        Raises:
            SettingError: One is out of range.
        """
        wrong = labels[(labels < 0) | (labels >= self.classes)]
        if len(wrong):
            raise SettingError(f"label {wrong[0].item()} is not in 0..{self.classes - 1}")
        return labels

    def embed(self, labels: Tensor) -> Tensor:
        """One-hot, float32 (B, classes, 1, 1)."""
        return F.one_hot(labels, self.classes).float()[:, :, None, None]

    def likelihood(self, labels: Tensor) -> Tensor:
        """Probability of each label, float64 (B, 1)."""
        return torch.full((len(labels), 1), 1 / self.classes, dtype=torch.float64, device=labels.device)

    @cached_property
    def _tables(self) -> CdfTables:
        return tables_of_probabilities(torch.full((1, self.classes), 1 / self.classes, dtype=torch.float64))

    def put(self, encoder: SymbolEncoder, labels: Tensor) -> None:
        """Code labels (B,)."""
        encoder.put(labels, torch.zeros_like(labels), self._tables)

    def get(self, decoder: SymbolDecoder, count: int) -> Tensor:
        """Decode labels (count,); a damaged stream gives any, which the stream's checksum tells."""
        symbols = decoder.get(torch.zeros(count, dtype=torch.int64), self._tables)
        return symbols.long().clamp(0, self.classes - 1)


class LabelMap:
    """A class for each pixel of a reduced image (Xu et al., section 4.3: at an eighth of the image's sides).

    Its coding needs a model of what maps are like: see `label_map_prior.LabelMapPrior`.

    Args:
        classes: Number of classes, "void" among them where the data has it: every pixel is sent.
        scale: Every how many rows and columns of a map at the image's size are sent, counted from the first.
    """

    def __init__(self, classes: int, scale: int = 8) -> None:
        self.classes = classes
        self.scale = scale

    def taken(self, maps: Tensor, height: int, width: int) -> Tensor | None:
        """What is sent of maps (B, H, W) for pictures of a size: every `scale`-th row and column from the first; of
        maps that are reduced already, all. None for maps of another size.
        """
        if maps.shape[1:] == (height, width):
            maps = maps[..., :: self.scale, :: self.scale]
        return maps if maps.shape[1:] == self.reduced_size(height, width) else None

    def reduced_size(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns that are sent for a picture."""
        return -(-height // self.scale), -(-width // self.scale)

    def first_wrong(self, maps: Tensor) -> tuple[int, int] | None:
        """The first map (by number) that has a class out of range, and such a class of it."""
        wrong = ((maps < 0) | (maps >= self.classes)).flatten(1)
        if not bool(wrong.any()):
            return None
        first = int(wrong.any(1).nonzero()[0])
        return first, int(maps[first].flatten()[wrong[first]][0])

    def of(self, batch: Mapping[str, Any]) -> Tensor:
        """Y of a batch, int64 (B, ceil(H / scale), ceil(W / scale)).

        Args:
            batch: With `segmentation` of the images' size, which is sampled here, or of the reduced size.

        Raises:
            SettingError: The batch has no label maps, or maps of another size, or a class out of range.
        """
        data = f"the data {batch.get('dataset', '')}"
        if "segmentation" not in batch:
            raise SettingError(
                f"{data} has no label maps, which this codec sends as side information: use data with them "
                "(configs/data/camvid.yaml), or the codec without side information"
            )
        given: Tensor = batch["segmentation"]
        height, width = batch["image"].shape[-2:]
        maps = self.taken(given, height, width)
        if maps is None or len(maps) != len(batch["image"]):
            rows, columns = self.reduced_size(height, width)
            raise SettingError(
                f"{data} has label maps of {' x '.join(map(str, given.shape))} for images of {len(batch['image'])} x "
                f"{height} x {width} ({self._names(batch)}): maps must have the image's height and width, or those "
                f"divided by {self.scale}, {rows} x {columns}"
            )
        if (wrong := self.first_wrong(maps)) is not None:
            number, value = wrong
            raise SettingError(
                f"{data} has class {value} in the label map of {self._names(batch, number)}, which is not in "
                f"0..{self.classes - 1}: set the codec's number of classes to that of the data"
            )
        return maps.long()

    @staticmethod
    def _names(batch: Mapping[str, Any], number: int | None = None) -> str:
        names = batch.get("name")
        if names is None:
            return f"image {number}" if number is not None else "unnamed images"
        return str(names[number]) if number is not None else ", ".join(map(str, names))
