"""W&B sweep files: grids, names of trials, what is refused, and the files in sweeps/."""

import io
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


def test_a_grid_has_every_combination_in_the_files_order(tmp_path: Path) -> None:
    parameters = {
        "model.noise": {"values": [0.5, 1]},
        "fixed": {"value": {"deep": None}, "distribution": "constant"},
        "model.bits": {"values": [8, 4], "distribution": "categorical"},
    }
    path = write(tmp_path, parameters=parameters)
    assert names(path) == ["noise_0.5-bits_8", "noise_0.5-bits_4", "noise_1-bits_8", "noise_1-bits_4"]
    trials = make_trials(read_sweep(path), Path("out"), [], [])
    assert trials[1].parameters == {"model.noise": 0.5, "fixed": {"deep": None}, "model.bits": 4}
    assert trials[1].commands[0] == (
        *("/usr/bin/env", "python", "train.py", "fit"),
        *("--model.noise=0.5", "--fixed={'deep': None}", "--model.bits=4"),
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
        ({"parameters": {"model": {"parameters": {"b": {"values": 3}}}}}, "values of model.b are 3"),
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


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_command_line_accepts_every_trial_of_the_sweeps_here(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    trials = make_trials(read_sweep(path), tmp_path, [], [])
    for trial in (trials[0], trials[-1]):
        trial.claim()
        command = trial.commands[0]
        with pytest.raises(SystemExit) as exit_:
            main([*command[command.index("fit") :], "--print_config"])
        printed = capsys.readouterr()
        assert not exit_.value.code, printed.err
        config = yaml.safe_load(printed.out)
        assert config["run_dir"] == str(trial.folder)
        for name, value in trial.parameters.items():
            inner: Any = config
            for part in name.split("."):
                inner = inner.get("init_args", inner)[part]
            assert inner == value, name


def test_the_grids_of_the_sweeps_here() -> None:
    """Against the papers: six rates of TACO (Figs. 5-7); b of Table 1; the rates and noise sizes of appendix B.4."""
    grids = {path.stem: read_sweep(path).parameters for path in FILES}
    assert grids["taco"] == {("model.lmbda",): [4e-4, 8e-4, 16e-4, 40e-4, 90e-4, 150e-4]}
    bits, conditional = ("model.codec.bits",), ("model.codec.conditional",)
    assert grids["digits_rate"] == {bits: [1, 4, 8, 12, 16], conditional: [True]}
    assert grids["digits_rate_baseline"] == {bits: [4, 8, 12, 16, 20], conditional: [False]}
    assert grids["digits_randomness"][bits] == [4, 32]
    assert grids["digits_randomness"][conditional] == [False]
