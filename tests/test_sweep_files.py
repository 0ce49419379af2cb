"""W&B sweep files: grids, names of trials, what is refused, and the files in sweeps/."""

import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from lightning_modules.cli import main
from lightning_modules.sweeps.errors import SweepError
from lightning_modules.sweeps.progress import Progress, Row, last_line
from lightning_modules.sweeps.sweep_file import read_sweep
from lightning_modules.sweeps.trials import make_trials
from tests.conftest import ROOT

GRID: dict[str, Any] = {
    "program": "train.py",
    "method": "grid",
    "command": ["${env}", "python", "${program}", "fit", "${args}"],
    "parameters": {"a": {"values": [1, 2]}},
}
FILES = sorted((ROOT / "sweeps").glob("*.yaml"))


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in {**GRID, **changes}.items() if v is not ...}, sort_keys=False))
    return path


def names(path: Path) -> list[str]:
    return [trial.name for trial in make_trials(read_sweep(path), Path("out"), [], [])]


def test_a_grid_has_every_combination_in_the_order_of_the_server(tmp_path: Path) -> None:
    parameters = {
        "model.noise": {"values": [0.5, 1]},
        "fixed": {"value": {"deep": None}, "distribution": "constant"},
        "model.bits": {"values": [8, 4], "distribution": "categorical"},
    }
    path = write(tmp_path, parameters=parameters)
    assert names(path) == ["noise_0.5-bits_8", "noise_1-bits_8", "noise_0.5-bits_4", "noise_1-bits_4"]
    trials = make_trials(read_sweep(path), Path("out"), [], [])
    assert trials[2].parameters == {"model.noise": 0.5, "fixed": {"deep": None}, "model.bits": 4}
    assert trials[2].commands[0] == (
        *("/usr/bin/env", "python", "train.py", "fit"),
        *("--fixed={'deep': None}", "--model.bits=4", "--model.noise=0.5"),
        *("--run_dir", "out/noise_0.5-bits_4", "--if_exists", "resume"),
    )
    assert names(write(tmp_path, parameters=parameters, run_cap=3)) == names(path)[:3]


def test_nested_parameters_are_handed_on_nested(tmp_path: Path) -> None:
    nested = {"model": {"parameters": {"bits": {"values": [1, 2]}, "side": {"value": "label"}}}}
    trials = make_trials(read_sweep(write(tmp_path, parameters=nested)), Path("out"), [], [])
    assert [trial.name for trial in trials] == ["bits_1", "bits_2"]
    assert trials[1].parameters == {"model": {"bits": 2, "side": "label"}}


def test_names_are_as_short_as_they_can_be_told_apart(tmp_path: Path) -> None:
    two = {"values": [True, "x/y z"]}
    assert names(write(tmp_path, parameters={"model.init_args.width": two}))[1] == "width_x_y_z"
    parameters = {"model.init_args.a.width": two, "model.b.width": two, "model.depth": {"values": [[8, 16], [4]]}}
    assert names(write(tmp_path, parameters=parameters))[0] == "a_width_true-b_width_true-depth_8_16"
    assert names(write(tmp_path, parameters={"a": {"value": 1}, "b": {"value": 2}})) == ["a_1-b_2"]


def test_the_sweeps_name_is_its_own_or_the_files(tmp_path: Path) -> None:
    assert read_sweep(write(tmp_path)).name == "grid"
    assert read_sweep(write(tmp_path, name="rates")).name == "rates"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"method": "bayes"}, "method is 'bayes'; only grid .*`wandb agent`"),
        ({"method": ...}, "method is None"),
        ({"program": ...}, "lightning_modules/cli.py"),
        ({"parameters": {}}, "name at least one"),
        ({"parameters": {"a": {"min": 0, "max": 1}}}, "parameter a has min: 0, max: 1; a grid takes"),
        ({"parameters": {"a": {"values": [1], "probabilities": [1]}}}, "probabilities"),
        ({"parameters": {"a": {"values": [1], "distribution": "normal"}}}, "distribution: normal"),
        ({"parameters": {"a": 3}}, "`value: ...` or `values"),
        ({"parameters": {"a": {"values": []}}}, "at least one"),
        ({"parameters": {"a": {"values": [1, 2, 1]}}}, "value 1 twice"),
        ({"parameters": {"a": {"values": [True, 1, 1.0]}}}, "value 1.0 twice"),
        ({"parameters": {"model": {"parameters": {"b": {"values": 3}}}}}, "values of model.b are 3"),
        ({"parameters": {"m": {"parameters": {"a": {"value": 3}}}, "m.b": {"value": 3}}}, "write all of m one way"),
        ({"parameters": {"a b": {"value": 3}}}, "'a b' cannot name a parameter"),
        ({"parameters": {"a": {"values": ["x y", "x/y"]}}}, "two trials are named a_x_y"),
        ({"parameters": {"a": {"value": yaml.safe_load("2024-01-01")}}}, "put it in quotes"),
        ({"early_terminate": {"type": "hyperband"}}, "early_terminate stops trials early"),
        ({"parameter": {"a": 1}}, "parameter is not a key"),
        ({"command": ["python", "${program}", "${args}"]}, "word fit once"),
        ({"command": ["fit", "${arguments}"]}, r"\$\{arguments\} .* not known to W&B"),
        ({"command": "python train.py"}, "as a list"),
        ({"run_cap": 0}, "run_cap is 0"),
        ({"name": "../elsewhere"}, "cannot name a folder"),
        ({"metric": {"goal": "maximize"}}, "W&B's schema .*'name' is a required property"),
    ],
)
def test_what_does_not_run_here_is_refused_with_advice(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    path = write(tmp_path, **changes)
    with pytest.raises(SweepError, match=told):
        make_trials(read_sweep(path), Path("out"), [], [])


def test_files_that_are_no_sweeps_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="No such file"):
        read_sweep(tmp_path / "none.yaml")
    for text, told in (("a: [", "is not YAML"), ("- a", "is not a sweep file")):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(SweepError, match=told):
            read_sweep(tmp_path / "bad.yaml")


def test_variables_of_the_environment_are_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATOR", "gpu")
    path = write(tmp_path, command=["fit", "--trainer.accelerator", "${envvar:ACCELERATOR}", "${args_no_equals}"])
    trial = make_trials(read_sweep(path), Path("out"), [], [])[0]
    assert trial.commands[0][:5] == ("fit", "--trainer.accelerator", "gpu", "--a", "1")


def test_a_terminal_shows_what_is_running(tmp_path: Path) -> None:
    log = tmp_path / "trial.log"
    log.write_bytes(b"Epoch 1\nEpoch 2: 10%\r\x1b[2KEpoch 2: 50%\x1b[0m  \n\n")
    assert last_line(log) == "Epoch 2: 50%"
    assert last_line(tmp_path / "none") == ""
    screen = io.StringIO()
    with Progress(Console(file=screen, force_terminal=True, width=100)) as progress:
        progress.show([Row("bits_4", "fit", 83, log)], "1 done, 1 running, 3 to come")
        progress.say("bits_1  done in 4 s")
    shown = screen.getvalue()
    assert all(text in shown for text in ("1 done, 1 running, 3 to come", "bits_4", "1 min 23 s", "Epoch 2: 50%"))
    assert "bits_1  done in 4 s\n" in shown


def printed_config(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> Any:
    """What the command line makes of a trial's training command."""
    with pytest.raises(SystemExit) as exit_:
        main([*command[command.index("fit") :], "--print_config"])
    printed = capsys.readouterr()
    assert not exit_.value.code, printed.err
    return yaml.safe_load(printed.out)


def setting(config: Any, name: str) -> Any:
    for part in name.split("."):
        config = config.get("init_args", config)[part]
    return config


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_command_line_accepts_the_trials_of_the_sweeps_here(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As W&B's agent runs them, with the file's own words alone, and as `sweep` does."""
    monkeypatch.chdir(ROOT)
    trials = make_trials(read_sweep(path), tmp_path, [], [])
    for trial in (trials[0], trials[-1]):
        trial.claim()
        ours = trial.commands[0]
        agents = ours[: len(ours) - len(("--run_dir", "folder", "--if_exists", "resume"))]
        for command, folder in ((agents, Path("runs") / path.stem / trial.name), (ours, trial.folder)):
            config = printed_config(command, capsys)
            assert config["run_dir"] == str(folder), "agents write where `sweep` does by default"
            assert config["trainer"]["logger"]["init_args"]["offline"] is False
            assert {name: setting(config, name) for name in trial.parameters} == trial.parameters


def test_a_config_among_the_flags_changes_neither_point_nor_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    sweep = read_sweep(ROOT / "sweeps" / "taco_lambda.yaml")
    trial = make_trials(sweep, tmp_path, [], ["-c", "configs/demo.yaml", "-c", "configs/trainer/debug.yaml"])[0]
    trial.claim()
    config = printed_config(trial.commands[0], capsys)
    assert (config["run_dir"], config["if_exists"]) == (str(trial.folder), "resume")
    assert config["trainer"]["limit_train_batches"] == 2
    assert config["model"]["init_args"]["lmbda"] == 0.0004, "and not the demo's"


@pytest.mark.parametrize("name", ["taco_lambda_ddp", "taco_lambda_slurm"])
def test_several_gpus_per_trial_keep_the_global_batch(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    job = (ROOT / "sweeps" / "slurm" / "agent_per_trial.sbatch").read_text()
    for variable, option in (("SLURM_NNODES", "nodes"), ("SLURM_NTASKS_PER_NODE", "ntasks-per-node")):
        monkeypatch.setenv(variable, job.split(f"#SBATCH --{option}=")[1].split()[0])
    trial = make_trials(read_sweep(ROOT / "sweeps" / f"{name}.yaml"), tmp_path, [], [])[0]
    trial.claim()
    config = printed_config(trial.commands[0], capsys)
    trainer = config["trainer"]
    processes = int(trainer["devices"]) * trainer["num_nodes"]
    assert processes == 4
    assert processes * setting(config, "data.batch_size") == 4
    assert trainer["strategy"] == "ddp"


def test_null_and_nested_values_reach_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    content = yaml.safe_load((ROOT / "sweeps" / "taco_lambda.yaml").read_text())
    inner = {"slices": {"value": None}, "joint": {"parameters": {"beta": {"values": [3.0, 40.0]}}}}
    content["parameters"] = {
        "model": {"parameters": {"init_args": {"parameters": inner}}},
        "trainer.limit_val_batches": {"values": [None, 0.5]},
        "trainer.callbacks": {"value": [{"class_path": "callbacks.Bpp"}]},
    }
    trials = make_trials(read_sweep(write(tmp_path, **content)), tmp_path, [], [])
    assert len(trials) == 4
    trials[-1].claim()
    config = printed_config(trials[-1].commands[0], capsys)
    assert config["trainer"]["limit_val_batches"] == 0.5
    model = config["model"]["init_args"]
    assert (model["slices"], model["joint"]["beta"], model["lmbda"]) == (None, 40.0, 0.0016)
    assert [callback["class_path"] for callback in config["trainer"]["callbacks"]] == ["callbacks.Bpp"]
    trials[0].claim()
    config = printed_config(trials[0].commands[0], capsys)
    assert (config["trainer"]["limit_val_batches"], config["model"]["init_args"]["joint"]["beta"]) == (None, 3.0)


@pytest.mark.parametrize("path", sorted((ROOT / "sweeps" / "slurm").iterdir()), ids=lambda path: path.stem)
def test_jobs_of_slurm_say_what_they_need(path: Path) -> None:
    result = subprocess.run(["bash", str(path)], capture_output=True, text=True)
    assert result.returncode == 1
    assert "give " in result.stderr


DOCUMENT = (ROOT / "docs" / "sweeps.md").read_text()


@pytest.mark.parametrize("command", re.findall(r"^.*lightning_modules\.cli sweep (.*)$", DOCUMENT, re.MULTILINE))
def test_the_documented_sweeps_are_understood(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4,5,6,7")
    file, *rest = shlex.split(command)
    main(["sweep", file, "--dry_run", "-o", str(tmp_path / "out"), *rest])
    told = capsys.readouterr().out
    assert told.count(" -m lightning_modules.cli fit ") == len(make_trials(read_sweep(ROOT / file), tmp_path, [], []))
    assert ("CUDA_VISIBLE_DEVICES=4,5,6,7 " in told) == ("--gpus_per_trial 4" in command)


def test_the_document_names_every_sweep_and_job() -> None:
    assert set(re.findall(r"`((?:taco|elic|digits|streets)_\w+)`", DOCUMENT)) == {path.stem for path in FILES}
    assert all(f"sweeps/slurm/{path.name}" in DOCUMENT for path in (ROOT / "sweeps" / "slurm").iterdir())


def test_the_offline_job_of_slurm_runs_the_sweep(tmp_path: Path) -> None:
    job = [str(ROOT / "sweeps" / "slurm" / "offline.sbatch"), "sweeps/taco_lambda.yaml", "--dry_run"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", *job, "-o", str(tmp_path / "out")],
        cwd=ROOT,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count(" -m lightning_modules.cli fit ") == 6


def test_the_grids_of_the_sweeps_here() -> None:
    """Against the papers: six rates of TACO (Figs. 5-7); b of Table 1; the rates and noise sizes of appendix B.4."""
    grids = {path.stem: read_sweep(path).parameters for path in FILES}
    for name in ("taco_lambda", "elic_lambda", "taco_lambda_ddp", "taco_lambda_slurm"):
        assert grids[name] == {("model.lmbda",): [4e-4, 8e-4, 16e-4, 40e-4, 90e-4, 150e-4]}, name
    bits, conditional = ("model.codec.bits",), ("model.codec.conditional",)
    assert grids["digits_rate"] == {bits: [1, 4, 8, 12, 16], conditional: [True]}
    assert grids["digits_rate_baseline"] == {bits: [4, 8, 12, 16, 20], conditional: [False]}
    assert grids["digits_randomness"][bits] == [4, 32]
    assert grids["digits_randomness"][conditional] == [False]
