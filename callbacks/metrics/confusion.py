"""Confusion matrices of segmentations, and the intersection over union that they give."""

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from callbacks.metrics.feature_buffer import gather_rows


def confusion_matrix(target: Tensor, prediction: Tensor, classes: int, ignore: int | None = None) -> Tensor:
    """How many pixels of each class were taken for which class, per image.

    Args:
        target: int (B, h, w).
        prediction: like `target`.
        classes: number of classes.
        ignore: pixels whose target this is are left out.

    Returns:
        int64 (B, classes, classes): rows are targets, columns predictions.

    Raises:
        ValueError: shapes that differ, or a class that is not in 0 to classes - 1.

    >>> confusion_matrix(torch.tensor([[[0, 1, 1, 9]]]), torch.tensor([[[0, 0, 1, 1]]]), classes=2, ignore=9)
    tensor([[[1, 0],
             [1, 1]]])
    """
    if target.shape != prediction.shape:
        raise ValueError(
            f"label maps {tuple(target.shape)} and predictions {tuple(prediction.shape)} differ in shape"
        )
    target, prediction = target.flatten(1).long(), prediction.flatten(1).long()
    counted = torch.ones_like(target, dtype=torch.bool) if ignore is None else target != ignore
    for what, values in (("label maps", target), ("predictions", prediction)):
        strange = values[counted & ((values < 0) | (values >= classes))]
        if len(strange):
            raise ValueError(
                f"the {what} hold class {int(strange[0])}, which is neither among the {classes} classes nor the "
                f"ignored one ({ignore})"
            )
    image = torch.arange(len(target), device=target.device)[:, None]
    cells = ((image * classes + target) * classes + prediction)[counted]
    return torch.bincount(cells, minlength=len(target) * classes**2).view(len(target), classes, classes)


def intersection_over_union(matrix: Tensor) -> Tensor:
    """Intersection over union of each class.

    Args:
        matrix: int (classes, classes), from `confusion_matrix`, summed over a data set.

    Returns:
        float64 (classes,) in [0, 1]; NaN for a class that neither targets nor predictions hold.

    >>> intersection_over_union(torch.tensor([[1, 0, 0], [1, 1, 0], [0, 0, 0]]))
    tensor([0.5000, 0.5000,    nan], dtype=torch.float64)
    """
    hits = matrix.diagonal().double()
    return hits / (matrix.sum(dim=0) + matrix.sum(dim=1) - matrix.diagonal())


class ConfusionMatrix(Metric):
    """Confusion matrix of a data set: `compute` gives the int64 (classes, classes) sum over its images.

    Images are told by their keys: one that a distributed sampler repeated counts once. Processes may bring different
    numbers of images, or none.

    Args:
        classes: number of classes.
        ignore: pixels whose target this is are left out.
    """

    full_state_update = False
    key: list[Tensor]
    matrix: list[Tensor]

    def __init__(self, classes: int, ignore: int | None = None) -> None:
        super().__init__(dist_sync_fn=gather_rows)
        self.classes = classes
        self.ignore = ignore
        self.add_state("key", default=[], dist_reduce_fx="cat")
        self.add_state("matrix", default=[], dist_reduce_fx="cat")

    def update(self, target: Tensor, prediction: Tensor, key: Tensor) -> None:
        """Take in a batch.

        Args:
            target: int (B, h, w).
            prediction: like `target`.
            key: int64 (B,), one per image (`sample_key`).

        Raises:
            ValueError: see `confusion_matrix`.
        """
        matrix = confusion_matrix(target, prediction, self.classes, self.ignore)
        self.matrix.append(matrix.int().cpu())  # of one image: its pixels fit into 31 bits
        self.key.append(key.cpu())

    def compute(self) -> Tensor:
        """The matrix of all images. Every process must call it."""
        if not any(part.numel() for part in self.key):
            return torch.zeros(self.classes, self.classes, dtype=torch.int64)
        _, first = np.unique(dim_zero_cat(self.key).numpy(), return_index=True)
        return dim_zero_cat(self.matrix)[torch.from_numpy(first)].sum(dim=0, dtype=torch.int64)
