"""Sweeps of real codecs without a server: interrupted, killed, run again, and the curves of the report."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import yaml

from tests.conftest import ROOT

STEPS = 12

COMMON = [
    *("--trainer.accelerator", "cpu", "--trainer.logger", "false", "--trainer.limit_val_batches", "0"),
    *("--trainer.callbacks=callbacks.Bpp", "--trainer.callbacks+=callbacks.Mse"),
    *("--trainer.callbacks+=callbacks.Psnr", "--trainer.callbacks+=callbacks.ResultRecord"),
    # A trial that is stopped in the middle has a checkpoint there.
    *("--trainer.callbacks+=callbacks.LastCheckpoint", "--trainer.callbacks.every_n_steps", "2"),
]


class Case(NamedTuple):
    """A sweep in miniature."""

    sweep: Callable[[Path], Path]
    """The sweep file; it may be written to a folder."""
    flags: list[str]
    trials: list[str]
    codecs: list[str]
    """The report's curves."""


def digits(folder: Path) -> Path:
    return ROOT / "sweeps" / "digits_rate.yaml"


def taco(folder: Path) -> Path:
    """Three of the six points of sweeps/taco_lambda.yaml."""
    content = yaml.safe_load((ROOT / "sweeps" / "taco_lambda.yaml").read_text())
    content["parameters"]["model.lmbda"]["values"] = [0.0008, 0.004, 0.015]
    path = folder / "three.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


DIGITS = Case(
    digits,
    [
        *("-c", "configs/data/digits.yaml", "--model.codec.width", "8", "--model.stage1_epochs", "1"),
        *("--trainer.max_epochs", "2", "--trainer.limit_train_batches", str(STEPS // 2)),
        *("--model.adversarial.critic_warmup", "2", *COMMON),
    ],
    [f"bits_{bits}" for bits in (1, 4, 8, 12, 16)],
    ["digits (g1)", "digits (g2)"],
)
TACO = Case(
    taco,
    [
        *("-c", "configs/demo.yaml", "-c", "configs/data/coco.yaml", "--data.root", "{data_root}/coco_mini"),
        *("--data.year", "2017", "--data.val_images", "4", "--data.crop_size", "64", "--data.num_workers", "0"),
        *("--data.test_count", "3", "--trainer.max_epochs", "1", "--trainer.limit_train_batches", str(STEPS)),
        *COMMON,
    ],
    [f"lmbda_{lmbda}" for lmbda in (0.0008, 0.004, 0.015)],
    ["TACO"],
)


class Sweep:
    """A sweep as a user runs it, and what is known of its trials."""

    def __init__(self, case: Case, folder: Path, data_root: Path | None) -> None:
        self.case, self.output = case, folder / "out"
        flags = [flag.format(data_root=data_root) for flag in case.flags]
        self.command = [sys.executable, "-m", "lightning_modules.cli", "sweep", str(case.sweep(folder))]
        self.command += ["-o", str(self.output), "--jobs", "2", "--", *flags]
        self.told = folder / "told"

    def start(self) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        with self.told.open("ab") as told:
            self.runner = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env=environment,
                stdout=told,
                stderr=told,
                # Where the tests run in a script's background, the signal is ignored.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        return self.runner

    def ended(self, process: subprocess.Popen[bytes]) -> int:
        return process.wait(timeout=500)

    def stop(self) -> None:
        """End what a failed test has left running, trials included."""
        for _ in range(2):
            if self.runner.poll() is None:
                self.runner.terminate()
                time.sleep(1)

    def done(self) -> list[str]:
        return [trial for trial in self.case.trials if (self.output / trial / "done.json").is_file()]

    def training(self, since: float) -> tuple[str, int] | None:
        """A trial that has saved a checkpoint since then and goes on training, and its process."""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().decode().split("\0")
            except OSError:
                continue
            for trial in self.case.trials:
                folder = self.output / trial
                if "fit" in words and "sweep" not in words and str(folder) in words:
                    checkpoint = folder / "last.ckpt"
                    if checkpoint.is_file() and checkpoint.stat().st_mtime > since:
                        return trial, int(path.parent.name)
        return None

    def wait_for_training(self) -> tuple[str, int]:
        since = time.time()
        while self.runner.poll() is None and time.time() < since + 300:
            if found := self.training(since):
                return found
            time.sleep(0.01)
        raise AssertionError(self.told.read_text())

    def recorded_rates(self) -> list[float]:
        """Rates of all result records, in bits per pixel."""
        records = [json.loads(path.read_text()) for path in self.output.glob("*/results/*.json")]
        return sorted(record["mean"]["bpp"] for record in records)

    def reported_rates(self) -> dict[str, list[float]]:
        """Rates of every curve in the report's table of points, in bits per pixel."""
        (table,) = (self.output / "report" / "tables").glob("points_*.csv")
        lines = [line for line in table.read_text().splitlines() if not line.startswith("#")]
        rates: dict[str, list[float]] = {}
        for row in csv.DictReader(lines):
            rates.setdefault(row["Codec"], []).append(float(row["Rate [bit/pixel] ↓"]))
        return rates


@pytest.mark.slow  # five to seven minutes each; tests/test_sweep.py does the same with quick trials
@pytest.mark.parametrize("case", [pytest.param(DIGITS, id="digits"), pytest.param(TACO, id="taco")])
def test_an_interrupted_and_killed_sweep_ends_with_every_trial_once(
    case: Case, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    data_root = request.getfixturevalue("data_root") if case is TACO else None
    sweep = Sweep(case, tmp_path, data_root)
    request.addfinalizer(sweep.stop)
    runner = sweep.start()
    sweep.wait_for_training()
    runner.send_signal(signal.SIGINT)
    assert sweep.ended(runner) == 130, sweep.told.read_text()
    assert not (sweep.output / "report").exists()

    runner = sweep.start()
    killed, process = sweep.wait_for_training()
    os.kill(process, signal.SIGKILL)
    assert sweep.ended(runner) == 1, sweep.told.read_text()
    assert sweep.done() == [trial for trial in case.trials if trial != killed], "one failure stops no other"
    assert f"{killed}  failed: fit was killed by SIGKILL" in sweep.told.read_text()

    runner = sweep.start()
    assert sweep.ended(runner) == 0, sweep.told.read_text()
    assert sweep.done() == case.trials
    for trial in case.trials:
        log = (sweep.output / trial / "trial.log").read_text()
        assert log.count(" test -c ") == 1, "tested once"
        checkpoint = torch.load(sweep.output / trial / "last.ckpt", weights_only=False)
        assert checkpoint["global_step"] == STEPS, "no step is lost, none is done twice"
    rates = sweep.reported_rates()
    assert sorted(rates) == case.codecs
    assert {len(curve) for curve in rates.values()} == {len(case.trials)}, "every curve has every point"
    assert sorted(rate for curve in rates.values() for rate in curve) == pytest.approx(sweep.recorded_rates())
    assert (sweep.output / "report" / "index.html").is_file()
