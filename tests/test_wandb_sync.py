"""What `wandb sync` sends of a run that has been offline, also after its folder was moved to another place."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import wandb

from lightning_modules import wandb_environment
from lightning_modules.wandb_environment import settle_wandb
from tests import wandb_server
from tests.test_run_callbacks import given
from tests.test_wandb_logging import run_settled

RECORDED = [given(f"callbacks.{name}") for name in ("Psnr", "Bpp", "ResultRecord")]


@contextmanager
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[wandb_server.WandbServer, dict[str, bytes]]]:
    """A server, and the files that it has been sent by the name that they have in their run."""
    files: dict[str, bytes] = {}

    def put(handler: Any) -> None:
        files[handler.path.split("/", 3)[3]] = handler._body()
        handler._reply({})

    monkeypatch.setattr(wandb_server._Handler, "do_PUT", put)
    with wandb_server.serve({}) as running:
        yield running, files


def synchronise(run: Path, server: wandb_server.WandbServer) -> None:
    command = [sys.executable, "-m", "wandb", "sync", "--project", "tests", str(run)]
    environment = {**os.environ, **server.environment}
    subprocess.run(command, cwd=run.parent, env=environment, check=True, capture_output=True, timeout=120)


def test_records_are_sent_from_another_place_and_as_they_were_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_JOB_TYPE", "WANDB_MODE", "WANDB_SWEEP_ID", "WANDB_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    record = tmp_path / "run" / "results" / "tiny.json"
    run_settled("test", tmp_path / "run", RECORDED)
    wandb.teardown()
    measured = record.read_bytes()
    record.write_text("{}")  # a later test replaces it
    staged = list((tmp_path / "run" / "wandb" / "artifacts" / "staging").rglob("*"))
    assert staged and not (tmp_path / "home" / ".local" / "share" / "wandb").exists()

    shutil.copytree(tmp_path / "run", tmp_path / "elsewhere", symlinks=True)
    shutil.rmtree(tmp_path / "run")
    (run,) = (tmp_path / "elsewhere" / "wandb").glob("offline-run-*")
    with server(monkeypatch) as (running, files):
        synchronise(run, running)
        assert files["results/tiny.json"] == measured
        (told,) = running.runs.values()
        assert told.summary["rd_points"]["nrows"] == 1 and told.exit_codes == [0]
    table = json.loads(files[told.summary["rd_points"]["path"]])
    assert table["columns"][:2] == ["curve", "codec"], "the table is among the run's files, too"


@pytest.mark.parametrize("chosen", [None, "/scratch/wandb"])
def test_staged_files_lie_below_the_run_unless_the_user_says_where(
    chosen: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_environment, "_own_data_dir", None)
    monkeypatch.setenv("WANDB_DATA_DIR", "x")  # so that it is put back
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_SWEEP_ID", raising=False)
    if chosen is None:
        monkeypatch.delenv("WANDB_DATA_DIR")
    else:
        monkeypatch.setenv("WANDB_DATA_DIR", chosen)
    for run in ("one", "two"):  # one process may run several
        settle_wandb("fit", {"logger": given("WandbLogger", offline=True, save_dir=str(tmp_path / run))})
        assert os.environ["WANDB_DATA_DIR"] == (chosen or str(tmp_path / run / "wandb"))


def test_online_runs_stage_where_they_always_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_DATA_DIR", raising=False)
    monkeypatch.setenv("WANDB_MODE", "online")
    settle_wandb("fit", {"logger": given("WandbLogger", offline=True, save_dir=str(tmp_path))})
    assert "WANDB_DATA_DIR" not in os.environ
