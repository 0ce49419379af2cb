"""Training: it learns, one optimiser equals the usual two, clipping, accumulation, and bit-exact resumption."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from callbacks import LastCheckpoint, NonFiniteLossError, StopOnNonFiniteLoss
from lightning_modules.atomic_checkpoints import AtomicCheckpointIO
from lightning_modules.cli import main
from lightning_modules.codecs.checkpoint import load_codec
from lightning_modules.errors import CheckpointError
from lightning_modules.losses.perceptual import LpipsPart
from tests.conftest import OFFLINE, QUICK, ROOT, quiet_trainer, small_taco
from tests.data_helpers import sample_data


def batches(count: int, size: int = 2) -> list[Any]:
    data = sample_data(batch_size=size, crops_per_image=8)
    data.setup("fit")
    loader = iter(data.train_dataloader())
    return [next(loader) for _ in range(count)]


def as_loader(ready: list[Any]) -> DataLoader[Any]:
    return DataLoader(ready, batch_size=None)  # type: ignore[arg-type]  # a list is a dataset


def test_300_steps_drive_the_loss_to_a_fifth(trained: tuple) -> None:
    losses = trained[1]
    assert len(losses) == 300
    first, last = sum(losses[:10]) / 10, sum(losses[-30:]) / 30
    assert last < first / 5, (first, last)


def test_one_optimiser_equals_the_two_of_the_authors(tmp_path: Path) -> None:
    """Their loop: backward, clip, step of the networks; then backward and step of the quantiles."""
    ours, theirs = small_taco(), small_taco()
    data = batches(6)
    trainer = quiet_trainer(tmp_path, max_epochs=1, limit_val_batches=0)
    trainer.fit(ours, train_dataloaders=as_loader(data))
    named = [(n, p) for n, p in theirs.codec.named_parameters() if p.requires_grad]
    net = torch.optim.Adam([p for n, p in named if not n.endswith("quantiles")], lr=1e-4)
    aux = torch.optim.Adam([p for n, p in named if n.endswith("quantiles")], lr=1e-3)
    theirs.train()
    for batch in data:
        net.zero_grad()
        aux.zero_grad()
        y = theirs.side_information(batch["caption"], 2)
        loss, _ = theirs._rate_and_loss(batch, y, theirs.codec(batch["image"], y, batch["key"]))
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in theirs.codec.parameters() if p.grad is not None], 1.0)
        net.step()
        theirs.codec.auxiliary_loss().backward()
        aux.step()
    assert trainer.global_step == 6
    for (name, a), b in zip(ours.codec.state_dict().items(), theirs.codec.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-6, msg=name)


def test_only_the_networks_are_clipped() -> None:
    module = small_taco()
    optimizer = module.configure_optimizers()["optimizer"]
    module.log = lambda *args, **kwargs: None  # type: ignore[method-assign]  # no trainer is attached
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.grad = torch.ones_like(p)
    module.configure_gradient_clipping(optimizer, 1.0, "norm")
    net, aux = (torch.cat([p.grad.flatten() for p in g["params"]]) for g in optimizer.param_groups)
    assert float(net.double().norm()) == pytest.approx(1, rel=1e-2)
    assert bool((aux == 1).all())
    with pytest.raises(ValueError, match="use norm"):
        module.configure_gradient_clipping(optimizer, 1.0, "value")


def test_learning_rate_of_the_networks_drops_and_that_of_the_quantiles_stays(tmp_path: Path) -> None:
    module = small_taco(milestones=[1, 2])
    rates: list[list[float]] = []

    class Watch(L.Callback):
        def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            rates.append([group["lr"] for group in trainer.optimizers[0].param_groups])

    quiet_trainer(tmp_path, max_epochs=3, limit_val_batches=0, callbacks=[Watch()]).fit(
        module, train_dataloaders=as_loader(batches(1))
    )
    torch.testing.assert_close(torch.tensor(rates), torch.tensor([[1e-4, 1e-3], [1e-5, 1e-3], [1e-6, 1e-3]]))


def test_accumulated_batches_equal_one_large_batch(tmp_path: Path) -> None:
    large = batches(2, size=4)
    halves = []
    for batch in large:
        for part in (slice(0, 2), slice(2, 4)):
            halves.append({k: v if isinstance(v, str) else v[part] for k, v in batch.items()})
    results = []
    for data, accumulate in ((large, 1), (halves, 2)):
        module = small_taco()
        trainer = quiet_trainer(tmp_path, max_epochs=1, limit_val_batches=0, accumulate_grad_batches=accumulate)
        trainer.fit(module, train_dataloaders=as_loader(data))
        assert trainer.global_step == 2
        results.append(module.codec.state_dict())
    for name in results[0]:
        torch.testing.assert_close(results[0][name], results[1][name], rtol=0, atol=1e-5, msg=name)


def test_training_draws_nothing_from_the_global_generator(tmp_path: Path) -> None:
    """Why there is no random state to restore: crops and noise come from the samples' keys."""
    module, batch = small_taco().train(), batches(1)[0]
    state = torch.get_rng_state()
    y = module.side_information(batch["caption"], 2)
    module.codec(batch["image"], y, batch["key"])
    batches(1)
    assert torch.equal(state, torch.get_rng_state())


def test_a_nan_loss_stops_with_the_batch_saved(tmp_path: Path) -> None:
    bad = batches(3)
    bad[2]["image"][0, 0, 0, 0] = float("nan")
    trainer = quiet_trainer(tmp_path, max_epochs=1, limit_val_batches=0, callbacks=[StopOnNonFiniteLoss()])
    with pytest.raises(NonFiniteLossError, match="nonfinite_batch_step2"):
        trainer.fit(small_taco(), train_dataloaders=as_loader(bad))
    (saved,) = tmp_path.glob("nonfinite_batch*.pt")
    assert torch.load(saved, weights_only=True)["batch"]["image"].isnan().any()


def test_checkpoints_load_safely_and_leave_frozen_losses_out(tmp_path: Path, alexnet: str) -> None:
    module = small_taco(k_p=1.0, k_j=0.1, lpips=LpipsPart(pretrained=alexnet))
    trainer = quiet_trainer(tmp_path, max_epochs=1, limit_val_batches=0, limit_train_batches=1)
    trainer.fit(module, datamodule=sample_data())
    path = tmp_path / "last.ckpt"
    trainer.save_checkpoint(path, weights_only=False)
    checkpoint = torch.load(path, weights_only=True)
    assert not any("frozen" in key for key in checkpoint["state_dict"])
    assert any(key.startswith("frozen_losses.lpips") for key in module.state_dict())
    codec, text_encoder = load_codec(path)
    assert codec.fingerprint() == module.codec.fingerprint()
    assert text_encoder is not None
    assert torch.equal(text_encoder(["a cat"]).tokens, module.text_encoder(["a cat"]).tokens)
    again = small_taco(k_p=1.0, k_j=0.1, lpips=LpipsPart(pretrained=alexnet))
    quiet_trainer(tmp_path, max_epochs=2, limit_val_batches=0, limit_train_batches=1).fit(
        again, datamodule=sample_data(), ckpt_path=path
    )


def test_unusable_checkpoints_are_named(tmp_path: Path, trained: tuple) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        load_codec(tmp_path / "none.ckpt")
    (tmp_path / "text.ckpt").write_text("not a checkpoint")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_codec(tmp_path / "text.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match="names no codec"):
        load_codec(tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match="N=64"):
        quiet_trainer(tmp_path, max_steps=400).fit(
            small_taco(N=32, M=48, slices=None), datamodule=sample_data(), ckpt_path=trained[2]
        )


def test_a_failed_save_leaves_the_previous_checkpoint(tmp_path: Path) -> None:
    io, path = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    io.save_checkpoint({"epoch": 1}, path)
    before = path.read_bytes()

    class Unpicklable:
        def __reduce__(self) -> str:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        io.save_checkpoint({"epoch": Unpicklable()}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


class StopAt(L.Callback):
    """Raises in the middle of a step, as a crash would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            raise RuntimeError("crash")


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_twice_is_bit_for_bit_uninterrupted(tmp_path: Path, workers: int) -> None:
    """11 steps per epoch, 2 epochs, crashes at steps 5 and 16; checkpoints every 3 steps."""

    def run(folder: Path, resume: bool, crash: int | None) -> dict[str, Any]:
        module = small_taco(milestones=[1])
        callbacks: list[L.Callback] = [LastCheckpoint(every_n_steps=3)]
        if crash is not None:
            callbacks.append(StopAt(crash))
        trainer = quiet_trainer(
            folder, max_epochs=2, callbacks=callbacks, plugins=[AtomicCheckpointIO()], enable_checkpointing=True
        )
        last = folder / "last.ckpt"
        try:
            trainer.fit(module, datamodule=sample_data(num_workers=workers), ckpt_path=last if resume else None)
        except RuntimeError as error:
            assert crash is not None
            assert str(error) == "crash"
        return torch.load(last, weights_only=True)

    whole = run(tmp_path / "whole", False, None)
    parts = tmp_path / "parts"
    assert run(parts, False, 5)["global_step"] == 3
    assert run(parts, True, 16)["global_step"] == 15
    resumed = run(parts, True, None)
    assert resumed["global_step"] == whole["global_step"] == 22
    for name, value in whole["state_dict"].items():
        assert torch.equal(value, resumed["state_dict"][name]), name
    for key, state in whole["optimizer_states"][0]["state"].items():
        for name, value in state.items():
            assert torch.equal(value, resumed["optimizer_states"][0]["state"][key][name])


def test_killed_and_resumed_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL in mid-epoch, then --if_exists resume: the same weights as without."""
    command = [
        *("fit", "-c", "configs/taco.yaml", *OFFLINE, *QUICK, "--trainer.max_epochs", "1"),
        *("--trainer.callbacks", "callbacks.LastCheckpoint", "--trainer.callbacks.every_n_steps", "4"),
        *("--data.crops_per_image", "8"),
    ]
    monkeypatch.chdir(ROOT)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    main([*command, "--run_dir", str(whole)])
    process = subprocess.Popen(
        [sys.executable, "-m", "lightning_modules.cli", *command, "--run_dir", str(parts)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not (parts / "last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed_at = torch.load(parts / "last.ckpt", weights_only=True)["global_step"]
    assert 0 < killed_at < 22
    main([*command, "--run_dir", str(parts), "--if_exists", "resume"])
    a, b = (torch.load(folder / "last.ckpt", weights_only=True) for folder in (whole, parts))
    assert a["global_step"] == b["global_step"] == 22
    assert all(torch.equal(value, b["state_dict"][name]) for name, value in a["state_dict"].items())
