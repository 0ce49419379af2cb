"""Images that are none: no figure, and a reason that names them."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from callbacks.pixel_check import ImageSizeError
from callbacks.quality import Mse, MsSsim, Psnr
from callbacks.rate import Bpp
from callbacks.result_record import ResultRecord
from callbacks.segmenters import HuggingFaceSegmenter
from callbacks.tasks import MeanIou
from datamodules.batch import Batch
from lightning_modules.step_output import StepOutput
from tests.callback_helpers import TinyCodec, loader, record, run_test


class BrokenCodec(TinyCodec):
    """Spoils the reconstruction of im7.jpg."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> StepOutput:
        output = super().test_step(batch, batch_idx)
        for i, name in enumerate(output["name"]):
            if name == "im7.jpg":
                output["x_hat"][i, 1, 2, 3] = self.value
        return output


def output_of(image: Tensor, x_hat: Tensor, **more: Tensor) -> StepOutput:
    count = len(image)
    return {
        "dataset": "d",
        "name": [f"{i}.png" for i in range(count)],
        "image": image,
        "x_hat": x_hat,
        "bits": torch.ones(count, dtype=torch.float64),
        "likelihood_bits": {"y": torch.ones(count, dtype=torch.float64)},
        **more,
    }


class TestBadPixels:
    @pytest.mark.parametrize(
        ("value", "reason"), [(math.nan, "NaN"), (math.inf, "NaN or infinite"), (1.5, "reaches from 0 to 1.5")]
    )
    def test_no_figure_for_an_image_that_is_none(self, tmp_path, value, reason):
        metrics = [Psnr(), Mse(), MsSsim(), Bpp()]
        run_test(tmp_path, *metrics, ResultRecord(), model=BrokenCodec(value), data=loader(5, batch_size=2))
        written = record(tmp_path)
        for name in ("psnr", "mse", "bpp"):
            assert written["not_available"][name].startswith("1 of 5 images: im7.jpg: the reconstruction ")
            assert reason in written["not_available"][name]
            rows = {row["name"]: row[name] for row in written["images"]}
            assert rows.pop("im7.jpg") is None and None not in rows.values()
            assert written["mean"][name] == pytest.approx(np.mean(list(rows.values())))
        assert (
            "im7.jpg" in written["not_available"]["ms_ssim"] and "160 pixels" in written["not_available"]["ms_ssim"]
        )

    def test_bad_originals_and_all_bad(self):
        metric = Psnr()
        image = torch.rand(2, 3, 32, 32)
        metric.update(output_of(image * math.nan, image))
        metric.conclude()
        assert metric.summary == {}
        assert metric.not_available["d"]["psnr"].startswith("all images: 0.png: the original holds NaN")

    @pytest.mark.parametrize("metric", [Psnr(), Mse(), MsSsim(), MeanIou(HuggingFaceSegmenter("a/b"))])
    def test_sizes_that_differ(self, metric):
        with pytest.raises(ImageSizeError, match=r"0\.png: .*\(1, 3, 32, 32\), the reconstructions \(1, 3, 32, 40\)"):
            metric.update(output_of(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 40)))
