"""Grids of the first images, and pictures of grey images."""

import json
from pathlib import Path

import numpy as np
import pytest
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

import callbacks as cb
from callbacks.run_files import png_path
from tests.callback_helpers import TinyCodec, TinyImages, loader, run_test, trainer
from tests.decoder_helpers import DATASET, SIDE, Decoders, TinyDigits, decode, digits


def pixels_of(image: Tensor) -> np.ndarray:
    return (255 * image.double()).round().byte().numpy()


def tile(grid: np.ndarray, row: int, column: int, side: int = SIDE) -> np.ndarray:
    return grid[row * side : (row + 1) * side, column * side : (column + 1) * side]


class TestFiles:
    def test_tiles_are_the_first_images_in_order(self, tmp_path):
        run_test(tmp_path, cb.SampleGrid(2, 3), model=Decoders("g1", "g2"), data=digits(9, batch_size=4))
        assert sorted(path.name for path in (tmp_path / "grids").iterdir()) == [
            f"{DATASET}-g1.png",
            f"{DATASET}-g2.png",
            f"{DATASET}-original.png",
        ]
        images = TinyDigits(9).images
        expected = {"original": images, "g1": decode(images, 0), "g2": decode(images, 1)}
        for name, sides in expected.items():
            picture = Image.open(tmp_path / "grids" / f"{DATASET}-{name}.png")
            assert picture.mode == "L" and picture.size == (3 * SIDE, 2 * SIDE)
            for i in range(6):
                assert np.array_equal(tile(np.asarray(picture), *divmod(i, 3)), pixels_of(sides[i, 0])), (name, i)

    def test_images_left_out_stay_white_and_the_others_in_place(self, tmp_path):
        run_test(tmp_path, cb.SampleGrid(2, 2), model=Decoders("g2", swapped=True), data=digits(3))
        grid = np.asarray(Image.open(tmp_path / "grids" / f"{DATASET}-g2_as_1.png"))
        decoded = decode(TinyDigits(3).images, 1)
        assert np.array_equal(tile(grid, 0, 0), pixels_of(decoded[0, 0]))
        assert (tile(grid, 0, 1) == 255).all()  # of class 1
        assert np.array_equal(tile(grid, 1, 0), pixels_of(decoded[2, 0]))
        assert (tile(grid, 1, 1) == 255).all()  # there is no fourth image
        full = np.asarray(Image.open(tmp_path / "grids" / f"{DATASET}-original.png"))
        assert np.array_equal(tile(full, 0, 1), pixels_of(TinyDigits(3).images[1, 0]))

    def test_colour_and_one_decoder(self, tmp_path):
        run_test(tmp_path, cb.SampleGrid(1, 2), data=loader(2))
        assert sorted(path.name for path in (tmp_path / "grids").iterdir()) == ["tiny-original.png", "tiny.png"]
        data = TinyImages(2)
        for name, code in (("tiny", TinyCodec().code), ("tiny-original", lambda image: image)):
            grid = np.asarray(Image.open(tmp_path / "grids" / f"{name}.png"))
            for i in range(2):
                shown = pixels_of(code(data[i]["image"])).transpose(1, 2, 0)
                assert np.array_equal(tile(grid, 0, i, data.side), shown)

    def test_sizes_that_differ(self, tmp_path):
        class Mixed(Decoders):
            def test_step(self, batch, batch_idx):
                if batch_idx == 1:
                    batch = {**batch, "image": batch["image"][..., :16]}
                return super().test_step(batch, batch_idx)

        metric = cb.Mse()
        with pytest.warns(UserWarning, match=r"no grid of tiny-test-g1: .*\(32x32\) and .*\(16x32\) differ"):
            run_test(tmp_path, cb.SampleGrid(), metric, model=Mixed("g1"), data=digits(4))
        assert metric.summary and not (tmp_path / "grids").exists()

    def test_trial_run_writes_nothing(self, tmp_path):
        run_test(tmp_path, cb.SampleGrid(), model=Decoders("g1"), data=digits(4), fast_dev_run=1)
        assert not (tmp_path / "grids").exists()

    def test_needs_a_tile(self):
        with pytest.raises(ValueError, match="not 0 and 10"):
            cb.SampleGrid(rows=0)


class TestLoggers:
    def test_tensorboard(self, tmp_path):
        logger = TensorBoardLogger(tmp_path / "log")
        fitter = trainer(tmp_path, cb.SampleGrid(1, 2), logger=logger, max_steps=1, num_sanity_val_steps=1)
        fitter.fit(Decoders("g1", "g2"), digits(2), digits(3))
        logger.finalize("success")
        events = EventAccumulator(logger.log_dir).Reload()
        assert events.Tags()["images"] == [f"val/{DATASET}-g1/grid", f"val/{DATASET}-g2/grid"]
        (shown,) = events.Images(f"val/{DATASET}-g2/grid")
        assert (shown.height, shown.width) == (SIDE, 2 * SIDE)
        assert not (tmp_path / "grids").exists()

    def test_wandb(self, tmp_path, monkeypatch):
        monkeypatch.setenv("WANDB_SILENT", "true")
        logger = WandbLogger(save_dir=tmp_path, offline=True, project="test")
        fitter = trainer(tmp_path, cb.SampleGrid(1, 2), logger=logger, max_steps=1)
        fitter.fit(Decoders("g1"), digits(2), digits(3))
        logger.experiment.finish()
        (file,) = tmp_path.rglob(f"media/images/val/{DATASET}-g1/grid*.png")
        images = TinyDigits(3).images
        expected = np.concatenate([pixels_of(decode(images[i : i + 1], 0)[0, 0]) for i in range(2)], axis=1)
        assert np.array_equal(np.asarray(Image.open(file).convert("L")), expected)


class TestGreyReconstructions:
    def test_files_hold_the_measured_pixels(self, tmp_path):
        data = digits(3)
        run_test(
            tmp_path, cb.Reconstructions(panel_images=1), cb.ResultRecord(), model=Decoders("g1", "g2"), data=data
        )
        for name, realism in (("g1", 0), ("g2", 1)):
            series = f"{DATASET}-{name}"
            rows = json.loads((tmp_path / "results" / f"{series}.json").read_text())["images"]
            assert len(rows) == 3
            for row in rows:
                path = png_path(tmp_path / "reconstructions", series, row["name"])
                assert (tmp_path / "results" / row["reconstruction"]).resolve() == path
                image = next(TinyDigits(3)[i]["image"] for i in range(3) if TinyDigits(3)[i]["name"] == row["name"])
                with Image.open(path) as picture:
                    assert picture.mode == "L"
                    assert np.array_equal(np.asarray(picture), pixels_of(decode(image[None], realism)[0, 0]))
            assert [path.name for path in (tmp_path / "pictures" / series).iterdir()] == ["test-00003.png"]

    def test_predict(self, tmp_path):
        writer = trainer(tmp_path, cb.Reconstructions(max_images=1, panel_images=0))
        writer.predict(Decoders("g1", "g2"), digits(3))
        written = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.png"))
        folder = Path("reconstructions")
        assert written == [folder / f"{DATASET}-{name}" / "test-00003.png" for name in ("g1", "g2")]

    def test_validation(self, tmp_path):
        logger = TensorBoardLogger(tmp_path / "log")
        fitter = trainer(tmp_path, cb.Reconstructions(log_images=1), logger=logger, max_steps=1)
        fitter.fit(Decoders("g1", "g2"), digits(2), digits(3))
        logger.finalize("success")
        events = EventAccumulator(logger.log_dir).Reload()
        tags = [f"val/{DATASET}-{name}/reconstructions/test-00003" for name in ("g1", "g2")]
        assert events.Tags()["images"] == tags
