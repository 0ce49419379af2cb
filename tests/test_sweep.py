"""The verb `sweep`: trials run at a time, stopped, killed, failed, and continued."""

import contextlib
import json
import os
import signal
import subprocess
import time
from multiprocessing import get_context
from multiprocessing.context import ForkProcess as Process
from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_modules import cli
from lightning_modules.commands.errors import CommandError
from lightning_modules.commands.sweep import main
from tests.conftest import OFFLINE, QUICK, ROOT

PROGRAM = str(ROOT / "tests" / "sweep_program.py")
COMMAND = ["${env}", "${interpreter}", "${program}", "fit", "-c", "${args_json_file}"]


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the root, without GPUs and variables that trials would inherit."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for name in ("OMP_NUM_THREADS", "WANDB_RUN_GROUP", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)


class Sweep:
    """A sweep file over the little program, and its output folder."""

    def __init__(self, folder: Path) -> None:
        self.file, self.output, self.told = folder / "little.yaml", folder / "out", folder / "told"

    def write(self, command: list[str] = COMMAND, **parameters: Any) -> None:
        specs = {name: {"values" if isinstance(v, list) else "value": v} for name, v in parameters.items()}
        content = {"program": PROGRAM, "method": "grid", "command": command, "parameters": specs}
        self.file.write_text(yaml.safe_dump(content, sort_keys=False))

    def args(self, *flags: str) -> list[str]:
        return [str(self.file), "-o", str(self.output), *flags]

    def run(self, *flags: str, code: int = 0) -> None:
        """Run the verb; it must end with this exit code."""
        if code == 0:
            main(self.args(*flags))
            return
        with pytest.raises(SystemExit) as exit_:
            main(self.args(*flags))
        assert exit_.value.code == code

    def calls(self, trial: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.output / trial / "calls.jsonl").read_text().splitlines()]

    def events(self, trial: str) -> list[str]:
        return [line.split()[0] for line in (self.output / trial / "events").read_text().splitlines()]

    def times(self, trial: str) -> tuple[float, float]:
        times = [float(line.split()[1]) for line in (self.output / trial / "events").read_text().splitlines()]
        return times[0], times[-1]

    def in_background(self, *flags: str, ignore_sigint: bool = False, told: str = "told") -> Process:
        """The verb in a process of its own, as from a terminal, or as from a script's background.

        What it prints is in the file `told`, beside the sweep file.
        """
        path = self.file.parent / told

        def run() -> None:
            signal.signal(signal.SIGINT, signal.SIG_IGN if ignore_sigint else signal.default_int_handler)
            with path.open("w") as file, contextlib.redirect_stdout(file):
                main(self.args(*flags))

        # A fork has imported all that the command line would take seconds to.
        process = get_context("fork").Process(target=run)
        process.start()
        return process

    def wait_for(self, event: str, *trials: str) -> None:
        deadline = time.monotonic() + 60
        while not all((self.output / t / "events").exists() and event in self.events(t) for t in trials):
            assert time.monotonic() < deadline, f"no {event}"
            time.sleep(0.02)


def send(process: Process, number: signal.Signals) -> None:
    assert process.pid is not None
    os.kill(process.pid, number)


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return Sweep(tmp_path)


def test_every_point_is_trained_and_tested_once(sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    values: dict[str, Any] = {
        "model.codec.init_args.bits": [4, 8],
        "model.side": ["none", None],
        "nested": {"a": [1]},
    }
    sweep.write(**values, rate=1e-05, on=True)
    one, two = (str(sweep.file.with_name(name)) for name in ("one.yaml", "two.yaml"))
    for config in (one, two):
        Path(config).write_text("{}")
    sweep.run("--test_config", one, "--test_config", two, "--", "--trainer.max_epochs", "2")
    names = [f"bits_{bits}-side_{side}" for bits in (4, 8) for side in ("none", "null")]
    assert sorted(p.name for p in sweep.output.iterdir()) == sorted(names)
    last = sweep.calls("bits_8-side_null")
    folder = str(sweep.output / "bits_8-side_null")
    point = ["-c", f"{folder}/parameters.json", "--run_dir", folder]
    assert [call["argv"] for call in last] == [
        ["fit", "--trainer.max_epochs", "2", *point, "--if_exists", "resume"],
        ["test", "-c", one, "--trainer.max_epochs", "2", *point],
        ["test", "-c", two, "--trainer.max_epochs", "2", *point],
    ]
    expected = {"model.codec.init_args.bits": 8, "model.side": None, "nested": {"a": [1]}, "rate": 1e-05, "on": True}
    assert last[0]["parameters"] == expected
    done = json.loads((sweep.output / "bits_8-side_null" / "done.json").read_text())
    assert done["parameters"] == expected
    assert "4 of 4 trials are done" in capsys.readouterr().out
    sweep.run("--test_config", one, "--test_config", two, "--", "--trainer.max_epochs", "2")
    assert all(len(sweep.calls(name)) == 3 for name in names), "what is done is not done again"


def test_jobs_bound_the_trials_at_a_time_and_share_the_gpus(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5a,7")
    sweep.write(point=list(range(6)), steps=4, pause=0.05)
    sweep.run("--jobs", "3", "--gpus", "3,GPU-5a")
    spans = [sweep.times(f"point_{i}") for i in range(6)]
    at_once = [sum(start <= moment < end for start, end in spans) for moment, _ in spans]
    assert max(at_once) == 3
    environments = [sweep.calls(f"point_{i}")[0]["environment"] for i in range(3)]
    assert [environment["CUDA_VISIBLE_DEVICES"] for environment in environments] == ["3", "GPU-5a", "3"]
    cores = len(os.sched_getaffinity(0))
    assert environments[0]["OMP_NUM_THREADS"] == str(max(1, cores // 3))
    assert environments[0]["WANDB_RUN_GROUP"] == "little"
    assert environments[0]["WANDB_MODE"] == "offline"
    with pytest.raises(CommandError, match="8 is not among the visible GPUs"):
        main(sweep.args("--gpus", "3,8"))
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    sweep.write(point=[6])
    sweep.run()
    assert sweep.calls("point_6")[0]["environment"]["OMP_NUM_THREADS"] == "5", "the user's own"
    assert sweep.calls("point_6")[0]["environment"]["CUDA_VISIBLE_DEVICES"] == "3"


def test_a_trial_may_have_several_gpus(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4")
    monkeypatch.setenv("WANDB_MODE", "online")
    sweep.write(point=[0, 1, 2], steps=4, pause=0.05)
    sweep.run("--gpus_per_trial", "2")
    spans = [sweep.times(f"point_{i}") for i in range(3)]
    assert max(sum(start <= moment < end for start, end in spans) for moment, _ in spans) == 2
    environments = [sweep.calls(f"point_{i}")[0]["environment"] for i in range(2)]
    assert [environment["CUDA_VISIBLE_DEVICES"] for environment in environments] == ["0,1", "2,3"]
    assert environments[0]["WANDB_MODE"] == "online", "the user's own"
    with pytest.raises(CommandError, match="--gpus_per_trial 2: there are 1 GPUs to use"):
        main(sweep.args("--gpus_per_trial", "2", "--gpus", "3"))


def test_runs_of_agents_are_adopted_if_they_are_the_trials(sweep: Sweep) -> None:
    nested = {"model": {"class_path": "Model", "init_args": {"bits": 8, "codec": {"init_args": {"width": None}}}}}
    sweep.write(**{"model.bits": [4, 8], "model.codec.width": None, "steps": 3})
    folder = sweep.output / "bits_8"
    folder.mkdir(parents=True)
    (folder / "last.ckpt").write_text("2")
    with pytest.raises(CommandError, match=r"bits_8 holds another run.* continue with --adopt"):
        main(sweep.args())
    with pytest.raises(CommandError, match=r"config.yaml: cannot be read .*, so it is not adopted"):
        main(sweep.args("--adopt"))
    (folder / "config.yaml").write_text(yaml.safe_dump({**nested, "steps": 4}))
    with pytest.raises(CommandError, match=r"its config.yaml has steps 4, and bits_8 has 3"):
        main(sweep.args("--adopt"))
    (folder / "config.yaml").write_text(yaml.safe_dump({**nested, "steps": 3}))
    sweep.run("--adopt")
    assert sweep.events("bits_8") == ["begin", "step-3", "end", "test"], "it continues where the agent left it"
    assert sweep.events("bits_4") == ["begin", "step-1", "step-2", "step-3", "end", "test"]


def test_a_failed_trial_does_not_stop_the_others(sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    sweep.write(fault=["code", "killed", "none"], steps=4)
    sweep.run(code=1)
    told = capsys.readouterr().out
    assert "1 of 3 trials are done" in told
    listed = told.split("trials are done")[1]
    assert "fault_code  failed: fit ended with code 3" in listed
    assert "LossError: step 2 is not finite\n" in listed, "the last line that tells something, without colours"
    assert "fault_killed  failed: fit was killed by SIGKILL" in listed
    assert str(sweep.output / "fault_code" / "trial.log") in listed
    assert sweep.events("fault_none")[-1] == "test"
    child = Path("/proc") / (sweep.output / "fault_killed" / "child").read_text() / "stat"
    assert not child.exists() or child.read_text().split()[2] == "Z", "what the killed trial started is gone too"
    (sweep.output / "repaired").touch()
    sweep.run()
    for trial in ("fault_code", "fault_killed"):
        assert sweep.events(trial) == ["begin", "step-1", "step-2", "begin", "step-3", "step-4", "end", "test"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_continues(sweep: Sweep, number: signal.Signals) -> None:
    sweep.write(point=[0, 1, 2], steps=40, pause=0.05)
    # SIGTERM as to a script's background job, which ignores Ctrl-C: its trials must hear it all the same.
    process = sweep.in_background("--jobs", "2", ignore_sigint=number == signal.SIGTERM)
    sweep.wait_for("step-2", "point_0", "point_1")
    if number == signal.SIGTERM:
        send(process, signal.SIGINT)
        time.sleep(0.3)
        assert process.is_alive()
    send(process, number)
    process.join(30)
    assert process.exitcode == 130
    assert "the same command continues" in sweep.told.read_text()
    assert not (sweep.output / "point_2").exists(), "nothing is started any more"
    assert not {"end", "test"} & {*sweep.events("point_0"), *sweep.events("point_1")}
    # Shorter pauses would be other parameters: the trials would be refused.
    sweep.run("--jobs", "3")
    for i in range(3):
        steps = [event for event in sweep.events(f"point_{i}") if event not in ("begin", "end", "test")]
        assert steps == [f"step-{step}" for step in range(1, 41)], "no step is lost, none is done twice"
        assert sweep.events(f"point_{i}").count("test") == 1
        assert (sweep.output / f"point_{i}" / "done.json").exists()


def test_a_second_signal_kills(sweep: Sweep) -> None:
    sweep.write(fault="deaf", steps=2000, pause=0.05)
    process = sweep.in_background()
    sweep.wait_for("step-1", "fault_deaf-steps_2000-pause_0.05")
    send(process, signal.SIGINT)
    time.sleep(0.5)
    assert process.is_alive(), "the trial is waited for"
    send(process, signal.SIGINT)
    process.join(30)
    assert process.exitcode == 130


def test_trials_of_other_parameters_or_flags_are_refused(sweep: Sweep) -> None:
    sweep.write(bits=[4, 8], width=32)
    sweep.run("--limit", "1")
    assert not (sweep.output / "bits_8").exists()
    with pytest.raises(
        CommandError, match=r"bits_4 was done with flags none and is now to have --trainer.max_epochs 2"
    ):
        main(sweep.args("--", "--trainer.max_epochs", "2"))
    sweep.write(bits=[4, 8], width=64)
    with pytest.raises(CommandError, match=r"bits_4 was begun with width 32 and is now to have 64: delete .*bits_4 "):
        main(sweep.args())
    sweep.write(bits=[4, 8], width=32, depth=3)
    with pytest.raises(CommandError, match="depth not set and is now to have 3"):
        main(sweep.args())
    sweep.write(bits=[4, 8, 12], width=32)
    sweep.run()
    assert len(sweep.calls("bits_4")) == 2, "a further point disturbs none that is there"


def test_an_unfinished_trial_may_continue_with_other_flags(sweep: Sweep) -> None:
    sweep.write(fault=["code", "none"], steps=3)
    sweep.run("--limit", "1", code=1)
    (sweep.output / "repaired").touch()
    sweep.run("--limit", "1", "--", "--data.batch_size", "8")
    done = json.loads((sweep.output / "fault_code" / "done.json").read_text())
    assert done["recipe"]["flags"] == ["--data.batch_size", "8"]


def test_a_folder_with_another_run_is_refused(sweep: Sweep) -> None:
    sweep.write(bits=[4, 8])
    (sweep.output / "bits_8").mkdir(parents=True)
    (sweep.output / "bits_8" / "last.ckpt").write_text("7")
    with pytest.raises(CommandError, match="bits_8 holds another run"):
        main(sweep.args())
    assert not (sweep.output / "bits_4").exists(), "found before anything starts"


def test_a_dry_run_prints_commands_that_a_shell_understands(sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    sweep.write(command=["${interpreter}", "${program}", "fit", "-c", "${args_json_file}", "${args}"], words=["a b"])
    sweep.run("--dry_run", "--jobs", "2")
    lines = capsys.readouterr().out.splitlines()
    assert not sweep.output.exists()
    assert lines[0] == f'# {sweep.output}/words_a_b/parameters.json: {{"words": "a b"}}'
    folder = sweep.output / "words_a_b"
    folder.mkdir(parents=True)
    (folder / "parameters.json").write_text('{"words": "a b"}')
    for line in lines[1:]:
        subprocess.run(line, shell=True, check=True)
    fit, test = sweep.calls("words_a_b")
    assert fit["argv"][3:] == ["--words=a b", "--run_dir", str(folder), "--if_exists", "resume"]
    assert test["argv"][0] == "test"
    assert fit["environment"]["WANDB_RUN_GROUP"] == "little"


def test_a_program_that_is_not_there_fails_its_trials(sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    sweep.write(command=["no-such-program", "fit"], point=[0, 1])
    sweep.run(code=1)
    assert "point_1  could not be started: " in capsys.readouterr().out


def test_a_real_trial(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    overlays = ["-c", "configs/taco.yaml", *OFFLINE]
    content = {
        "program": "lightning_modules/cli.py",
        "method": "grid",
        "command": ["${interpreter}", "-m", "lightning_modules.cli", "fit", *overlays, "-c", "${args_json_file}"],
        "parameters": {"model.lmbda": {"values": [0.004]}, "trainer.limit_val_batches": {"value": 0}},
    }
    (tmp_path / "real.yaml").write_text(yaml.safe_dump(content))
    flags = [*QUICK, "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--data.batch_size", "2"]
    flags += ["--data.crops_per_image", "2", "--trainer.callbacks", "callbacks.LastCheckpoint"]
    flags += ["--trainer.limit_test_batches", "1"]
    flags += [f"--trainer.callbacks+=callbacks.{name}" for name in ("Bpp", "Psnr", "ResultRecord")]
    output = str(tmp_path / "out")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    cli.main(["sweep", str(tmp_path / "real.yaml"), "-o", output, "--report", "none", "--", *flags])
    assert "1 of 1 trials are done" in capsys.readouterr().out
    assert not (tmp_path / "out" / "report").exists()
    report = str(tmp_path / "elsewhere")
    cli.main(["sweep", str(tmp_path / "real.yaml"), "-o", output, "--report", report, "--", *flags])
    folder = tmp_path / "out" / "lmbda_0.004-limit_val_batches_0"
    record = json.loads((folder / "results" / "sample-test.json").read_text())
    assert record["lambda"] == 0.004
    assert "sample-test" in (tmp_path / "elsewhere" / "index.html").read_text()
    assert record["mean"]["psnr"] > 0
    assert (folder / "done.json").exists()
