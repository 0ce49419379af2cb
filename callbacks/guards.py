"""Stopping early, with evidence, when training has gone wrong."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from lightning_modules.files import write_atomically


class NonFiniteLossError(RuntimeError):
    """The training loss became NaN or infinite."""


class StopOnNonFiniteLoss(L.Callback):
    """Stops training before the backward pass of a NaN or infinite loss, so that the weights are kept.

    The batch is saved to `{run_dir}/nonfinite_batch_step{N}_rank{r}.pt`, a dict with `batch` (tensors and
    lists of strings), `loss` (float), `step` and `epoch`; `torch.load(path, weights_only=True)` reads it.
    Reading the loss makes the host wait for the device once per step.
    """

    def __init__(self) -> None:
        self._batch: Any = None

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keep a reference: the hook that sees the loss does not see the batch."""
        self._batch = batch

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Check the loss.

        Raises:
            NonFiniteLossError: it is NaN or infinite.
        """
        if bool(torch.isfinite(loss).all()):
            return
        step, rank = trainer.global_step, trainer.global_rank
        path = Path(trainer.default_root_dir) / f"nonfinite_batch_step{step}_rank{rank}.pt"
        batch = {key: _portable(value) for key, value in self._batch.items()}
        evidence = {"batch": batch, "loss": loss.item(), "step": step, "epoch": trainer.current_epoch}
        write_atomically(path, lambda draft: torch.save(evidence, draft))
        raise NonFiniteLossError(
            f"the loss is {loss.item()} at step {step} (rank {rank}), images {', '.join(batch['name'])}. "
            f"The batch is saved in {path}. Look at it first: an image may be damaged. If it is sound, try a "
            "lower learning rate, a smaller gradient_clip_val, or trainer.precision 32-true, "
            "and resume from the last checkpoint."
        )

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Let the batch go."""
        self._batch = None


def _portable(value: Any) -> Any:
    """A batch entry that `weights_only` loading accepts: CPU tensors, strings, numbers, or lists of them."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, list | tuple):
        return [_portable(item) for item in value]
    return value if isinstance(value, str | int | float | None) else str(value)
