"""How fast training runs and how much GPU memory it takes."""

import time
from collections import deque
from typing import Any

import lightning as L
import torch

from callbacks.names import IMAGES_PER_SECOND, PEAK_MEMORY


class Throughput(L.Callback):
    """Logs `train/images_per_second` and, on CUDA, `train/peak_memory_gib`, every
    `trainer.log_every_n_steps`.

    The rate is over the last `log_every_n_steps` batches, from the end of one batch to the end of the next,
    so it includes waiting for data; validation is left out. It counts all processes, taking their batches to
    be of equal size. The memory is rank 0's peak of allocated memory since the process started, in GiB.
    """

    def __init__(self) -> None:
        self._window: deque[tuple[int, float]] = deque()
        self._mark = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Size the window."""
        self._window = deque(maxlen=max(1, trainer.log_every_n_steps))  # type: ignore[attr-defined]

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._mark = time.perf_counter()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock again: what lay between was validation."""
        self._mark = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take the time. Lightning passes logged values on to the loggers every `log_every_n_steps`."""
        now = time.perf_counter()
        self._window.append((len(batch["image"]) * trainer.world_size, now - self._mark))
        self._mark = now
        images, seconds = map(sum, zip(*self._window, strict=True))
        pl_module.log(IMAGES_PER_SECOND, images / seconds, on_step=True, on_epoch=False)
        if pl_module.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(pl_module.device) / 2**30
            pl_module.log(PEAK_MEMORY, peak, on_step=True, on_epoch=False)
