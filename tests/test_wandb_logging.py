"""What a run leaves with W&B offline, read back from its directory; and that TensorBoard and CSV get the same."""

import csv
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import wandb
import yaml
from lightning.pytorch.cli import LightningCLI
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import callbacks as cb
from callbacks.checkpoint_artifacts import place_alias
from callbacks.rd_points import as_table, point_row
from lightning_modules.wandb_environment import settle_wandb
from tests.callback_helpers import TinyCodec, loader, trainer
from tests.conftest import ROOT
from tests.record_helpers import make_record
from tests.test_run_callbacks import TinyData, given, run_cli
from tests.wandb_files import OfflineRun, offline_run


class Settled(LightningCLI):
    """Asks the environment before anything is built, as the real command line does."""

    def before_instantiate_classes(self) -> None:
        settle_wandb(self.subcommand, self.config[self.subcommand]["trainer"])


def run_settled(command: str, folder: Path, callbacks: list[dict]) -> None:
    known = {"project": "tests", "save_dir": str(folder), "offline": True, "name": "run of λ 0.1"}
    loggers = [
        given("WandbLogger", **known, group="tiny_lambda", tags=["tiny", "test of logging"]),
        given("CSVLogger", save_dir=str(folder), name="csv", version=command),
        given("TensorBoardLogger", save_dir=str(folder), name="tensorboard", version=command),
    ]
    options = {
        "accelerator": "cpu",
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "max_epochs": 1,
        "log_every_n_steps": 1,
        "logger": loggers,
        "callbacks": callbacks,
        "default_root_dir": str(folder),
    }
    folder.mkdir(exist_ok=True)
    config = folder / "given.yaml"
    config.write_text(yaml.safe_dump({"model": {"lmbda": 0.1}, "trainer": options}))
    cli = Settled(
        TinyCodec,
        TinyData,
        args=[command, "--config", str(config)],
        save_config_callback=cb.SaveRunConfig,
        parser_kwargs={"parser_mode": "omegaconf+"},
    )
    for logger in cli.trainer.loggers:
        logger.finalize("success")
    wandb.finish()


def callbacks_of(folder: Path) -> list[dict]:
    best = given("lightning.pytorch.callbacks.ModelCheckpoint", dirpath=str(folder), filename="best")
    best["init_args"] |= {"monitor": "val/tiny/bpp", "enable_version_counter": False}
    plain = ("Psnr", "Bpp", "ResultRecord", "Throughput", "LastCheckpoint", "CheckpointArtifacts")
    return [*(given(f"callbacks.{name}") for name in plain), given("callbacks.Reconstructions", log_images=2), best]


class Runs(NamedTuple):
    folder: Path
    fit: OfflineRun
    test: OfflineRun


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WANDB_JOB_TYPE", "WANDB_MODE", "WANDB_SWEEP_ID"):
            patch.delenv(name, raising=False)
        patch.setenv("WANDB_SILENT", "true")
        for command in ("fit", "test"):
            run_settled(command, folder, callbacks_of(folder))
        wandb.teardown()  # before that, the end of a log may not be on disk
        patch.delenv("WANDB_MODE")  # Lightning's logger sets it
        yield Runs(folder, *(offline_run(folder, job_type=command) for command in ("fit", "test")))


def test_a_run_can_be_found(runs: Runs) -> None:
    for run in (runs.fit, runs.test):
        assert (run.name, run.group, run.tags) == ("run of λ 0.1", "tiny_lambda", ["tiny", "test of logging"])
        assert run.config["model.lmbda"] == 0.1 and run.config["data.count"] == 4
        assert run.step_metrics["*"] == "trainer/global_step"
    assert [runs.fit.job_type, runs.test.job_type] == ["fit", "test"]
    saved = yaml.safe_load((runs.folder / "config.yaml").read_text())
    assert saved["model"]["lmbda"] == 0.1, "the resolved configuration stands in the run's own directory"


def test_curves_have_the_step_as_axis(runs: Runs) -> None:
    rows = [row for row in runs.fit.history if "train/images_per_second" in row]
    assert [row["trainer/global_step"] for row in rows] == [0, 1, 2, 3]


def test_rd_points_are_in_the_summary_and_a_table(runs: Runs) -> None:
    record = json.loads((runs.folder / "results" / "tiny.json").read_text())
    logged = {name: value for name, value in runs.test.summary.items() if name.startswith("test/tiny/")}
    for figure, mean in record["mean"].items():
        assert logged[f"test/tiny/{figure}"] == pytest.approx(mean, rel=1e-6)  # Lightning logs float32
    table = json.loads((runs.test.folder / "files" / runs.test.summary["rd_points.path"]).read_text())
    (row,) = (dict(zip(table["columns"], line, strict=True)) for line in table["data"])
    known = {"curve": "tiny", "codec": "tiny", "decoder": None, "dataset": "tiny", "group": "tiny_lambda"}
    assert row == {**known, "setting": "λ = 0.1", "lambda": 0.1, **record["mean"]}
    assert list(row)[:8] == ["curve", "codec", "decoder", "dataset", "group", "setting", "lambda", "bpp"]


def test_records_are_among_the_files(runs: Runs) -> None:
    kept = runs.test.folder / "files" / "results" / "tiny.json"
    assert kept.read_bytes() == (runs.folder / "results" / "tiny.json").read_bytes()


def test_pictures_say_what_they_show(runs: Runs) -> None:
    rows = {row["name"]: row for row in json.loads((runs.folder / "results" / "tiny.json").read_text())["images"]}
    texts = runs.test.summary["test/tiny/reconstructions.captions"]
    assert [text.split()[0] for text in texts] == ["im0.jpg", "im7.jpg"]
    for number, text in enumerate(texts):
        figures, caption = text.split("\n")
        name, *pairs = figures.split("  ")
        assert caption == f"ramp {number}"
        told = {figure: float(value) for figure, value in (pair.split() for pair in pairs)}
        assert told["psnr"] == pytest.approx(rows[name]["psnr"], rel=1e-3)
        assert told["bpp"] == pytest.approx(8 * rows[name]["file_bytes"] / 40**2, rel=1e-3)
    for run, stage in ((runs.fit, "val"), (runs.test, "test")):
        files = run.summary[f"{stage}/tiny/reconstructions.filenames"]
        assert len(files) == 2 and all((run.folder / "files" / file).stat().st_size > 0 for file in files)


def test_checkpoints_are_artifacts_and_no_copies(runs: Runs) -> None:
    assert runs.fit.artifacts.keys() == {"tiny-last", "tiny-best"}
    for kind in ("last", "best"):
        artifact = runs.fit.artifacts[f"tiny-{kind}"]
        assert artifact.type == "model" and set(artifact.aliases) == {"latest", "lmbda-0.1"}
        metadata = json.loads(artifact.metadata)
        assert (metadata["step"], metadata["lambda"]) == (4, 0.1)
        assert metadata.get("weights") == ("08" if kind == "last" else None)
        (entry,) = artifact.manifest.contents
        assert entry.path == f"{kind}.ckpt" and Path(entry.local_path).is_relative_to(runs.fit.folder)
        assert Path(entry.local_path).samefile(runs.folder / f"{kind}.ckpt"), "the same bytes on disk"
    scores = json.loads(runs.fit.artifacts["tiny-best"].metadata)["scores"]
    assert scores == {"best.ckpt": pytest.approx(runs.fit.summary["val/tiny/bpp"])}


def test_what_waits_for_sync_outlives_further_training(runs: Runs) -> None:
    waiting = Path(runs.fit.artifacts["tiny-last"].manifest.contents[0].local_path)
    before = waiting.read_bytes()
    fresh = runs.folder / "fresh.ckpt"
    fresh.write_bytes(b"newer")
    fresh.replace(runs.folder / "last.ckpt")  # as checkpoints are written: lightning_modules.atomic_checkpoints
    assert waiting.read_bytes() == before != b"newer"


@pytest.mark.parametrize("command", ["fit", "test"])
def test_tensorboard_and_csv_get_the_same_scalars(runs: Runs, command: str) -> None:
    events = EventAccumulator(str(runs.folder / "tensorboard" / command)).Reload()
    with (runs.folder / "csv" / command / "metrics.csv").open() as file:
        lines = list(csv.DictReader(file))
    run = getattr(runs, command)
    names = {n for row in run.history for n, v in row.items() if n.startswith(("train/", "val/", "test/"))
             and isinstance(v, float)}  # fmt: skip
    assert names and any(name.endswith("/bpp") for name in names)
    assert names == {name for name in lines[0] if name not in ("epoch", "step")}
    assert names == {name for name in events.Tags()["scalars"] if name not in ("epoch", "hp_metric")}
    for name in names:
        told = [row[name] for row in run.history if name in row]
        assert [float(line[name]) for line in lines if line[name]] == pytest.approx(told)
        assert [event.value for event in events.Scalars(name)] == pytest.approx(told)


def test_disabled_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    run_settled("fit", tmp_path, callbacks_of(tmp_path))
    run_settled("test", tmp_path, callbacks_of(tmp_path))
    wandb.teardown()  # it remembers the environment that it was first used in
    assert (tmp_path / "results" / "tiny.json").is_file() and (tmp_path / "last.ckpt").is_file()
    assert not (tmp_path / "wandb").exists() and os.environ["WANDB_MODE"] == "disabled"


@pytest.mark.parametrize(
    ("environment", "offline"),
    [
        ({}, True),
        ({"WANDB_MODE": "dryrun"}, True),
        ({"WANDB_MODE": "online"}, False),
        ({"WANDB_MODE": "disabled"}, False),
        ({"WANDB_SWEEP_ID": "abc"}, False),
        ({"WANDB_SWEEP_ID": "abc", "WANDB_MODE": "offline"}, True),
    ],
)
def test_the_environment_goes_before_the_config(
    environment: dict[str, str], offline: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_MODE", "WANDB_SWEEP_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    logger = given("lightning.pytorch.loggers.WandbLogger", offline=True)
    other = given("lightning.pytorch.loggers.CSVLogger")
    for loggers in (logger, [other, logger], False, None):
        settle_wandb("fit", {"logger": loggers})
    assert logger["init_args"]["offline"] is offline and other["init_args"] == {}
    mode = "disabled" if environment.get("WANDB_MODE") == "disabled" else None
    assert logger["init_args"].get("mode") == mode


def test_job_types(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_JOB_TYPE", raising=False)
    logger = given("WandbLogger")
    for command in ("fit", "test", "validate"):
        settle_wandb(command, {"logger": logger})
        assert logger["init_args"]["job_type"] == command
    own = given("WandbLogger", job_type="night")
    settle_wandb("fit", {"logger": own})
    assert own["init_args"]["job_type"] == "night"
    monkeypatch.setenv("WANDB_JOB_TYPE", "day")
    free = given("WandbLogger")
    settle_wandb("fit", {"logger": free})
    assert "job_type" not in free["init_args"]


def test_overlay_adds_the_callback(tmp_path: Path) -> None:
    overlay = ROOT / "configs" / "logger" / "wandb_checkpoints.yaml"
    folder = f"--trainer.default_root_dir={tmp_path}"
    cli = run_cli("fit", folder, "--trainer.callbacks=[callbacks.Psnr]", "-c", str(overlay))
    kinds = [type(callback) for callback in cli.trainer.callbacks]
    assert cb.CheckpointArtifacts in kinds and cb.Psnr in kinds


def test_artifacts_need_no_wandb(tmp_path: Path) -> None:
    fitter = trainer(tmp_path, cb.CheckpointArtifacts(), cb.LastCheckpoint(), enable_checkpointing=True)
    fitter.fit(TinyCodec(), loader(4))
    assert (tmp_path / "last.ckpt").is_file()


def test_aliases() -> None:
    settings = (None, {"k_p": 0.0}, {"loss": "TACO's loss"}, {"base": "frozen base"})
    assert [place_alias({"lambda": 0.0016, "setting": setting}) for setting in settings] == [
        "lmbda-0.0016",
        "lmbda-0.0016-k_p-0.0",
        "lmbda-0.0016-TACO_s_loss",
        "lmbda-0.0016-frozen_base",
    ]
    swept = {"lambda": 0.0006, "side_information": "none"}
    assert place_alias({"lambda": 0.0006, "setting": swept}) == "lmbda-0.0006-none"
    assert place_alias({"lambda": None, "setting": {"bits": 4, "side_information": "label"}}) == "bits-4-label"
    assert place_alias({"lambda": None, "setting": {"odd name": "a/b"}}) == "odd_name-a_b"
    assert place_alias({"lambda": None}) is None


def test_rows_of_records() -> None:
    setting = {"bits": 4, "side_information": "label", "decoder": "g2"}
    two = make_record("digits", setting=setting, dataset="mnist-test", bpp=0.25, psnr=20.0)
    two["decoder"] = {"name": "g2", "realism": 1.0}
    two["mean"]["psnr"] = "Infinity"
    row = point_row(two, "grid")
    place = {"curve": "digits (label, g2)", "codec": "digits", "decoder": "g2", "dataset": "mnist-test"}
    assert row == {**place, "group": "grid", "setting": "bits = 4", "lambda": None, "bpp": 0.25, "psnr": None}
    other = point_row(make_record("taco", 0.01, bpp=0.5, ms_ssim=0.9))
    columns, lines = as_table([row, other])
    assert columns == ["curve", "codec", "decoder", "dataset", "group", "setting", "lambda", "bpp", "ms_ssim", "psnr"]
    assert lines[0][-3:] == [0.25, None, None] and lines[1][-3:] == [0.5, pytest.approx(0.9), None]
