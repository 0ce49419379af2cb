"""W&B's own agent runs a sweep of this repository: every trial two processes, each known to the server once."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.wandb_server import ENTITY, PROJECT, SWEEP, WandbServer, serve

TINY = [
    *("-c", "configs/model/small.yaml", "-c", "configs/model/offline.yaml", "-c", "configs/data/sample.yaml"),
    *("-c", "configs/trainer/ddp.yaml", "--trainer.accelerator", "cpu", "--trainer.devices", "2"),
    *("--trainer.precision", "32-true", "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2"),
    *("--trainer.limit_val_batches", "0", "--trainer.log_every_n_steps", "1", "--data.crop_size", "64"),
    *("--data.num_workers", "0", "--data.batch_size", "1", "--data.crops_per_image", "2"),
    *("--trainer.callbacks", "callbacks.LastCheckpoint"),
]
UNANSWERED = {"OrganizationCoreWeaveOrganizationID", "POST /sdk/otel/v1/metrics"}
"""What of the client's own housekeeping the server leaves out: the client goes on without."""


def tiny_sweep() -> dict[str, Any]:
    """sweeps/taco_lambda.yaml with two of its points, and trials of two steps on two processes."""
    content: dict[str, Any] = yaml.safe_load((ROOT / "sweeps" / "taco_lambda.yaml").read_text())
    command = content["command"]
    where = command.index("--run_dir")
    content["command"] = [*command[:where], *TINY, *command[where:]]
    content["parameters"]["model.lmbda"]["values"] = [0.0004, 0.015]
    return content


def run_agent(server: WandbServer, folder: Path) -> subprocess.CompletedProcess[str]:
    """`wandb agent`, as a job of SLURM starts it for a user who is logged in."""
    (folder / "configs").symlink_to(ROOT / "configs")
    programs = Path(sys.executable).parent
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment = {
        **inherited,
        **server.environment,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "WANDB_ERROR_REPORTING": "false",
    }
    return subprocess.run(
        ["bash", str(ROOT / "sweeps" / "slurm" / "agents.sbatch"), f"{ENTITY}/{PROJECT}/{SWEEP}"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
    )


@pytest.mark.filterwarnings("ignore:Valid config keys have changed")
def test_the_agent_runs_every_trial_on_two_processes_and_logs_it_once(tmp_path: Path) -> None:
    with serve(tiny_sweep()) as server:
        result = run_agent(server, tmp_path)
    told = result.stdout + result.stderr
    assert result.returncode == 0, told
    assert set(server.refused) <= UNANSWERED, told
    assert [run.parameters for run in server.runs.values()] == [{"model.lmbda": 0.0004}, {"model.lmbda": 0.015}], told
    assert told.count("GLOBAL_RANK: 1, MEMBER: 2/2") == 2, told
    for run in server.runs.values():
        assert run.exit_codes == [0], told
        assert run.heard_as_running
        assert {upsert["sweep"] for upsert in run.upserts if upsert["sweep"]} == {SWEEP}
        assert run.parameters is not None
        lmbda = run.parameters["model.lmbda"]
        assert run.config["model.lmbda"] == lmbda
        # Rank 0 alone logs: one row per step.
        steps = [row["trainer/global_step"] for row in run.history if "train/loss" in row]
        assert steps == [0, 1], run.history
        assert run.summary["train/loss"] == run.history[-1]["train/loss"] > 0
        folder = tmp_path / "runs" / "taco_lambda" / f"lmbda_{lmbda}"
        assert (folder / "last.ckpt").is_file()
        kept = yaml.safe_load((folder / "config.yaml").read_text())
        assert kept["model"]["init_args"]["lmbda"] == lmbda
        assert len(list((folder / "wandb").glob("run-*"))) == 1
