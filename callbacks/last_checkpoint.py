"""`last.ckpt`: always there, always resumable."""

import contextlib
import signal
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities import rank_zero_info

TERMINATED = 128 + signal.SIGTERM
"""Exit status of a run that SIGTERM ended, as shells give it: whoever waits must not take it for a finished one."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)  # the later one wins


class LastCheckpoint(Checkpoint):
    """Keeps `{run_dir}/last.ckpt` up to date: every so many steps, after every epoch, on Ctrl-C and on SIGTERM.

    A signal is answered at the end of the running step, so that the checkpoint continues exactly where training
    stopped; a second Ctrl-C stops at once. With several processes it is enough that one of them gets the signal: they
    agree after every step. Ctrl-C then ends as Lightning ends it; SIGTERM, which clusters send before they kill, ends
    with exit status 143.

    Args:
        every_n_steps: Optimiser steps between two saves within an epoch.
    """

    def __init__(self, every_n_steps: int = 1000) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps={every_n_steps} must be at least 1")
        self.every_n_steps = every_n_steps
        self._saved_at = -1
        self._received: signal.Signals | None = None
        self._previous_handlers: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Watch for the signals."""
        self._received = None
        # Outside the main thread signals cannot be handled: whoever runs us there answers them.
        with contextlib.suppress(ValueError):
            for number in _SIGNALS:
                # A job that a script has put into the background ignores Ctrl-C, and shall go on doing so.
                if signal.getsignal(number) is signal.SIG_IGN:
                    continue
                # Lightning's own answer to SIGTERM, which this replaces, leaves without saving, with exit status 0.
                self._previous_handlers[number] = signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._received is signal.SIGINT:
            raise KeyboardInterrupt
        self._received = signal.Signals(number)
        again = "; press Ctrl-C again to stop at once" if number == signal.SIGINT else ""
        rank_zero_info(f"\nStopping after this step{again}.")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when due."""
        # Between the parts of an accumulated batch there is nothing consistent to save. And what is saved after an
        # epoch's last batch, but before its end, the trainer cannot continue twice: that waits for the end.
        if trainer.fit_loop._should_accumulate() or trainer.is_last_batch:
            return
        due = trainer.global_step % self.every_n_steps == 0 and trainer.global_step != self._saved_at
        received = self._received_by_any(trainer)
        if due or received is not None:
            self._save(trainer, received)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the state after the epoch's validation."""
        if not getattr(trainer, "fast_dev_run", False):
            self._save(trainer, self._received_by_any(trainer))

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Give the signals back."""
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)
        self._previous_handlers.clear()

    def _received_by_any(self, trainer: L.Trainer) -> signal.Signals | None:
        """The signal that any process has got; SIGTERM where they have got both. Every process calls this."""
        level = 0 if self._received is None else _SIGNALS.index(self._received) + 1
        if trainer.world_size > 1:
            levels = torch.tensor(level, device=trainer.strategy.root_device)
            level = int(trainer.strategy.reduce(levels, reduce_op="max"))
        return _SIGNALS[level - 1] if level else None

    def _save(self, trainer: L.Trainer, received: signal.Signals | None) -> None:
        """Save, and leave if a signal was received."""
        path = Path(trainer.default_root_dir) / "last.ckpt"
        self._saved_at = trainer.global_step
        trainer.save_checkpoint(path, weights_only=False)
        if received is None:
            return
        rank_zero_info(f"Saved {path}; continue with --if_exists resume.")
        if received is signal.SIGTERM:
            raise SystemExit(TERMINATED)
        raise KeyboardInterrupt
