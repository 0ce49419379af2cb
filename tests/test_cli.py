"""Trainer subcommands through the real command line."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lightning_modules.cli import main
from tests.conftest import OFFLINE, QUICK, ROOT, run_cli

TINY = [
    *("-c", "configs/taco.yaml", *OFFLINE, *QUICK, "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2"),
    *("--trainer.callbacks", "callbacks.LastCheckpoint", "--data.crops_per_image", "2", "--data.batch_size", "2"),
]


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def message_of(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    with pytest.raises(SystemExit) as exit_:
        main(list(args))
    assert exit_.value.code == 2
    return capsys.readouterr().err


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with every callback of configs/taco.yaml and W&B offline, of two steps."""
    path = tmp_path_factory.mktemp("runs") / "run"
    overlays = [o for o in OFFLINE if "logger" not in o]
    overlays = [o for i, o in enumerate(overlays) if not (o == "-c" and overlays[i + 1 : i + 2] in ([], ["-c"]))]
    args = ["fit", "-c", "configs/taco.yaml", *overlays, *QUICK, "--run_dir", str(path)]
    args += ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--data.batch_size", "2"]
    result = run_cli(*args, WANDB_MODE="offline")
    assert "Traceback" not in result.stderr
    return path


def test_fit_leaves_a_complete_run(run_dir: Path) -> None:
    names = {path.name for path in run_dir.iterdir()}
    assert {"last.ckpt", "best.ckpt", "config.yaml", "wandb"} <= names
    assert list((run_dir / "wandb").glob("offline-run-*"))
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    assert config["run_dir"] == str(run_dir)
    assert config["model"]["init_args"]["N"] == 64
    assert "${" not in (run_dir / "config.yaml").read_text(), "interpolations are resolved"
    torch.load(run_dir / "last.ckpt", weights_only=True)


def test_validate_test_and_predict_from_the_saved_config(run_dir: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run_dir, copy)
    config = ["-c", str(run_dir / "config.yaml"), "--run_dir", str(copy)]
    config += ["-c", "configs/logger/csv.yaml", "--run_dir", str(copy)]
    main(["validate", *config])
    main(["test", *config])
    record = json.loads((copy / "results" / "sample-test.json").read_text())
    assert record["codec"] == "taco"
    assert record["lambda"] == 0.0016
    rows = {row["name"]: row for row in record["images"]}
    assert set(rows) == {"chelsea.png", "coffee.png"}
    for name, row in rows.items():
        file = copy / "bitstreams" / "sample-test" / f"{name}.taco"
        assert row["file_bytes"] == file.stat().st_size
        assert row["bpp"] == pytest.approx(8 * row["file_bytes"] / (row["width"] * row["height"]))
        assert row["encode_ms"] > 0
        assert row["psnr"] > 0
        assert row["lpips"] is None, "no weights here"
    assert "lpips" in record["not_available"]
    assert record["parameters"]["text_encoder"] > 0
    assert (copy / "pictures" / "sample-test" / "chelsea.png").is_file()
    shutil.rmtree(copy / "reconstructions")
    main(["predict", *config])
    assert {p.name for p in (copy / "reconstructions" / "sample-test").iterdir()} == {"chelsea.png", "coffee.png"}


def test_lpips_with_real_weights_is_recorded(run_dir: Path, tmp_path: Path, alexnet: str) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run_dir, copy)
    main(
        [
            *("test", "-c", str(copy / "config.yaml"), "--run_dir", str(copy), "--trainer.logger", "false"),
            *("--trainer.callbacks=callbacks.Lpips", f"--trainer.callbacks.pretrained={alexnet}"),
            "--trainer.callbacks+=callbacks.ResultRecord",
        ]
    )
    record = json.loads((copy / "results" / "sample-test.json").read_text())
    assert 0 < record["mean"]["lpips"] < 2


def test_run_directories_are_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = ["--run_dir", str(tmp_path / "run")]
    main(["fit", *TINY, *target])
    before = (tmp_path / "run" / "last.ckpt").read_bytes()
    assert "--if_exists resume" in message_of(capsys, "fit", *TINY, *target)
    assert (tmp_path / "run" / "last.ckpt").read_bytes() == before
    main(["fit", *TINY, *target, "--if_exists", "resume", "--trainer.max_epochs", "2"])
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["global_step"] == 4
    main(["fit", *TINY, *target, "--if_exists", "overwrite"])
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["global_step"] == 2
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("precious")
    (tmp_path / "mine" / "epoch=3.ckpt").write_text("of another program")
    told = message_of(capsys, "fit", *TINY, "--run_dir", str(tmp_path / "mine"), "--if_exists", "overwrite")
    assert "not a run" in told
    assert (tmp_path / "mine" / "thesis.tex").exists()


@pytest.mark.parametrize("logger", ["csv", "tensorboard"])
def test_other_loggers_write_into_the_run(logger: str, tmp_path: Path) -> None:
    main(["fit", *TINY, "-c", f"configs/logger/{logger}.yaml", "--run_dir", str(tmp_path)])
    written = [p.name for p in (tmp_path / logger).rglob("*")]
    assert "metrics.csv" in written if logger == "csv" else any("tfevents" in name for name in written)
    assert (tmp_path / "config.yaml").is_file()
    if logger == "csv":
        training = (tmp_path / "csv" / "version_0" / "metrics.csv").read_text()
        header = training.splitlines()[0].split(",")
        expected = {"train/loss", "train/bpp_y", "train/bpp_z", "train/aux_loss", "train/grad_norm", "val/loss"}
        assert expected <= set(header)
        main(["validate", *TINY, "-c", f"configs/logger/{logger}.yaml", "--run_dir", str(tmp_path)])
        assert (tmp_path / "csv" / "version_0" / "metrics.csv").read_text() == training, "the next start keeps it"
        assert (tmp_path / "csv" / "version_1" / "metrics.csv").is_file()


def test_user_errors_are_one_line_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = ["--run_dir", str(tmp_path / "run")]
    monitor = ["--trainer.callbacks", "lightning.pytorch.callbacks.LearningRateMonitor", "--trainer.logger", "false"]
    assert "no logger" in message_of(capsys, "fit", *TINY, *monitor, "--run_dir", str(tmp_path / "unlogged"))
    assert "train first" in message_of(capsys, "test", *TINY, *target)
    assert "correct --ckpt_path" in message_of(capsys, "test", *TINY, *target, "--ckpt_path", "none.ckpt")
    told = message_of(capsys, "fit", *TINY, *target, "-c", "configs/data/coco.yaml", "--data.root", str(tmp_path))
    assert str(tmp_path) in told
    told = message_of(capsys, "fit", *TINY, *target, "--model.clip.pretrained", "./no/clip")
    assert "model.init_args.clip.pretrained" in told
    assert "there are fit, " in message_of(capsys, "compres", "a.png", "b.taco")
    assert "lmda" in message_of(capsys, "fit", *TINY, *target, "--model.lmda", "0.1")


def printed(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """What a command prints that ends well by itself."""
    with pytest.raises(SystemExit) as exit_:
        main(list(args))
    assert not exit_.value.code
    return capsys.readouterr().out


def test_help_names_every_command_and_setting(capsys: pytest.CaptureFixture[str]) -> None:
    told = printed(capsys, "--help")
    assert all(name in told for name in ("fit", "validate", "test", "predict", "compress", "decompress"))
    assert "--if_exists" in printed(capsys, "fit", "--help")
    for verb in ("compress", "decompress", "sample"):
        assert "example:" in printed(capsys, verb, "--help")


def test_a_flag_reaches_interpolated_values(capsys: pytest.CaptureFixture[str]) -> None:
    told = printed(capsys, "fit", "-c", "configs/taco.yaml", "--model.lmbda", "0.009", "--print_config")
    config: dict[str, Any] = yaml.safe_load(told)
    assert config["run_dir"] == "runs/taco_0.009"
    assert config["trainer"]["logger"]["init_args"]["save_dir"] == "runs/taco_0.009"
