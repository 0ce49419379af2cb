"""One process of a streamed run: trains a recording model and writes down, step by step, what it was shown.

tests/test_stream_ranks.py starts one per rank.
"""

import json
import os
import signal
from pathlib import Path
from typing import Any

import torch

from callbacks import LastCheckpoint
from datamodules.streaming import StreamingCaptionsDataModule
from tests.data_helpers import Recorder, trainer


class Witness(Recorder):
    """Writes each batch to a file at once, so that kill -9 leaves what was seen before it."""

    def __init__(self, log: Path, kill_at: int | None) -> None:
        super().__init__()
        self.log_file = log.open("a")
        self.kill_at = kill_at

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.global_step == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        for name, caption, key in zip(batch["name"], batch["caption"], batch["key"].tolist(), strict=True):
            self.log_file.write(json.dumps([self.global_step, self.current_epoch, name, caption, key]) + "\n")
        self.log_file.flush()
        return super().training_step(batch, batch_idx)


def stream(runs: list[dict[str, Any]]) -> None:
    """Train as each of the runs says, one after the other."""
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    for run in runs:
        folder = Path(run["folder"])
        folder.mkdir(parents=True, exist_ok=True)
        module = StreamingCaptionsDataModule(**run["data"])
        callbacks = [LastCheckpoint(every_n_steps=run["save_every"])] if run.get("save_every") else []
        fitting = trainer(
            max_epochs=run["epochs"],
            callbacks=callbacks,
            devices=world,
            strategy="ddp" if world > 1 else "auto",
            use_distributed_sampler=False,
            limit_val_batches=0,
            default_root_dir=folder,
            enable_checkpointing=bool(callbacks),
        )
        last = folder / "last.ckpt"
        kill_at = run.get("kill_at") if rank == run.get("kill_rank", 0) else None
        model = Witness(folder / f"seen_{rank}.jsonl", kill_at)
        fitting.fit(model, datamodule=module, ckpt_path=str(last) if last.exists() else None)
