"""Every command of the README runs, in order, in a copy of the repository."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    for line in block.strip().splitlines()
    if line
]

# Appended to the printed command, so that it ends in seconds and needs no network and no GPU.
_SHORT = "-c configs/model/small.yaml --data.year 2017 --data.val_images 4 --data.crop_size 64 --data.num_workers 0"
_STEPS = (
    "--trainer.accelerator cpu --trainer.precision 32-true "
    "--trainer.limit_train_batches 2 --trainer.limit_val_batches 1 "
    "--trainer.callbacks=callbacks.Bpp --trainer.callbacks+=callbacks.Psnr "
    "--trainer.callbacks+=callbacks.ResultRecord "
    "--trainer.callbacks+=callbacks.LastCheckpoint"
)
_DIGITS = (
    "--trainer.accelerator cpu --trainer.max_epochs 2 --model.stage1_epochs 1 --model.codec.width 8 "
    "--trainer.limit_val_batches 0 --trainer.callbacks=callbacks.Bits --trainer.callbacks+=callbacks.Bpp "
    "--trainer.callbacks+=callbacks.Mse --trainer.callbacks+=callbacks.ResultRecord "
    "--trainer.callbacks+=callbacks.LastCheckpoint"
)
_STREETS = (
    "--trainer.accelerator cpu --trainer.max_epochs 2 --model.stage1_epochs 1 --model.codec.N 8 --model.codec.M 12 "
    "--model.critic.width 4 --trainer.limit_val_batches 0 --trainer.limit_train_batches 2 "
    "--trainer.callbacks=callbacks.Bpp --trainer.callbacks+=callbacks.LastCheckpoint"
)
_OFFLINE = "--model.clip.pretrained false --model.clip.architecture tiny --model.k_p 0 --model.k_j 0"


def shortened(command: str) -> str:
    """The command with what a test must add to it."""
    if command == "make demo":
        return command + " DEMO_FLAGS='--trainer.max_epochs 1 --trainer.limit_train_batches 3 --data.crop_size 64'"
    if command == "make test":
        return command + " TEST_FLAGS='tests/test_bitstream.py -k overhead'"
    if " sweep " in command:
        return f"{command} --limit 1 -- {_DIGITS} --data.root null --data.name digits --trainer.logger false"
    if "configs/digits" in command:
        return f"{command} {_DIGITS}"
    if "configs/streets" in command:
        return f"{command} {_STREETS}"
    if " anchors " in command:
        return command + " --codecs jpeg webp --quality 20 --alexnet false --data.test_crop 256"
    offline = "" if "elic" in command else _OFFLINE
    if " fit " in command:
        epochs = 2 if "resume" in command else 1
        devices = 2 if "ddp" in command else 1
        # What the config streams from the hub is read from disk here.
        command += f" -c configs/data/coco.yaml {_SHORT} {_STEPS} {offline}"
        return f"{command} --trainer.max_epochs {epochs} --trainer.devices {devices}"
    if " test " in command:
        small = "-c configs/model/small.yaml --trainer.limit_test_batches 1 --trainer.accelerator cpu"
        small += " --data.test_crop 256"
        # Metrics whose weights are not here stay in, to be recorded as not available.
        return f"{command} {small} {offline if 'eval/' in command else _STEPS + ' ' + offline}"
    return command


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Path:
    """Tracked files, the installed environment, and data where the README says that it lies."""
    folder = tmp_path_factory.mktemp("checkout")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    # Not a link: what make would do to an environment that it finds out of date must not reach this one.
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (folder / ".venv" / "bin" / "python").chmod(0o755)
    (folder / ".venv" / "bin" / "activate").write_text(f'PATH="{folder}/.venv/bin:$PATH"\n')
    (folder / ".venv" / "installed").touch()
    (folder / "data").mkdir()
    (folder / "data" / "coco").symlink_to(data_root / "coco_mini")
    for name in ("kodak", "camvid"):
        (folder / "data" / name).symlink_to(data_root / name)
    return folder


def test_commands_are_found() -> None:
    assert len(COMMANDS) >= 12
    assert {"make demo", "make test"} <= set(COMMANDS)
    assert len(README.splitlines()) < 150


def test_every_command_runs(checkout: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("DATA_ROOT", "PYTHONPATH")}
    for command in COMMANDS:
        result = subprocess.run(
            ["bash", "-c", f"set -e; source .venv/bin/activate; {shortened(command)}"],
            cwd=checkout,
            env={**environment, "WANDB_MODE": "offline", "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert result.returncode == 0, f"{command}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    left = {str(path.relative_to(checkout)) for path in checkout.rglob("*") if path.is_file()}
    assert {
        *("runs/demo/last.ckpt", "runs/demo/results/sample-test.json", "runs/demo/config.yaml"),
        *("runs/demo/pictures/sample-test/chelsea.png", "runs/demo/chelsea.taco", "runs/demo/chelsea.png"),
        *("runs/taco_0.0016/results/kodak.json", "cat.taco", "cat.png"),
        *("runs/anchors/webp/quality_20/results/kodak.json", "runs/report/index.html"),
        *("runs/digits_two_stage/results/digits-test-g2.json", "seven.digits", "seven.png"),
        *("runs/digits_rate/bits_1/done.json", "runs/digits_report/README.md"),
        *("runs/streets_0.00125/last.ckpt", "runs/streets_report/README.md"),
    } <= left
