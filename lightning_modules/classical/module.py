"""A classical codec in the place of a trained one: tests, metrics and records are the same."""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import Any, cast

import lightning as L
import numpy as np
import torch
from torch import Tensor

from lightning_modules.classical.codec import ClassicalCodec, ClassicalCodecError, Pixels
from lightning_modules.classical.search import Trial, find_rate
from lightning_modules.codec_module import to_8_bit
from lightning_modules.files import write_atomically
from lightning_modules.step_output import StepOutput, handed_on


class ClassicalModule(L.LightningModule):
    """Codes each test image to a file, reads the file back and decodes it. It has no parameters.

    Args:
        codec: The codec.
        value: Of its setting, for all images.
        target_bpp: Or a rate: each image then has the value at which its rate is nearest to this (`find_rate`). Its
            encoding time is that of this value alone, without the search.

    Raises:
        ClassicalCodecError: Not exactly one of `value` and `target_bpp` is given, the value is not one of the
            codec's, the rate is not above 0, or the codec is not on this machine.
    """

    def __init__(self, codec: ClassicalCodec, value: float | None = None, target_bpp: float | None = None) -> None:
        super().__init__()
        if (value is None) == (target_bpp is None):
            raise ClassicalCodecError(f"{codec.name}: give either a value of {codec.setting.name} or a target rate")
        if target_bpp is not None and not 0 < target_bpp < float("inf"):
            raise ClassicalCodecError(f"a rate of {target_bpp:g} bpp cannot be met: correct --target_bpp")
        codec.check_available()
        self.codec = codec
        self.value = None if value is None else codec.setting.check(codec.name, value)
        self.target_bpp = target_bpp

    def point(self) -> str:
        """Name of the point on the codec's curve: "quality_75", "target_bpp_0.1"."""
        if self.value is not None:
            return self.codec.setting.label(self.value)
        return f"target_bpp_{self.target_bpp:g}"

    def result_identity(self) -> dict[str, Any]:
        """What a result record is about: the codec and its setting, the number that trades rate for quality first."""
        codec = self.codec
        chosen = {codec.setting.name: self.value} if self.value is not None else {"target_bpp": self.target_bpp}
        return {
            "codec": codec.name,
            "lambda": None,
            "weights": None,
            "parameters": {},
            "kmacs_per_pixel": {},
            "setting": {**chosen, **codec.describe()},
        }

    def test_step(self, batch: Any, batch_idx: int) -> StepOutput:
        """Code each image to a file, read it back and decode it."""
        codec = self.codec
        folder = Path(self.trainer.default_root_dir) / "bitstreams" / batch["dataset"]
        trials, files, pictures, decoding = [], [], [], []
        for name, x in zip(batch["name"], batch["image"], strict=True):
            pixels = _to_pixels(x, name)
            trial = self._code(pixels, name)
            file = folder / f"{name}{codec.suffix}"
            write_atomically(file, functools.partial(Path.write_bytes, data=trial.data))
            height, width = pixels.shape[:2]
            start = time.perf_counter()
            decoded = codec.decode(file.read_bytes(), (height, width))
            decoding.append(time.perf_counter() - start)
            pictures.append(torch.from_numpy(decoded.copy()).permute(2, 0, 1))
            trials.append(trial)
            files.append(file)
        sizes = [8 * file.stat().st_size for file in files]
        output: dict[str, Any] = {
            "dataset": batch["dataset"],
            "name": batch["name"],
            "image": batch["image"],
            "x_hat": torch.stack(pictures).to(self.device).float().div(255),
            "bits": torch.tensor(sizes, dtype=torch.float64, device=self.device),
            "likelihood_bits": {},
            "file": files,
            "encode_seconds": [trial.seconds for trial in trials],
            "decode_seconds": decoding,
            **handed_on(batch),
        }
        if self.target_bpp is not None:
            output["setting"] = [trial.value for trial in trials]  # for `ChosenSetting`
        return cast(StepOutput, output)

    def _code(self, pixels: Pixels, name: str) -> Trial:
        def code(value: float) -> Trial:
            start = time.perf_counter()
            data = self.codec.encode(pixels, value)
            seconds = time.perf_counter() - start
            return Trial(value, data, seconds, 8 * len(data) / (pixels.shape[0] * pixels.shape[1]))

        if self.value is not None:
            return code(self.value)
        assert self.target_bpp is not None
        return find_rate(self.codec, code, self.target_bpp, name)


def _to_pixels(x: Tensor, name: str) -> Pixels:
    """uint8 (H, W, 3) of float (3, H, W) in [0, 1], rounded to the nearest level as test images are."""
    if x.shape[0] != 3:
        raise ClassicalCodecError(f"{name} has {x.shape[0]} channels; classical codecs are given RGB pictures here")
    return np.ascontiguousarray(to_8_bit(x).mul(255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy())
