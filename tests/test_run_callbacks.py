"""Callbacks around a run: bad losses, throughput, the saved configuration, loggers."""

import csv
import json
import math
import time
from pathlib import Path

import lightning as L
import pytest
import torch
import yaml
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

import callbacks as cb
import callbacks.save_config
from tests.callback_helpers import TinyCodec, TinyImages, loader, record, trainer


class TinyData(L.LightningDataModule):
    def __init__(self, count: int = 4) -> None:
        super().__init__()
        self.count = count

    def train_dataloader(self) -> DataLoader:
        return loader(self.count)

    def val_dataloader(self) -> DataLoader:
        return loader(2)

    def test_dataloader(self) -> DataLoader:
        return loader(2)


class TestStopOnNonFiniteLoss:
    def test_saves_the_batch_and_stops_before_the_step(self, tmp_path):
        codec = TinyCodec(nan_at_step=2)
        fitter = trainer(tmp_path, cb.StopOnNonFiniteLoss())
        with pytest.raises(cb.NonFiniteLossError, match=r"loss is nan at step 2 .*im4\.jpg") as caught:
            fitter.fit(codec, loader(4))
        assert codec.gain.isfinite()
        path = tmp_path / "nonfinite_batch_step2_rank0.pt"
        assert str(path) in str(caught.value)
        saved = torch.load(path, weights_only=True)
        assert saved["step"] == 2 and math.isnan(saved["loss"])
        assert saved["batch"]["name"] == ["im4.jpg"] and saved["batch"]["caption"] == ["ramp 2"]
        assert torch.equal(saved["batch"]["image"][0], TinyImages(4)[2]["image"])

    def test_lets_finite_losses_pass(self, tmp_path):
        fitter = trainer(tmp_path, cb.StopOnNonFiniteLoss(), max_steps=3)
        fitter.fit(TinyCodec(), loader(4))
        assert fitter.global_step == 3 and not list(tmp_path.glob("*.pt"))


class TestThroughput:
    def test_counts_images_and_leaves_validation_out(self, tmp_path):
        class Paced(TinyCodec):
            def training_step(self, batch, batch_idx):
                time.sleep(0.02)
                return super().training_step(batch, batch_idx)

            def validation_step(self, batch, batch_idx):
                time.sleep(1)
                return super().validation_step(batch, batch_idx)

        logger = CSVLogger(tmp_path)
        fitter = trainer(
            tmp_path, cb.Throughput(), logger=logger, log_every_n_steps=4, max_steps=4, val_check_interval=2
        )
        fitter.fit(Paced(), loader(16, batch_size=2), loader(1))
        with (Path(logger.log_dir) / "metrics.csv").open() as file:
            rates = [float(row["train/images_per_second"]) for row in csv.DictReader(file)]
        assert len(rates) == 1
        # At most 2 images per 0.02 s; with the validation of 1 s amid these 8 images it would be under 8.
        assert 10 < rates[0] <= 100


def run_cli(*arguments: str, **options) -> LightningCLI:
    """Run a command as it is typed, on small settings. `options` are further trainer settings, as plain values."""
    defaults = {
        "accelerator": "cpu",
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "num_sanity_val_steps": 0,
        "max_steps": 1,
        "logger": False,
    }
    return LightningCLI(
        TinyCodec,
        TinyData,
        args=[*arguments, *(f"--trainer.{name}={json.dumps(value)}" for name, value in options.items())],
        save_config_callback=cb.SaveRunConfig,
        trainer_defaults=defaults,
        parser_kwargs={"parser_mode": "omegaconf+"},
    )


def given(class_path: str, **arguments) -> dict:
    return {"class_path": class_path, "init_args": arguments}


class TestSaveRunConfig:
    def test_files(self, tmp_path):
        run = f"--trainer.default_root_dir={tmp_path}"
        run_cli("fit", run, "--model.lmbda=0.1")
        first = (tmp_path / "config.yaml").read_text()
        assert yaml.safe_load(first)["model"]["lmbda"] == 0.1

        run_cli("fit", run, "--model.lmbda=0.1")  # a resume with the same settings
        assert [path.name for path in tmp_path.glob("config*")] == ["config.yaml"]
        run_cli("fit", run, "--model.lmbda=0.2")
        run_cli("fit", run, "--model.lmbda=0.3")
        run_cli("test", run, "--model.lmbda=0.4")
        kept = {path.name: yaml.safe_load(path.read_text())["model"]["lmbda"] for path in tmp_path.glob("*.yaml")}
        assert kept == {"config.1.yaml": 0.1, "config.2.yaml": 0.2, "config.yaml": 0.3, "config_test.yaml": 0.4}
        assert (tmp_path / "config.1.yaml").read_text() == first

    def test_running_from_it_repeats_it(self, tmp_path):
        run_cli("fit", f"--trainer.default_root_dir={tmp_path}", "--model.lmbda=1e-5", "--data.count=3")
        before = (tmp_path / "config.yaml").read_text()
        cli = run_cli("fit", "--config", str(tmp_path / "config.yaml"))
        assert cli.model.lmbda == 1e-5 and cli.datamodule.count == 3
        assert (tmp_path / "config.yaml").read_text() == before

    def test_csv_and_tensorboard_get_flat_names(self, tmp_path):
        loggers = [given(kind, save_dir=str(tmp_path)) for kind in ("CSVLogger", "TensorBoardLogger")]
        cli = run_cli("fit", f"--trainer.default_root_dir={tmp_path}", "--model.lmbda=0.1", logger=loggers)
        assert len(cli.trainer.loggers) == 2
        for logger in cli.trainer.loggers:
            told = yaml.safe_load((Path(logger.log_dir) / "hparams.yaml").read_text())
            assert told["model.lmbda"] == 0.1 and told["model.nan_at_step"] is None and told["data.count"] == 4

    def test_record_holds_the_configuration(self, tmp_path):
        run_cli(
            "test",
            f"--trainer.default_root_dir={tmp_path}",
            "--model.lmbda=0.1",
            callbacks=[given("callbacks.ResultRecord")],
        )
        assert record(tmp_path)["config"]["model"]["lmbda"] == 0.1

    def test_names(self):
        nested = {"model": {"class_path": "a.B", "init_args": {"lmbda": 0.1}}, "callbacks": [{"class_path": "C"}]}
        assert dict(callbacks.save_config.flatten(nested)) == {
            "model.class_path": "a.B",
            "model.lmbda": 0.1,
            "callbacks.0.class_path": "C",
        }


def test_wandb_gets_configuration_pictures_and_figures(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    cli = run_cli(
        "fit",
        f"--trainer.default_root_dir={tmp_path}",
        "--model.lmbda=0.1",
        "--data.count=1",
        logger=given("WandbLogger", project="tests", save_dir=str(tmp_path)),
        callbacks=[given("callbacks.Psnr"), given("callbacks.Reconstructions", log_images=2)],
    )
    run = cli.trainer.logger.experiment
    assert run.config["model.lmbda"] == 0.1 and run.config["data.count"] == 1
    assert run.summary["val/tiny/psnr"] > 20
    assert run.summary["val/tiny/reconstructions"]["count"] == 2
    texts = run.summary["val/tiny/reconstructions"]["captions"]
    assert [text.split()[0] for text in texts] == ["im0.jpg", "im7.jpg"]
    assert texts[0].split("\n")[1] == "ramp 0" and "bpp 0." in texts[0] and "psnr " in texts[0]
    run.finish()
    assert len(list(tmp_path.rglob("media/images/val/tiny/*.png"))) == 2


def test_every_callback_can_be_given_in_yaml(tmp_path):
    """Class paths and plain arguments, as in a configuration file."""
    listed = [
        {"class_path": "callbacks.Psnr"},
        {"class_path": "callbacks.MsSsim"},
        {"class_path": "callbacks.Lpips", "init_args": {"pretrained": False, "input_range": "[0,1]"}},
        {"class_path": "callbacks.Bpp"},
        {"class_path": "callbacks.CodingTime"},
        {"class_path": "callbacks.ResultRecord", "init_args": {"overwrite": True}},
        {"class_path": "callbacks.Reconstructions", "init_args": {"max_images": None}},
        {"class_path": "callbacks.StopOnNonFiniteLoss"},
        {"class_path": "callbacks.Throughput"},
    ]
    config = tmp_path / "given.yaml"
    config.write_text(yaml.safe_dump({"trainer": {"callbacks": listed, "default_root_dir": str(tmp_path)}}))
    run_cli("test", "--config", str(config))
    written = record(tmp_path)
    assert {"psnr", "lpips_01", "bpp", "encode_ms"} <= written["mean"].keys()
    assert "ms_ssim" in written["not_available"]
