"""`last.ckpt`: always there, always resumable."""

import contextlib
import signal
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities import rank_zero_info


class LastCheckpoint(Checkpoint):
    """Keeps `{run_dir}/last.ckpt` up to date: every so many steps, after every epoch, and on Ctrl-C.

    Ctrl-C is answered at the end of the running step, so that the checkpoint continues exactly where training
    stopped; a second Ctrl-C stops at once. With several processes Ctrl-C stops at once and the last periodic
    checkpoint stands.

    Args:
        every_n_steps: Optimiser steps between two saves within an epoch.
    """

    def __init__(self, every_n_steps: int = 1000) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps={every_n_steps} must be at least 1")
        self.every_n_steps = every_n_steps
        self._saved_at = -1
        self._interrupted = False
        self._previous_handler: Any = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Watch for Ctrl-C."""
        self._interrupted = False
        # A job that a script has put into the background ignores the signal, and shall go on doing so.
        if trainer.world_size > 1 or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            return
        # Outside the main thread signals cannot be handled: whoever runs us there answers Ctrl-C.
        with contextlib.suppress(ValueError):
            self._previous_handler = signal.signal(signal.SIGINT, self._on_interrupt)

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._interrupted:
            raise KeyboardInterrupt
        self._interrupted = True
        rank_zero_info("\nStopping after this step; press Ctrl-C again to stop at once.")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when due."""
        due = trainer.global_step % self.every_n_steps == 0 and trainer.global_step != self._saved_at
        # Between the parts of an accumulated batch there is nothing consistent to save. And what is saved after an
        # epoch's last batch, but before its end, the trainer cannot continue twice: that waits for the end.
        between_steps = not trainer.fit_loop._should_accumulate() and not trainer.is_last_batch
        if between_steps and (due or self._interrupted):
            self._stop_if_interrupted(self._save(trainer))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the state after the epoch's validation."""
        if not getattr(trainer, "fast_dev_run", False):
            self._stop_if_interrupted(self._save(trainer))

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Give Ctrl-C back."""
        if self._previous_handler is not None:
            signal.signal(signal.SIGINT, self._previous_handler)
            self._previous_handler = None

    def _stop_if_interrupted(self, path: Path) -> None:
        if self._interrupted:
            rank_zero_info(f"Saved {path}; continue with --if_exists resume.")
            raise KeyboardInterrupt

    def _save(self, trainer: L.Trainer) -> Path:
        path = Path(trainer.default_root_dir) / "last.ckpt"
        self._saved_at = trainer.global_step
        trainer.save_checkpoint(path, weights_only=False)
        return path
