"""Real data where it is, a small trained codec, and the command line as tests use it."""

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from filelock import FileLock
from lightning.pytorch.strategies import DDPStrategy

from datamodules import SampleDataModule
from lightning_modules.codecs.clip import ClipPart
from lightning_modules.losses.joint_image_text import JointLossPart
from lightning_modules.losses.perceptual import LpipsPart
from lightning_modules.taco import TacoModule

ROOT = Path(__file__).resolve().parent.parent

SMALL: dict[str, Any] = {"N": 64, "M": 96, "slices": [8, 8, 16, 16, 48], "context_hidden": (64, 48)}

OFFLINE = [
    *("-c", "configs/model/small.yaml", "-c", "configs/model/offline.yaml", "-c", "configs/data/sample.yaml"),
    *("-c", "configs/trainer/cpu.yaml", "-c", "configs/logger/csv.yaml"),
]
"""Overlays that make configs/taco.yaml run without network and data."""

# Processes of `two_processes` and of tests/ranks.py are forks of one that has imported this, which takes seconds.
multiprocessing.set_forkserver_preload([__name__, "tests.stream_program"])

QUICK = [*("--data.crop_size", "64", "--data.num_workers", "0", "--trainer.log_every_n_steps", "1")]


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data and weights."""
    if "DATA_ROOT" not in os.environ:
        pytest.skip("DATA_ROOT is not set: real photographs and weights are not here")
    return Path(os.environ["DATA_ROOT"])


@pytest.fixture(scope="session")
def alexnet(data_root: Path) -> str:
    """Real AlexNet features."""
    return str(data_root / "weights" / "alexnet_features_torchvision.pth")


def small_taco(**overrides: Any) -> TacoModule:
    """A small TACO with random CLIP and without LPIPS, always with the same initial weights."""
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        **SMALL,
        "lmbda": 0.01,
        "k_p": 0.0,
        "k_j": 0.0,
        "clip": ClipPart(pretrained=False, architecture="tiny"),
        "lpips": LpipsPart(pretrained=False),
        "joint": JointLossPart(),
        **overrides,
    }
    return TacoModule(**settings)


def quiet_trainer(root: Path, **overrides: Any) -> L.Trainer:
    """A CPU trainer that writes nothing of its own."""
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "gradient_clip_val": 1.0,
        "default_root_dir": root,
        **overrides,
    }
    return L.Trainer(**settings)


class LossRecorder(L.Callback):
    """Keeps the rate-distortion loss of every step."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        self.losses.append(float(trainer.callback_metrics["train/loss"]))


def two_processes() -> DDPStrategy:
    """DDP over gloo in two processes that start at once, for a trainer with `devices=2`."""
    return DDPStrategy(process_group_backend="gloo", start_method="forkserver")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> tuple[TacoModule, list[float], Path]:
    """The small TACO after 300 steps on the embedded photographs, its losses, and its checkpoint.

    Whichever of several pytest processes needs it first trains it for all.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "trained"
    checkpoint, losses = folder / "last.ckpt", folder / "losses.json"
    module = small_taco(learning_rate=1e-3)
    with FileLock(f"{folder}.lock"):
        if not losses.exists():
            recorder = LossRecorder()
            data = SampleDataModule(crops_per_image=1000, batch_size=2, crop_size=64, num_workers=0)
            trainer = quiet_trainer(folder, max_steps=300, limit_val_batches=0, callbacks=[recorder])
            trainer.fit(small_taco(learning_rate=1e-3), datamodule=data)
            trainer.save_checkpoint(checkpoint, weights_only=False)
            losses.write_text(json.dumps(recorder.losses))
    module.load_state_dict(torch.load(checkpoint, weights_only=True)["state_dict"])
    return module.eval(), json.loads(losses.read_text()), checkpoint


def run_cli(*args: str, cwd: Path = ROOT, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the real command line in a process of its own."""
    result = subprocess.run(
        [sys.executable, "-m", "lightning_modules.cli", *args],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=500,
    )
    if check:
        assert result.returncode == 0, result.stdout + result.stderr
    return result


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Longest files first, so that parallel workers end together."""
    longest = ["test_readme.py", "test_kodak_coding.py", "test_training.py", "test_cli.py"]
    items.sort(key=lambda item: longest.index(item.path.name) if item.path.name in longest else len(longest))
