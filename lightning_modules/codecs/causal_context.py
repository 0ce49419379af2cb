"""The neighbours of a pixel that a decoder already knows, and an order of coding in which many pixels can go at once.

Pixel (y, x) is coded in step x + 6y: it needs neighbours up to five columns to the right in the row above, and those
lie in earlier steps. All pixels of one step depend on none of each other, so that a map of h x w takes w + 6(h - 1)
steps instead of h·w. (Wavefront coding, as in HEVC's wavefront parallel processing.)
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

NEIGHBOURS: tuple[tuple[int, int], ...] = (
    *((0, -1), (0, -2), (0, -3)),
    *((-1, -3), (-1, -2), (-1, -1), (-1, 0), (-1, 1), (-1, 2), (-1, 3), (-1, 4), (-1, 5)),
    *((-2, -2), (-2, -1), (-2, 0), (-2, 1), (-2, 2)),
    *((-3, -1), (-3, 0), (-3, 1)),
)
"""(rows, columns) from the pixel to each neighbour."""
ROWS = 32
"""Heights above the ground that are told apart, from the top of the map to its bottom."""
_UP = max(-dy for dy, _ in NEIGHBOURS)
_LEFT = max(-dx for _, dx in NEIGHBOURS)
_RIGHT = max(dx for _, dx in NEIGHBOURS)
_SLOPE = _RIGHT + 1

FEATURES = len(NEIGHBOURS) + 1
"""Of one context: the neighbours' classes, and the row."""


def table_rows(classes: int) -> int:
    """Number of values of all features together: each neighbour is one of the classes or outside."""
    return len(NEIGHBOURS) * (classes + 1) + ROWS


def numbered(neighbours: Tensor, rows: Tensor, heights: Tensor | int, classes: int) -> Tensor:
    """Contexts as row numbers of one table that holds a row for each value of each feature.

    Args:
        neighbours: int64 (n, len(NEIGHBOURS)): 0 to classes - 1, or `classes` for outside the map.
        rows: int64 (n,): the pixels' rows.
        heights: Of the maps they are from, int64 (n,) or one for all.
        classes: Number of classes.

    Returns:
        int64 (n, FEATURES), 0 to table_rows(classes) - 1.
    """
    first = torch.arange(len(NEIGHBOURS)) * (classes + 1)
    band = torch.div(rows * ROWS, heights, rounding_mode="floor") + len(NEIGHBOURS) * (classes + 1)
    return torch.cat((neighbours + first, band[:, None]), 1)


class Wavefront:
    """One map under coding: which pixels go when, and their contexts.

    Args:
        height: Of the map.
        width: Of the map.
        classes: Number of classes.
    """

    def __init__(self, height: int, width: int, classes: int) -> None:
        self._classes = classes
        self._size = height, width
        stride = _LEFT + width + _RIGHT
        rows, columns = torch.arange(height)[:, None], torch.arange(width)
        steps = (columns + _SLOPE * rows).flatten()
        self.order = torch.argsort(steps, stable=True)
        """int64 (h·w,): positions in the map, row by row, in the order of coding."""
        self.counts: list[int] = [count for count in torch.bincount(steps).tolist() if count]
        """Pixels of each step."""
        self._rows = torch.div(self.order, width, rounding_mode="floor")
        self._at = (self._rows + _UP) * stride + self.order % width + _LEFT
        self._neighbours = torch.tensor([dy * stride + dx for dy, dx in NEIGHBOURS])
        self._known = torch.full(((_UP + height) * stride,), classes)

    def fill(self, labels: Tensor) -> None:
        """Make a whole map known, int64 (h, w)."""
        self._known = F.pad(labels, (_LEFT, _RIGHT, _UP, 0), value=self._classes).flatten()

    def set(self, first: int, labels: Tensor) -> None:
        """Make the labels of the pixels from number `first` of the order known, int64 (n,)."""
        self._known[self._at[first : first + len(labels)]] = labels

    def contexts(self, first: int, count: int) -> Tensor:
        """Contexts of pixels `first` to first + count - 1 of the order, int64 (count, FEATURES); see `numbered`."""
        at = self._at[first : first + count, None] + self._neighbours
        return numbered(self._known[at], self._rows[first : first + count], self._size[0], self._classes)
