"""The record of a test run."""

import math
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

import callbacks as cb
import callbacks.save_config
from callbacks.portable_paths import expand, portable
from callbacks.provenance import git_state
from callbacks.record import plain
from tests.callback_helpers import SIDE, TinyCodec, loader, record, run_test, trainer


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

    def test_details_of_a_dataset_join_its_protocol(self, tmp_path):
        class Counting(cb.Psnr):
            def conclude(self):
                super().conclude()
                self.report("tiny", self.name, self.summary["tiny"][self.name], samples=5)

        run_test(tmp_path, Counting(), cb.ResultRecord())
        assert record(tmp_path)["protocols"]["psnr"]["samples"] == 5

    def test_paths_do_not_name_the_machine(self, tmp_path, monkeypatch):
        class Sourced(TinyCodec):
            def test_step(self, batch, batch_idx, dataloader_idx=0):
                return {**super().test_step(batch, batch_idx), "path": [str(tmp_path / "data" / batch["name"][0])]}

        monkeypatch.setenv("DATA_ROOT", str(tmp_path / "data"))
        run_test(tmp_path, cb.ResultRecord(), cb.Reconstructions(max_images=1, panel_images=0), model=Sourced())
        rows = {row["name"]: row for row in record(tmp_path)["images"]}
        assert rows["im0.jpg"]["original"] == "$DATA_ROOT/im0.jpg"
        assert expand("$DATA_ROOT/im0.jpg") == tmp_path / "data" / "im0.jpg"
        picture = tmp_path / "results" / rows["im0.jpg"]["reconstruction"]
        assert picture.is_file()
        assert [row["reconstruction"] for name, row in rows.items() if name != "im0.jpg"] == [None] * 4
        monkeypatch.chdir(tmp_path)
        config = {"a": [str(tmp_path / "runs" / "x"), "/elsewhere/y", 3], "b": {"c": str(Path.home() / "z")}}
        assert portable(config) == {"a": ["runs/x", "/elsewhere/y", 3], "b": {"c": "~/z"}}

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
