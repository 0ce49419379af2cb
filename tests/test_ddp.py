"""Two processes over gloo do what one does with the whole batch, whoever has started them."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT

_TRAIN = """
import os, sys, torch
from pathlib import Path
from datamodules import SampleDataModule
from lightning_modules.losses.joint_image_text import JointLossPart
from tests.conftest import quiet_trainer, small_taco

world, output, checkpoint = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)
# The contrastive term is the one that sees other processes' samples: it gets weight here.
module = small_taco(k_j=0.5, joint=JointLossPart(beta=1.0))
module.load_state_dict(torch.load(checkpoint, weights_only=True)["state_dict"], strict=False)
data = SampleDataModule(crops_per_image=8, batch_size=4 // world, crop_size=64, num_workers=0)
trainer = quiet_trainer(
    output, max_steps=10, limit_val_batches=0, devices=world, strategy="ddp" if world > 1 else "auto"
)
trainer.fit(module, datamodule=data)
assert trainer.global_step == 10 and trainer.world_size == world
torch.save(module.codec.state_dict(), output / f"world{world}_rank{trainer.global_rank}.pt")
if world > 1:
    launched_by = type(trainer.strategy.cluster_environment).__name__
    (output / f"launched_by_{trainer.global_rank}").write_text(launched_by)
"""

Command = list[str | Path]


def ended(*processes: subprocess.Popen[str]) -> None:
    """Wait for processes that must succeed."""
    try:
        for process in processes:
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors
            assert "do not match bucket view strides" not in errors
    finally:
        # One that has lost the other would wait for it.
        for process in processes:
            process.kill()


def start(command: Command, **variables: str) -> subprocess.Popen[str]:
    """Start a process without GPUs and without a cluster's variables but the given ones."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "TORCHELASTIC"))}
    environment = {**inherited, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", **variables}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def by_lightning(program: Command) -> None:
    ended(start([sys.executable, *program]))


def by_torchrun(program: Command) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    ended(start([*launcher, *program]))


def by_srun(program: Command) -> None:
    """Two tasks with the variables that `srun --ntasks-per-node 2` sets for them."""
    job = {
        "SLURM_JOB_ID": "4242",
        "SLURM_JOB_NAME": "taco",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_NNODES": "1",
        "SLURM_NODELIST": "127.0.0.1",
        "SLURM_NODEID": "0",
        "SLURM_SRUN_COMM_HOST": "127.0.0.1",
        "MASTER_PORT": free_port(),
    }
    tasks = [{"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)} for rank in range(2)]
    ended(*[start([sys.executable, *program], **job, **task) for task in tasks])


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script that trains."""
    path = tmp_path_factory.mktemp("ddp") / "train.py"
    path.write_text(_TRAIN)
    return path


@pytest.fixture(scope="module")
def one(trained: tuple, program: Path) -> dict[str, torch.Tensor]:
    """The weights after ten steps of one process with the whole batch."""
    ended(start([sys.executable, program, "1", program.parent, trained[2]]))
    weights: dict[str, torch.Tensor] = torch.load(program.parent / "world1_rank0.pt", weights_only=True)
    return weights


@pytest.mark.parametrize(
    ("launch", "environment"),
    [
        pytest.param(by_lightning, "LightningEnvironment", id="lightning"),
        pytest.param(by_torchrun, "TorchElasticEnvironment", id="torchrun"),
        pytest.param(by_srun, "SLURMEnvironment", id="slurm"),
    ],
)
def test_two_ranks_equal_one_process(
    launch: Callable[[Command], None],
    environment: str,
    program: Path,
    one: dict[str, torch.Tensor],
    trained: tuple,
    tmp_path: Path,
) -> None:
    launch([program, "2", tmp_path, trained[2]])
    assert [(tmp_path / f"launched_by_{rank}").read_text() for rank in range(2)] == [environment] * 2
    first, second = (torch.load(tmp_path / f"world2_rank{rank}.pt", weights_only=True) for rank in range(2))
    assert all(torch.equal(value, second[name]) for name, value in first.items()), "the ranks differ"
    difference = torch.cat([(value - first[name]).abs().flatten() for name, value in one.items()])
    # Sums run in another order, and where that flips a rounding or a ReLU, Adam turns a gradient of nearly zero into
    # a step of up to 1e-4: on some machine that may happen to a handful of 3.7 million weights.
    assert float((difference > 1e-5).double().mean()) < 1e-4
    assert float(difference.max()) < 2e-4
