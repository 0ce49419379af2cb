"""Through the Trainer: an interrupted run sees what an uninterrupted one sees."""

import re
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.callbacks import ModelCheckpoint, OnExceptionCheckpoint

from datamodules.errors import DataError
from datamodules.sampler import sample_key
from tests.data_helpers import STEPS_PER_EPOCH, Recorder, folder_module, trainer, write_captioned_folder

EPOCHS = 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_captioned_folder(tmp_path)


@pytest.fixture
def uninterrupted(folder: Path) -> list[list[int]]:
    model = Recorder()
    trainer(max_epochs=EPOCHS).fit(model, datamodule=folder_module(folder))
    assert len(model.seen) == EPOCHS * STEPS_PER_EPOCH
    for epoch in range(EPOCHS):
        keys = [key for batch in model.seen[epoch * STEPS_PER_EPOCH :][:STEPS_PER_EPOCH] for key in batch]
        assert set(keys) == {sample_key(0, epoch, index) for index in range(48)}
    return model.seen


@pytest.mark.parametrize("num_workers", [0, 2])
def test_resume_after_exceptions(folder: Path, uninterrupted: list, tmp_path: Path, num_workers: int) -> None:
    seen, checkpoint = [], None
    for fail_at_step in (4, 9, None):
        model = Recorder(fail_at_step)
        keep = OnExceptionCheckpoint(tmp_path, f"failed_at_{fail_at_step}")
        fitting = trainer(max_epochs=EPOCHS, callbacks=[keep])
        arguments = {"datamodule": folder_module(folder, num_workers=num_workers), "ckpt_path": checkpoint}
        if fail_at_step is None:
            fitting.fit(model, **arguments)
        else:
            with pytest.raises(InterruptedError):
                fitting.fit(model, **arguments)
            checkpoint = keep.ckpt_path
        seen += model.seen
    assert seen == uninterrupted


@pytest.mark.parametrize("stops", [(4, 8), (2, 4), (5, 13), (6, 12), (7, 12), (6, 9, 14)], ids=str)
@pytest.mark.parametrize(
    ("validation", "num_workers"),
    [({}, 0), ({"limit_val_batches": 0}, 0), ({"limit_val_batches": 0}, 1)],
    ids=["validated", "not", "not, with a worker"],
)
def test_resume_after_max_steps(
    folder: Path, uninterrupted: list, tmp_path: Path, stops: tuple[int, ...], validation: dict, num_workers: int
) -> None:
    """Without validation Lightning takes an epoch at its end for one to finish, and leaves the next one early."""
    seen, checkpoint = [], None
    for stop in (*stops, EPOCHS * STEPS_PER_EPOCH):
        model = Recorder()
        fitting = trainer(max_steps=stop, max_epochs=-1, **validation)
        data = folder_module(folder, num_workers=num_workers)
        fitting.fit(model, datamodule=data, ckpt_path=checkpoint)
        checkpoint = str(tmp_path / f"{stop}.ckpt")
        fitting.save_checkpoint(checkpoint)
        seen += model.seen
    assert seen == uninterrupted


@pytest.mark.parametrize(
    "when",
    [
        {"every_n_train_steps": 1},
        {"every_n_epochs": 1, "save_on_train_epoch_end": True},
        {"every_n_epochs": 1, "save_on_train_epoch_end": False},  # after validation
    ],
    ids=["step", "epoch", "validation"],
)
def test_resume_from_every_saved_checkpoint(
    folder: Path, uninterrupted: list, tmp_path: Path, when: dict[str, Any]
) -> None:
    keep = ModelCheckpoint(tmp_path / "kept", "{step}", save_top_k=-1, **when)
    trainer(max_epochs=2, callbacks=[keep]).fit(Recorder(), datamodule=folder_module(folder))
    saved = {int(re.findall(r"\d+", path.stem)[0]): path for path in (tmp_path / "kept").iterdir()}
    assert set(saved) == (set(range(1, 13)) if "every_n_train_steps" in when else {6, 12})
    for step in set(saved) & {1, 5, 6, 7, 12}:
        model = Recorder()
        trainer(max_epochs=EPOCHS).fit(model, datamodule=folder_module(folder), ckpt_path=str(saved[step]))
        assert model.seen == uninterrupted[step:], step


@pytest.mark.parametrize("lengths", [({"max_epochs": 1}, {"max_epochs": 3}), ({"max_steps": 4}, {"max_steps": 12})])
def test_an_epoch_that_the_trainer_shortens_ends_there(folder: Path, tmp_path: Path, lengths: tuple) -> None:
    short, long = lengths
    whole, first, second = Recorder(), Recorder(), Recorder()
    trainer(limit_train_batches=4, **long).fit(whole, datamodule=folder_module(folder))
    fitting = trainer(limit_train_batches=4, **short)
    fitting.fit(first, datamodule=folder_module(folder))
    fitting.save_checkpoint(tmp_path / "first.ckpt")
    trainer(limit_train_batches=4, **long).fit(
        second, datamodule=folder_module(folder), ckpt_path=str(tmp_path / "first.ckpt")
    )
    assert len(whole.seen) == 12
    assert first.seen + second.seen == whole.seen


def test_trainer_refuses_a_checkpoint_of_another_batch_size(folder: Path, tmp_path: Path) -> None:
    fitting = trainer(max_steps=2)
    fitting.fit(Recorder(), datamodule=folder_module(folder))
    fitting.save_checkpoint(tmp_path / "two.ckpt")
    with pytest.raises(DataError, match=r"batches of 8 samples.*now 4: set --data.batch_size"):
        trainer(max_steps=4).fit(
            Recorder(), datamodule=folder_module(folder, batch_size=4), ckpt_path=str(tmp_path / "two.ckpt")
        )
