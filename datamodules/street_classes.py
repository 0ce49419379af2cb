"""The classes of street scenes: what the pixels of a label file mean, and the symbols that a codec sends for them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.errors import DataError

NO_CLASS = 255
"""Where an evaluated class is asked for, the answer for pixels that no evaluation counts."""

_CITYSCAPES_LABELS = (
    *("unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground", "road"),
    *("sidewalk", "parking", "rail track", "building", "wall", "fence", "guard rail", "bridge", "tunnel", "pole"),
    *("polegroup", "traffic light", "traffic sign", "vegetation", "terrain", "sky", "person", "rider", "car"),
    *("truck", "bus", "caravan", "trailer", "train", "motorcycle", "bicycle"),
)
CITYSCAPES_EVALUATED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""Label ids of the 19 classes that Cityscapes evaluates, in the order of their train ids (Cordts et al., "The
Cityscapes dataset for semantic urban scene understanding", CVPR 2016, and its list of labels)."""
_CAMVID_CLASSES = (
    *("sky", "building", "pole", "road", "pavement", "tree", "sign symbol", "fence", "car", "pedestrian"),
    "bicyclist",
)
_VOID = "void"


@dataclass(frozen=True)
class StreetClasses:
    """A table of classes. Symbol i is what `segmentation` of a batch holds for class i; there are `len(table)`.

    Void has a symbol like any class, because a codec that sends label maps losslessly has to send it too.

    Args:
        name: Of the table, as settings give it.
        names: Of the classes, by symbol.
        ignored: Symbols that no evaluation counts: void, and what Cityscapes leaves out of its 19 classes.
        symbols: Symbol of each value that label files hold; other values are refused.
    """

    name: str
    names: tuple[str, ...]
    ignored: frozenset[int]
    symbols: Mapping[int, int]

    def __len__(self) -> int:
        """Number of symbols."""
        return len(self.names)

    @property
    def evaluated(self) -> tuple[str, ...]:
        """Names of the classes that evaluations count, in the order of their symbols."""
        return tuple(name for symbol, name in enumerate(self.names) if symbol not in self.ignored)

    def lookup(self) -> NDArray[np.int64]:
        """Symbol of each 8-bit value of a label file, int64 (256,); -1 for values that are refused."""
        table = np.full(256, -1, dtype=np.int64)
        table[list(self.symbols)] = list(self.symbols.values())
        return table

    def to_evaluated(self, segmentation: Tensor) -> Tensor:
        """Label maps of symbols in the numbering of `evaluated`, with `NO_CLASS` where nothing is evaluated.

        Args:
            segmentation: int (B, h, w), symbols of this table.

        Returns:
            int64 (B, h, w).

        Raises:
            DataError: a value is no symbol of this table.
        """
        segmentation = segmentation.long()
        low, high = int(segmentation.min()), int(segmentation.max())
        if low < 0 or high >= len(self):
            raise DataError(
                f"label maps of {self.name} hold symbols 0 to {len(self) - 1}; these reach from {low} to {high}. The "
                "data and the network that judges it must be of one table of classes: set --data.class_table to "
                f"{self.name}, or take a network that was trained with the data's table"
            )
        table = torch.full((len(self),), NO_CLASS, device=segmentation.device)
        kept = [symbol for symbol in range(len(self)) if symbol not in self.ignored]
        table[kept] = torch.arange(len(kept), device=segmentation.device)
        return table[segmentation]


def _cityscapes34() -> StreetClasses:
    every = range(len(_CITYSCAPES_LABELS))
    # The official label files hold no license plates (id -1): negative ids are not drawn, and the car shows. Files of
    # other tools hold them as 255. The car under them is unknown there, so they become unlabeled.
    symbols = {value: value for value in every} | {255: 0}
    return StreetClasses("cityscapes34", _CITYSCAPES_LABELS, frozenset(every) - {*CITYSCAPES_EVALUATED}, symbols)


def _cityscapes19(name: str, symbols: Mapping[int, int]) -> StreetClasses:
    names = (*(_CITYSCAPES_LABELS[value] for value in CITYSCAPES_EVALUATED), _VOID)
    return StreetClasses(name, names, frozenset({19}), symbols)


_LABEL_IDS = {**dict.fromkeys((*range(34), 255), 19), **{v: i for i, v in enumerate(CITYSCAPES_EVALUATED)}}
_TRAIN_IDS = {**{value: value for value in range(19)}, 255: 19}
_CAMVID = StreetClasses("camvid12", (*_CAMVID_CLASSES, _VOID), frozenset({11}), {value: value for value in range(12)})

TABLES: dict[str, StreetClasses] = {
    table.name: table
    for table in (
        _cityscapes34(),
        _cityscapes19("cityscapes19", _LABEL_IDS),
        _cityscapes19("cityscapes19_train_ids", _TRAIN_IDS),
        _CAMVID,
    )
}
"""All tables by name.

- `cityscapes34`: files hold label ids; symbols are the label ids 0 to 33, as in Xu et al. (arXiv 2308.08154), Fig. 9.
- `cityscapes19`: files hold label ids; symbols are the 19 train ids and 19, void, for the 15 other ids.
- `cityscapes19_train_ids`: the same symbols; files hold train ids and 255.
- `camvid12`: files hold 0 to 10 and 11, void (Badrinarayanan et al., "SegNet", arXiv 1511.00561).
"""
