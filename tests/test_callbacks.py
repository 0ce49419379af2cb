import csv
import json
import math
import subprocess
import time
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image, ImageFont
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import callbacks as cb
import callbacks.save_config
from callbacks.metrics.psnr import psnr
from callbacks.metrics.value import NotAvailable, Value
from callbacks.names import metric_key
from callbacks.pictures import comparison, wrap
from callbacks.provenance import git_state
from callbacks.result_record import plain
from callbacks.run_files import png_path
from datamodules.batch import Batch
from lightning_modules.files import write_atomically
from lightning_modules.pretrained import PretrainedError
from lightning_modules.step_output import StepOutput

SIDE = 40


class TinyImages(Dataset):
    """Smooth pictures, no two alike."""

    def __init__(self, count: int, dataset: str = "tiny", side: int = SIDE) -> None:
        self.count, self.dataset, self.side = count, dataset, side

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> dict:
        ramp = torch.linspace(0, 1, self.side)
        image = torch.stack([ramp.expand(self.side, -1), ramp[:, None].expand(-1, self.side), ramp.outer(ramp)])
        image = (((image + 0.13 * i) % 1) * 255).round() / 255
        # Names in another order than the dataset's, so that nothing relies on the two being the same.
        return {"image": image, "name": f"im{(7 * i) % 10}.jpg", "caption": f"ramp {i}", "dataset": self.dataset}


def collate(samples: list[dict]) -> Batch:
    return {
        "image": torch.stack([sample["image"] for sample in samples]),
        "name": [sample["name"] for sample in samples],
        "caption": [sample["caption"] for sample in samples],
        "dataset": samples[0]["dataset"],
        "key": torch.zeros(len(samples), dtype=torch.int64),
    }


def loader(count: int = 5, batch_size: int = 1, dataset: str = "tiny", side: int = SIDE) -> DataLoader:
    return DataLoader(TinyImages(count, dataset, side), batch_size=batch_size, collate_fn=collate)


class TinyCodec(L.LightningModule):
    """Posterises images: a codec with one weight, that writes files."""

    def __init__(self, lmbda: float = 0.01, levels: int = 8, nan_at_step: int | None = None) -> None:
        super().__init__()
        self.lmbda, self.levels, self.nan_at_step = lmbda, levels, nan_at_step
        self.gain = torch.nn.Parameter(torch.ones(()))

    def code(self, image: Tensor) -> Tensor:
        return ((image * self.levels).round() / self.levels).clamp(0, 1).mul(255).round() / 255

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = (self.gain * batch["image"] - batch["image"].round()).square().mean()
        return loss * math.nan if self.global_step == self.nan_at_step else loss

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> StepOutput:
        y = batch["image"].mean(dim=(1, 2, 3)).double() * 1000
        return {
            "dataset": batch["dataset"],
            "name": batch["name"],
            "image": batch["image"],
            "x_hat": self.code(batch["image"]),
            "bits": y + 10,
            "likelihood_bits": {"y": y, "z": torch.full_like(y, 10)},
            "caption": batch["caption"],
        }

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> StepOutput:
        output = self.validation_step(batch, batch_idx)
        count = len(batch["name"])
        output["bits"] = (output["bits"] / 8).ceil() * 8 + 16
        output["file"] = [Path(name).with_suffix(".bin") for name in batch["name"]]
        output["encode_seconds"] = [0.002] * count
        output["decode_seconds"] = [0.004] * count
        return output

    predict_step = test_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-3)

    def result_identity(self) -> dict:
        return {
            "codec": "tiny",
            "lambda": self.lmbda,
            "weights": f"{self.levels:02x}",
            "parameters": {"gain": self.gain.numel()},
        }


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


def trainer(run_dir: Path, *callbacks: L.Callback, **options) -> L.Trainer:
    defaults = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "max_steps": 4,
        "num_sanity_val_steps": 0,
    }
    return L.Trainer(default_root_dir=run_dir, callbacks=list(callbacks), **(defaults | options))


def run_test(run_dir: Path, *callbacks: L.Callback, model: L.LightningModule | None = None, data=None, **options):
    trainer(run_dir, *callbacks, **options).test(model or TinyCodec(), data or loader(), verbose=False)


def record(run_dir: Path, dataset: str = "tiny") -> dict:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not strict JSON")

    text = (run_dir / "results" / f"{dataset}.json").read_text(encoding="utf-8")
    return json.loads(text, parse_constant=refuse)


def images_of(dataset: TinyImages) -> dict[str, Tensor]:
    return {sample["name"]: sample["image"] for sample in (dataset[i] for i in range(len(dataset)))}


class TestNames:
    def test_key(self):
        assert metric_key("val", "kodak", "psnr") == "val/kodak/psnr"

    @pytest.mark.parametrize("dataset", ["", "a/b"])
    def test_parts_cannot_add_levels(self, dataset):
        with pytest.raises(ValueError, match="bad part"):
            metric_key("val", dataset, "psnr")


class TestPerImageMetrics:
    def test_figures_in_test(self, tmp_path):
        metrics = [cb.Psnr(), cb.Bpp(), cb.CodingTime()]
        tester = trainer(tmp_path, *metrics)
        tester.test(TinyCodec(), loader(5, batch_size=2), verbose=False)

        codec, images = TinyCodec(), images_of(TinyImages(5))
        expected = {name: psnr(image[None], codec.code(image)[None]).item() for name, image in images.items()}
        rows = metrics[0].rows["tiny"]
        assert list(rows) == sorted(expected)
        assert {name: row["psnr"] for name, row in rows.items()} == pytest.approx(expected)
        mean = np.mean(list(expected.values()))
        assert metrics[0].summary == {"tiny": {"psnr": pytest.approx(mean)}}
        assert tester.callback_metrics["test/tiny/psnr"] == pytest.approx(mean, rel=1e-6)

        rate = metrics[1].summary["tiny"]
        bits_y = [1000 * image.double().mean().item() for image in images.values()]
        file_bits = [math.ceil((bits + 10) / 8) * 8 + 16 for bits in bits_y]
        assert rate["bpp"] == pytest.approx(np.mean(file_bits) / SIDE**2, rel=1e-6)
        assert rate["bpp_y"] == pytest.approx(np.mean(bits_y) / SIDE**2, rel=1e-6)
        assert rate["bpp_z"] == pytest.approx(10 / SIDE**2)
        assert rate["bpp_likelihood"] == pytest.approx(rate["bpp_y"] + rate["bpp_z"])
        assert rate["bpp_gap"] == pytest.approx(rate["bpp"] - rate["bpp_likelihood"]) and rate["bpp_gap"] > 0
        assert metrics[2].summary["tiny"] == {"encode_ms": pytest.approx(2), "decode_ms": pytest.approx(4)}

    def test_validation_feeds_model_checkpoint_and_logger(self, tmp_path):
        best = ModelCheckpoint(tmp_path, monitor="val/tiny/bpp", filename="best")
        rate, timing = cb.Bpp(), cb.CodingTime()
        logger = CSVLogger(tmp_path)
        fitter = trainer(tmp_path, rate, timing, best, logger=logger, enable_checkpointing=True)
        fitter.fit(TinyCodec(), loader(4), loader(3))
        assert (tmp_path / "best.ckpt").exists()
        assert rate.summary["tiny"].keys() == {"bpp"}  # no file, so neither likelihood beside it nor gap
        assert timing.summary == {}
        assert best.best_model_score.item() == pytest.approx(rate.summary["tiny"]["bpp"], rel=1e-6)
        with (Path(logger.log_dir) / "metrics.csv").open() as file:
            assert [row["val/tiny/bpp"] for row in csv.DictReader(file)] != []

    def test_sanity_check_logs_nothing(self, tmp_path):
        metric, logger = cb.Psnr(), CSVLogger(tmp_path)
        fitter = trainer(tmp_path, metric, logger=logger, num_sanity_val_steps=2, limit_val_batches=2, max_steps=1)
        seen: list[dict] = []

        class Look(L.Callback):
            def on_train_start(self, trainer, pl_module):
                seen.append(dict(trainer.callback_metrics) | metric.summary)

        fitter.callbacks.append(Look())
        fitter.fit(TinyCodec(), loader(4), loader(3))
        assert list(seen[0]) == ["tiny"]  # computed, so that errors show early, and not logged

    def test_several_datasets(self, tmp_path):
        metric = cb.Psnr()
        tester = trainer(tmp_path, metric)
        tester.test(TinyCodec(), [loader(2, dataset="a"), loader(3, dataset="b")], verbose=False)
        assert {name: len(rows) for name, rows in metric.rows.items()} == {"a": 2, "b": 3}
        assert {"test/a/psnr", "test/b/psnr"} <= set(tester.callback_metrics)

    def test_small_images_are_recorded_as_not_available(self, tmp_path):
        metric = cb.MsSsim()
        tester = trainer(tmp_path, metric)
        tester.test(TinyCodec(), [loader(2), loader(1, dataset="large", side=176)], verbose=False)
        assert metric.summary.keys() == {"large"} and 0 < metric.summary["large"]["ms_ssim"] < 1
        assert "all images" in metric.not_available["tiny"]["ms_ssim"]
        assert "test/tiny/ms_ssim" not in tester.callback_metrics

    def test_mean_is_over_the_images_that_have_the_figure(self, tmp_path):
        class Half(cb.PerImageMetric):
            name, unit, higher_is_better = "half", "", None

            def protocol(self):
                return {}

            def compute(self, output: StepOutput) -> dict[str, list[Value]]:
                return {"half": [3.0 if name < "im5" else NotAvailable("too late") for name in output["name"]]}

        metric = Half()
        run_test(tmp_path, metric, cb.ResultRecord())
        assert metric.summary["tiny"] == {"half": 3.0}
        assert metric.not_available["tiny"]["half"] == "2 of 5 images: too late"
        assert [row["half"] for row in record(tmp_path)["images"]] == [3.0, 3.0, 3.0, None, None]

    def test_identical_images_have_an_infinite_mean(self, tmp_path):
        metric = cb.Psnr()
        run_test(tmp_path, metric, model=TinyCodec(levels=255))
        assert metric.summary["tiny"]["psnr"] == math.inf

    def test_repeated_name_is_told(self, tmp_path):
        with pytest.warns(UserWarning, match="occurs twice in tiny"):
            run_test(tmp_path, cb.Psnr(), data=loader(11))


def test_metric_of_whole_datasets(tmp_path):
    """The base class serves metrics that have no value per image."""

    class MeanShift(cb.MetricCallback):
        name, unit, higher_is_better = "mean_shift", "", False

        def protocol(self):
            return {"of": "all pixels"}

        def reset(self):
            self.shifts: list[Tensor] = []

        def update(self, output: StepOutput):
            self.shifts.append((output["x_hat"] - output["image"]).mean(dim=(1, 2, 3)))

        def conclude(self):
            self.report("tiny", self.name, torch.cat(self.shifts).mean().item())

    metric = MeanShift()
    tester = trainer(tmp_path, metric, cb.ResultRecord())
    tester.test(TinyCodec(), loader(4, batch_size=2), verbose=False)
    images = torch.stack(list(images_of(TinyImages(4)).values()))
    expected = (TinyCodec().code(images) - images).mean().item()
    assert tester.callback_metrics["test/tiny/mean_shift"] == pytest.approx(expected, rel=1e-4)
    written = record(tmp_path)
    assert written["mean"]["mean_shift"] == pytest.approx(expected, rel=1e-4)
    assert written["protocols"]["mean_shift"]["of"] == "all pixels"


class TestMissingWeights:
    def test_recorded_with_the_reason_and_one_warning(self, tmp_path):
        metric = cb.Lpips(pretrained=str(tmp_path / "alexnet.pth"))
        tester = trainer(tmp_path, metric, cb.ResultRecord())
        with pytest.warns(UserWarning, match="lpips will be recorded as not available"):
            tester.test(TinyCodec(), loader(2), verbose=False)
        assert metric.summary == {} and "test/tiny/lpips" not in tester.callback_metrics
        written = record(tmp_path)
        assert "callbacks.Lpips.init_args.pretrained" in written["not_available"]["lpips"]
        assert "lpips" not in written["mean"] and "lpips" not in written["results"]
        assert [row["lpips"] for row in written["images"]] == [None, None]
        assert written["protocols"]["lpips"]["backbone"] == "alexnet.pth"

    def test_raise(self, tmp_path):
        with pytest.raises(PretrainedError, match=r"alexnet\.pth"):
            run_test(tmp_path, cb.Lpips(pretrained=str(tmp_path / "alexnet.pth"), on_missing="raise"))

    def test_protocols_do_not_share_a_name(self):
        names = {
            cb.Lpips(net, False, input_range).name for net in ("alex", "vgg") for input_range in ("[-1,1]", "[0,1]")
        }
        assert len(names) == 4

    def test_random_network_runs(self, tmp_path):
        metric = cb.Lpips(pretrained=False)
        run_test(tmp_path, metric, data=loader(2, batch_size=2))
        assert metric.summary["tiny"]["lpips"] > 0


def test_two_processes_give_the_result_of_one(tmp_path):
    """5 images on 2 processes: the sampler repeats one, which must not count twice."""

    def metrics() -> list[L.Callback]:
        return [cb.Psnr(), cb.Bpp(), cb.Reconstructions(max_images=3, panel_images=0), cb.ResultRecord()]

    run_test(tmp_path / "one", *metrics())
    run_test(tmp_path / "two", *metrics(), strategy="ddp_spawn", devices=2, logger=CSVLogger(tmp_path / "log"))
    one, two = record(tmp_path / "one"), record(tmp_path / "two")
    assert len(two["images"]) == 5
    for key in ("images", "mean", "results"):
        assert one[key] == two[key]
    with next((tmp_path / "log").rglob("metrics.csv")).open() as file:
        logged = next(csv.DictReader(file))
    assert float(logged["test/tiny/psnr"]) == pytest.approx(one["mean"]["psnr"], rel=1e-6)
    written = [sorted(path.name for path in (tmp_path / run).rglob("*.png")) for run in ("one", "two")]
    assert written[0] == written[1] == ["im0.jpg.png", "im4.jpg.png", "im7.jpg.png"]


class TestResultRecord:
    def test_content(self, tmp_path, capsys):
        run_test(tmp_path, cb.Psnr(), cb.Bpp(), cb.CodingTime(), cb.ResultRecord())
        written = record(tmp_path)
        assert {key: written[key] for key in ("schema", "codec", "lambda", "weights", "parameters", "dataset")} == {
            "schema": 1,
            "codec": "tiny",
            "lambda": 0.01,
            "weights": "08",
            "parameters": {"gain": 1},
            "dataset": "tiny",
        }
        row = written["images"][0]
        assert row["name"] == "im0.jpg" and row["caption"] == "ramp 0"
        assert (row["width"], row["height"]) == (SIDE, SIDE)
        assert row["bpp"] == pytest.approx(8 * row["file_bytes"] / SIDE**2)
        assert written["mean"]["psnr"] == pytest.approx(np.mean([row["psnr"] for row in written["images"]]))
        assert written["protocols"]["psnr"]["unit"] == "dB" and written["protocols"]["psnr"]["higher_is_better"]
        assert written["versions"]["torch"] == torch.__version__.split("+")[0]
        assert written["device"].startswith("cpu") and written["config"] is None
        assert written["checkpoint"] == {"path": None, "step": 0, "epoch": 0}
        assert [path.name for path in (tmp_path / "results").iterdir()] == ["tiny.json"]  # no draft left
        printed = capsys.readouterr().out
        assert "psnr ↑" in printed and "bit/pixel" in printed
        assert str(tmp_path / "results" / "tiny.json") in printed

    def test_compressai_reads_it(self, tmp_path):
        from compressai.utils.plot.__main__ import parse_json_file

        run_test(tmp_path, cb.Psnr(), cb.Bpp(), cb.CodingTime(), cb.ResultRecord())
        written = record(tmp_path)
        curve = parse_json_file(tmp_path / "results" / "tiny.json", "psnr")
        assert curve == {"name": "tiny", "xs": [written["mean"]["bpp"]], "ys": [written["mean"]["psnr"]]}
        assert written["results"]["encoding_time"] == [pytest.approx(0.002)]

    def test_infinite_figures_are_strict_json(self, tmp_path):
        run_test(tmp_path, cb.Psnr(), cb.ResultRecord(), model=TinyCodec(levels=255))
        written = record(tmp_path)
        assert written["mean"]["psnr"] == "Infinity" and written["images"][0]["psnr"] == "Infinity"
        assert float(written["mean"]["psnr"]) == math.inf
        assert "psnr-rgb" not in written["results"]
        assert [plain(value) for value in (-math.inf, math.nan, 1.5)] == ["-Infinity", "NaN", 1.5]

    def test_checkpoint_and_its_training_time(self, tmp_path):
        fitter = trainer(tmp_path, max_steps=3)
        fitter.fit(TinyCodec(), loader(2))
        fitter.save_checkpoint(tmp_path / "last.ckpt")
        tester = trainer(tmp_path, cb.ResultRecord())
        tester.test(TinyCodec(), loader(2), ckpt_path=str(tmp_path / "last.ckpt"), verbose=False)
        epoch = torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"]
        assert epoch > 0  # what a trainer that only tests does not know by itself
        assert record(tmp_path)["checkpoint"] == {"path": str(tmp_path / "last.ckpt"), "step": 3, "epoch": epoch}

    @pytest.mark.parametrize("other", [{"lmbda": 0.02}, {"levels": 16}])
    def test_another_model_is_refused_before_any_work(self, tmp_path, other):
        run_test(tmp_path, cb.Psnr(), cb.ResultRecord())
        before = (tmp_path / "results" / "tiny.json").read_bytes()
        metric = cb.Psnr()
        with pytest.raises(cb.ResultExistsError, match=r"tiny\.json.*--run_dir.*overwrite"):
            run_test(tmp_path, metric, cb.ResultRecord(), model=TinyCodec(**other))
        assert metric.rows == {}
        assert (tmp_path / "results" / "tiny.json").read_bytes() == before
        run_test(tmp_path, metric, cb.ResultRecord(overwrite=True), model=TinyCodec(**other))
        assert (tmp_path / "results" / "tiny.json").read_bytes() != before

    def test_same_model_replaces_its_record(self, tmp_path):
        run_test(tmp_path, cb.ResultRecord(), data=loader(2))
        run_test(tmp_path, cb.ResultRecord(), data=loader(3))
        assert len(record(tmp_path)["images"]) == 3

    def test_unreadable_record_is_not_overwritten(self, tmp_path):
        path = tmp_path / "results" / "tiny.json"
        path.parent.mkdir()
        path.write_text("[1, 2")
        with pytest.raises(cb.ResultExistsError, match="no readable identity"):
            run_test(tmp_path, cb.ResultRecord())

    def test_trial_run_leaves_the_record_alone(self, tmp_path):
        run_test(tmp_path, cb.ResultRecord(), data=loader(2))
        run_test(tmp_path, cb.ResultRecord(), data=loader(2), fast_dev_run=1)
        assert len(record(tmp_path)["images"]) == 2

    def test_two_metrics_of_one_name(self, tmp_path):
        with pytest.raises(ValueError, match="several metric callbacks report psnr"):
            run_test(tmp_path, cb.Psnr(), cb.Psnr(), cb.ResultRecord())

    def test_git_state(self, tmp_path):
        def git(*arguments: str) -> None:
            identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
            subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

        source = tmp_path / "code.py"
        source.write_text("1")
        git("init")
        assert git_state(source) is None  # not tracked: an installed file inside another checkout
        git("add", "code.py")
        git("commit", "-m", "x")
        assert git_state(source)["dirty"] is False and len(git_state(source)["commit"]) == 40
        source.write_text("2")
        assert git_state(source)["dirty"] is True


class TestRunFiles:
    def test_failed_write_leaves_the_old_file_and_no_draft(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_text("old")

        def half(draft: Path) -> None:
            draft.write_text("ne")
            raise OSError("disk full")

        with pytest.raises(OSError, match="disk full"):
            write_atomically(path, half)
        assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"] and path.read_text() == "old"

    def test_picture_names(self):
        folder = Path("run")
        assert png_path(folder, "kodak", "kodim01.png") == folder / "kodak" / "kodim01.png"
        assert png_path(folder, "d", "a.jpg") == folder / "d" / "a.jpg.png"
        for name in ("../a.png", "/a.png", "..", ""):
            with pytest.raises(ValueError, match="cannot name a file"):
                png_path(folder, "d", name)


class TestReconstructions:
    def test_files_hold_the_measured_pixels(self, tmp_path):
        run_test(tmp_path, cb.Reconstructions(panel_images=2), data=loader(3, batch_size=2))
        images = images_of(TinyImages(3))
        folder = tmp_path / "reconstructions" / "tiny"
        assert sorted(path.name for path in folder.iterdir()) == sorted(f"{name}.png" for name in images)
        for name, image in images.items():
            pixels = torch.from_numpy(np.array(Image.open(folder / f"{name}.png"))).permute(2, 0, 1)
            assert torch.equal(pixels.float() / 255, TinyCodec().code(image))
        assert len(list((tmp_path / "pictures" / "tiny").iterdir())) == 2

    def test_predict(self, tmp_path):
        writer = trainer(tmp_path, cb.Reconstructions(max_images=1, panel_images=0))
        writer.predict(TinyCodec(), loader(3))
        assert len(list(tmp_path.rglob("*.png"))) == 1

    def test_tensorboard_gets_pictures(self, tmp_path):
        logger = TensorBoardLogger(tmp_path / "log")
        fitter = trainer(tmp_path, cb.Reconstructions(log_images=2), logger=logger, max_steps=2)
        fitter.fit(TinyCodec(), loader(2), loader(3))
        logger.finalize("success")
        events = EventAccumulator(logger.log_dir).Reload()
        assert events.Tags()["images"] == [
            "val/tiny/reconstructions/im0.jpg",
            "val/tiny/reconstructions/im7.jpg",
        ]

    def test_comparison_shows_both_images_enlarged(self):
        left, right = Image.new("RGB", (32, 20), "red"), Image.new("RGB", (32, 20), "blue")
        short = comparison(left, right, "a.png    0.1 bpp", "short")
        long = comparison(left, right, "a.png    0.1 bpp", "a caption of many words " * 20)
        assert short.width == long.width >= 2 * 320 and long.height > short.height
        colours = {colour: count for count, colour in short.getcolors(1 << 16)}
        assert colours[(255, 0, 0)] == colours[(0, 0, 255)] == 320 * 200

    def test_wrap(self):
        font = ImageFont.load_default(16)
        text = "some words and " + "x" * 100
        lines = wrap(text, font, 200)
        assert all(font.getlength(line) <= 200 for line in lines)
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")
        assert wrap("", font, 200) == []


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
    assert run.summary["val/tiny/reconstructions"]["captions"] == ["im0.jpg", "im7.jpg"]
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
