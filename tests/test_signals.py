"""Ctrl-C and SIGTERM: the step is finished and saved, in one process and in several."""

import copy
import os
import signal
from pathlib import Path

import lightning as L
import pytest
import torch

from callbacks import LastCheckpoint
from lightning_modules.cli import main
from lightning_modules.taco import ElicModule
from tests.conftest import ROOT, quiet_trainer, small_taco
from tests.data_helpers import sample_data
from tests.ranks import start

LIGHTNING_ON_CTRL_C = 1
TERMINATED = 143


class Interrupted(L.Callback):
    """Gets a signal in the middle of a step, in one of the processes."""

    def __init__(self, number: signal.Signals, at: int = 4, rank: int = 0) -> None:
        self.number, self.at, self.rank = number, at, rank

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: torch.Tensor) -> None:
        """Send it."""
        if trainer.global_step == self.at and trainer.global_rank == self.rank:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, LIGHTNING_ON_CTRL_C), (signal.SIGTERM, TERMINATED)], ids=["ctrl-c", "term"]
)
@pytest.mark.parametrize(("at", "saved_at"), [(4, 5), (10, 11)], ids=["between", "last of the epoch"])
def test_the_step_is_finished_and_saved(
    tmp_path: Path, number: signal.Signals, status: int, at: int, saved_at: int
) -> None:
    initial = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a script's background
    module = small_taco()
    callbacks = [Interrupted(number, at), LastCheckpoint(every_n_steps=1000)]
    trainer = quiet_trainer(
        tmp_path, max_epochs=2, limit_val_batches=0, callbacks=callbacks, enable_checkpointing=True
    )
    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(SystemExit) as left:
            trainer.fit(module, datamodule=sample_data())
        assert left.value.code == status
        saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
        assert saved["global_step"] == saved_at
        current = copy.deepcopy(module.state_dict())
        assert all(torch.equal(value, current[name]) for name, value in saved["state_dict"].items())
        assert {n: signal.getsignal(n) for n in handlers} == handlers, "the signals are given back"
    finally:
        signal.signal(signal.SIGINT, initial)


def test_a_signal_that_is_ignored_on_purpose_stops_nothing(tmp_path: Path) -> None:
    initial = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        callbacks = [Interrupted(signal.SIGINT), LastCheckpoint(every_n_steps=1000)]
        trainer = quiet_trainer(
            tmp_path, max_steps=6, limit_val_batches=0, callbacks=callbacks, enable_checkpointing=True
        )
        trainer.fit(small_taco(), datamodule=sample_data())
        assert trainer.global_step == 6
    finally:
        signal.signal(signal.SIGINT, initial)


def train_on_two(folder: Path, number: signal.Signals) -> None:
    """A rank of a run whose second process alone gets a signal."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    callbacks = [Interrupted(number, rank=1), LastCheckpoint(every_n_steps=1000)]
    trainer = quiet_trainer(
        folder,
        max_steps=8,
        limit_val_batches=0,
        callbacks=callbacks,
        enable_checkpointing=True,
        devices=2,
        strategy="ddp",
    )
    trainer.fit(small_taco(), datamodule=sample_data(batch_size=1))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, LIGHTNING_ON_CTRL_C), (signal.SIGTERM, TERMINATED)])
def test_processes_agree_to_stop(tmp_path: Path, number: signal.Signals, status: int) -> None:
    ranks = start(2, train_on_two, tmp_path, number)
    try:
        logs = [rank.log for rank in ranks]
        assert [rank.wait(120) for rank in ranks] == [status, status], [log.read_text() for log in logs]
        assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 5
    finally:
        for rank in ranks:
            rank.kill()
            rank.log.unlink()


def test_a_terminated_test_does_not_end_as_a_finished_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does any other command whose callbacks do not answer: Lightning leaves with status 0."""
    monkeypatch.chdir(ROOT)
    settings = ["-c", "configs/elic.yaml", "-c", "configs/model/small.yaml", "-c", "configs/data/sample.yaml"]
    settings += ["-c", "configs/trainer/cpu.yaml", "-c", "configs/logger/csv.yaml", "--run_dir", str(tmp_path)]
    settings += [
        "--data.test_crop",
        "64",
        "--data.num_workers",
        "0",
        "--trainer.callbacks",
        "callbacks.LastCheckpoint",
    ]
    short = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1", "--trainer.limit_val_batches", "0"]
    main(["fit", *settings, *short, "--data.crop_size", "64"])

    def terminate(module: ElicModule, batch: object, batch_idx: int) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(ElicModule, "on_test_batch_start", terminate)
    with pytest.raises(SystemExit) as left:
        main(["test", *settings])
    assert left.value.code == TERMINATED
