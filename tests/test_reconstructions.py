"""Pictures of a run, and how its files are written."""

from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image, ImageFont
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import callbacks as cb
import callbacks.save_config
from callbacks.pictures import comparison, wrap
from callbacks.run_files import png_path
from lightning_modules.files import write_atomically
from tests.callback_helpers import TinyCodec, TinyImages, images_of, loader, run_test, trainer


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
