"""Figures per image and per data set: means, missing ones, and several processes."""

import csv
import math
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor

import callbacks as cb
import callbacks.save_config
from callbacks.metrics.psnr import psnr
from callbacks.metrics.value import NotAvailable, Value
from callbacks.names import metric_key
from lightning_modules.errors import PretrainedError
from lightning_modules.step_output import StepOutput
from tests.callback_helpers import SIDE, TinyCodec, TinyImages, images_of, loader, record, run_test, trainer
from tests.conftest import two_processes


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
    run_test(tmp_path / "two", *metrics(), strategy=two_processes(), devices=2, logger=CSVLogger(tmp_path / "log"))
    one, two = record(tmp_path / "one"), record(tmp_path / "two")
    assert len(two["images"]) == 5
    for key in ("images", "mean", "results"):
        assert one[key] == two[key]
    with next((tmp_path / "log").rglob("metrics.csv")).open() as file:
        logged = next(csv.DictReader(file))
    assert float(logged["test/tiny/psnr"]) == pytest.approx(one["mean"]["psnr"], rel=1e-6)
    written = [sorted(path.name for path in (tmp_path / run).rglob("*.png")) for run in ("one", "two")]
    assert written[0] == written[1] == ["im0.jpg.png", "im4.jpg.png", "im7.jpg.png"]
