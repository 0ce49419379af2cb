"""Training of the small network that judges reconstructed street scenes by their mean intersection over union."""

from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torchmetrics.classification import MulticlassJaccardIndex

from callbacks.names import MIOU, Stage, metric_key
from datamodules.batch import Batch
from datamodules.street_classes import NO_CLASS, TABLES
from lightning_modules.errors import CheckpointError, SettingError
from lightning_modules.segmentation_augmentation import random_colours, random_windows
from lightning_modules.segmentation_network import StreetUNet, describe


class SegmentationModule(L.LightningModule):
    """Trains `StreetUNet` from scratch on the evaluated classes of a table; void and the like count nowhere.

    The loss is `balanced_cross_entropy`. AdamW's learning rate rises and falls over the run (one cycle). Training
    sees random windows of the images in random colours, which depend on the samples' keys alone.

    It logs `train/loss`, and in validation and test `{stage}/{dataset}/miou`, in percent: of one confusion matrix
    over all images of all processes, over the classes in label maps or predictions, as `callbacks.MeanIou` does. It
    reads `image`, `segmentation` (of the images' size), `key` and `dataset` of a batch.

    With several processes the statistics of batch normalisation are those of each process's batch, and rank 0's are
    saved; `trainer.sync_batchnorm` makes them those of the global batch.

    Args:
        class_table: Of the data, a name in `datamodules.street_classes.TABLES`.
        learning_rate: The greatest one of the cycle.
        weight_decay: Of AdamW.
        zoom: Greatest magnification of a window, at least 1.
        colours: Greatest relative change of brightness, contrast and saturation.

    Raises:
        SettingError: a setting is out of range; in `__init__`.
    """

    def __init__(
        self,
        class_table: str = "camvid12",
        learning_rate: float = 5e-3,
        weight_decay: float = 1e-2,
        zoom: float = 2.0,
        colours: float = 0.25,
    ) -> None:
        super().__init__()
        if class_table not in TABLES:
            raise SettingError(f"class_table is {class_table!r}: set --model.class_table to {', '.join(TABLES)}")
        if zoom < 1 or not 0 <= colours <= 1:
            raise SettingError(
                f"zoom={zoom}, colours={colours}: set --model.zoom to 1 or more, and --model.colours to 0 to 1"
            )
        self.table = TABLES[class_table]
        classes = len(self.table.evaluated)
        self.network = StreetUNet(classes)
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.zoom = zoom
        self.colours = colours
        self.val_iou = MulticlassJaccardIndex(classes, ignore_index=NO_CLASS)
        self.test_iou = MulticlassJaccardIndex(classes, ignore_index=NO_CLASS)
        self._dataset: str | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes, H, W) of float32 (B, 3, H, W) in [0, 1]."""
        return self.network(images)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW under a one-cycle schedule over all steps of the run (Smith and Topin, arXiv 1708.07120)."""
        optimiser = torch.optim.AdamW(self.network.parameters(), self.learning_rate, weight_decay=self.weight_decay)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, self.learning_rate, total_steps=steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Balanced cross-entropy of a random view of each image."""
        target = self.table.to_evaluated(batch["segmentation"])
        images = random_colours(batch["image"], batch["key"], self.colours)
        images, target = random_windows(images, target, batch["key"], self.zoom)
        loss = balanced_cross_entropy(self(images), target, NO_CLASS)
        self.log("train/loss", loss.detach())
        self.log("loss", loss.detach(), prog_bar=True, logger=False)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Intersections and unions."""
        self._update(self.val_iou, batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Intersections and unions."""
        self._update(self.test_iou, batch)

    def on_validation_epoch_end(self) -> None:
        """The figure of the held-out images."""
        self._conclude("val", self.val_iou)

    def on_test_epoch_end(self) -> None:
        """The figure of the test images."""
        self._conclude("test", self.test_iou)

    def _update(self, iou: MulticlassJaccardIndex, batch: Batch) -> None:
        iou.update(self(batch["image"]).argmax(dim=1), self.table.to_evaluated(batch["segmentation"]))
        self._dataset = batch["dataset"]

    def _conclude(self, stage: Stage, iou: MulticlassJaccardIndex) -> None:
        miou = 100 * iou.compute()  # a collective: of all processes, those without a batch too
        iou.reset()
        if self._dataset is not None:
            self.log(metric_key(stage, self._dataset, MIOU), miou, rank_zero_only=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note how to rebuild the segmenter without any configuration."""
        checkpoint["segmenter"] = describe(self.network, self.table)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse checkpoints of other modules.

        Raises:
            CheckpointError: It holds no segmenter, or one of other classes.
        """
        told = checkpoint.get("segmenter")
        if told is None:
            raise CheckpointError("the checkpoint holds no street segmenter: correct --ckpt_path or --run_dir")
        if told["class_table"] != self.table.name:
            raise CheckpointError(
                f"the checkpoint's segmenter is of the classes {told['class_table']}, but the configuration asks for "
                f"{self.table.name}: set --model.class_table {told['class_table']}"
            )


def balanced_cross_entropy(logits: Tensor, target: Tensor, ignored: int) -> Tensor:
    """Cross-entropy in which a pixel weighs the inverse square root of its class's share of the batch.

    So poles and pedestrians are not lost beside the road, and yet a class of a few pixels does not outweigh it as it
    would with the inverse itself. The weights' mean over the pixels that count is 1.

    Args:
        logits: float (B, N, h, w).
        target: int64 (B, h, w), in 0..N-1 or `ignored`.
        ignored: Class of pixels that do not count.

    Returns:
        Scalar; 0 where all pixels are ignored.
    """
    counts = torch.bincount(target[target != ignored], minlength=logits.shape[1])
    weights = counts.clamp_min(1).rsqrt()
    losses = F.cross_entropy(logits, target, weights.to(logits.dtype), ignore_index=ignored, reduction="sum")
    return losses / (weights * counts).sum().clamp_min(1e-12)
