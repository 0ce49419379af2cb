"""Training of the classifier whose accuracy and features judge reconstructed digits."""

from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MeanMetric

from callbacks.names import ACCURACY, Stage, metric_key
from datamodules.batch import Batch
from lightning_modules.digit_resnet import describe, digit_resnet18
from lightning_modules.errors import CheckpointError


class ClassifierModule(L.LightningModule):
    """Trains `digit_resnet18` from scratch with cross-entropy and SGD, as Xu et al. (2023, appendix B.1).

    It logs `train/loss`, and in validation and test `{stage}/{dataset}/accuracy`, the percentage of right classes
    over the images of all processes. It reads `image`, `label` and `dataset` of a batch.

    With several processes the statistics of batch normalisation are those of each process's batch, and rank 0's are
    saved; `trainer.sync_batchnorm` makes them those of the global batch.

    Args:
        classes: Number of classes; labels are 0 to classes - 1.
        learning_rate: Of SGD; constant.
        momentum: Of SGD.
    """

    def __init__(self, classes: int = 10, learning_rate: float = 0.01, momentum: float = 0.9) -> None:
        super().__init__()
        self.network = digit_resnet18(classes)
        self.learning_rate = learning_rate
        self.momentum = momentum
        # Metrics, because Lightning's own means over processes round the mean number of images down to an integer.
        self.val_accuracy = MeanMetric()
        self.test_accuracy = MeanMetric()

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes) of float32 (B, 1, 32, 32) in [0, 1]."""
        return self.network(images)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with momentum."""
        return torch.optim.SGD(self.network.parameters(), lr=self.learning_rate, momentum=self.momentum)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Cross-entropy."""
        loss = F.cross_entropy(self(batch["image"]), batch["label"])
        self.log("train/loss", loss.detach())
        self.log("loss", loss.detach(), prog_bar=True, logger=False)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Accuracy."""
        self._log_accuracy("val", self.val_accuracy, batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Accuracy."""
        self._log_accuracy("test", self.test_accuracy, batch)

    def _log_accuracy(self, stage: Stage, accuracy: MeanMetric, batch: Batch) -> None:
        right = self(batch["image"]).argmax(dim=1) == batch["label"]
        accuracy.update(100 * right.float())
        self.log(metric_key(stage, batch["dataset"], ACCURACY), accuracy)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note how to rebuild the classifier without any configuration."""
        checkpoint["classifier"] = describe(self.network)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse checkpoints of other modules.

        Raises:
            CheckpointError: It holds no classifier, or one of other classes.
        """
        told = checkpoint.get("classifier")
        if told is None:
            raise CheckpointError("the checkpoint holds no digit classifier: correct --ckpt_path or --run_dir")
        if told["classes"] != self.network.fc.out_features:
            raise CheckpointError(
                f"the checkpoint's classifier has {told['classes']} classes, but the configuration asks for "
                f"{self.network.fc.out_features}: set --model.classes {told['classes']}"
            )
