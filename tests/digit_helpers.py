"""Small digits codecs and modules, always with the same weights."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datamodules import DigitsDataModule
from lightning_modules.codecs.digits import DigitCodec
from lightning_modules.conditional import MseTraining
from lightning_modules.perceptual_decoder import AdversarialTraining
from lightning_modules.two_stage import TwoStageModule
from tests.conftest import quiet_trainer

WIDTH = 8


def small_codec(bits: int = 4, conditional: bool = True, **overrides: Any) -> DigitCodec:
    """A narrow codec whose entropy model is far from uniform."""
    torch.manual_seed(0)
    codec = DigitCodec(**{"bits": bits, "conditional": conditional, "width": WIDTH, **overrides})
    for parameter in codec.prior.parameters():
        torch.nn.init.normal_(parameter, 0, 1.5)
    return codec.eval()


def with_g2(codec: DigitCodec, noise_dim: int = 20) -> DigitCodec:
    """The codec with a random perceptual decoder attached."""
    codec.perceptual = codec.perceptual_decoder(noise_dim).eval()
    return codec


def random_digits(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 32, 32) and labels."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 1, 32, 32, generator=generator), torch.randint(0, 10, (count,), generator=generator)


def small_two_stage(**overrides: Any) -> TwoStageModule:
    """A narrow two-stage module: one epoch of each stage by default."""
    torch.manual_seed(0)
    adversarial = AdversarialTraining(**{"noise_dim": 6, **overrides.pop("adversarial", {})})
    mse = MseTraining(**overrides.pop("mse", {}))
    settings: dict[str, Any] = {"stage1_epochs": 1, "mse": mse, "adversarial": adversarial, **overrides}
    return TwoStageModule(DigitCodec(bits=4, width=WIDTH), **settings)


def digits_data(**overrides: Any) -> DigitsDataModule:
    """The embedded digits in batches of 64: 20 steps an epoch."""
    return DigitsDataModule(**{"batch_size": 64, "val_images": 128, **overrides})


def fit(module: Any, folder: Path, epochs: int = 2, **overrides: Any) -> Any:
    """Train on the embedded digits; returns the trainer."""
    trainer = quiet_trainer(folder, max_epochs=epochs, limit_val_batches=0, gradient_clip_val=None, **overrides)
    trainer.fit(module, datamodule=digits_data())
    return trainer
