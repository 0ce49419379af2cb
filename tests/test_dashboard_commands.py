"""The commands that repeat a run, with the config that each of its tests really ran with."""

import json
from pathlib import Path

import pytest
import wandb

from lightning_modules.dashboard.content import read_content
from lightning_modules.dashboard.page import commands
from tests.record_helpers import make_record, write
from tests.test_run_callbacks import given
from tests.test_wandb_logging import run_settled

PROGRAM = "python -m lightning_modules.cli"


def test_each_test_with_its_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    plain = [given(f"callbacks.{name}") for name in ("Psnr", "Bpp", "ResultRecord")]
    run_settled("test", Path("run"), plain)
    first = json.loads(Path("run/results/tiny.json").read_text())
    run_settled("test", Path("run"), [*plain, given("callbacks.CodingTime")])
    second = json.loads(Path("run/results/tiny.json").read_text())
    wandb.teardown()
    for name, record in (("a", first), ("b", {**second, "dataset": "zone"})):
        # What the real command line has in its configuration, in addition to this test's.
        record["config"]["run_dir"] = "run"
        write(Path("records") / f"{name}.json", record)
    for file in Path("run").glob("config_test*.yaml"):
        file.write_text(file.read_text() + "run_dir: run\n")
    lines = commands(read_content([Path("records")]))
    assert [line for line in lines if " test -c " in line] == [
        f"{PROGRAM} test -c run/config_test{number}.yaml" for number in (".1", "")
    ]


def test_what_is_not_here_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = {"run_dir": "runs/x", "data": {"root": "$DATA_ROOT/kodak"}}
    write(Path("records") / "kodak.json", {**make_record(), "config": config})
    (tmp_path / "runs" / "x").mkdir(parents=True)
    (tmp_path / "runs" / "x" / "config_test.yaml").write_text("run_dir: runs/x\ndata: {root: $DATA_ROOT/coco}\n")
    lines = commands(read_content([Path("records")]))
    assert f"{PROGRAM} fit -c runs/x/config.yaml" in lines
    assert not [line for line in lines if line.startswith(f"{PROGRAM} test")]
    (said,) = [line for line in lines if line.startswith("# test on kodak")]
    assert "runs/x/config_test*.yaml" in said and "was not where this page was made" in said
