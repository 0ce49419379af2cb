"""Small data sets on disk, and a model that records what it is fed, for the tests of the datamodules."""

import json
import os
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import CaptionedFolderDataModule, SampleDataModule

needs_data = pytest.mark.skipif(
    "DATA_ROOT" not in os.environ, reason="DATA_ROOT is not set: it should be the folder with the test data"
)


def data(*parts: str) -> str:
    return str(Path(os.environ["DATA_ROOT"], *parts))


def write_images(folder: Path, count: int, size: tuple[int, int] = (40, 32)) -> list[str]:
    """Write small images whose every pixel is (number, x, y), so that a crop tells where it comes from."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"image{number}.png" for number in range(count)]
    y, x = np.mgrid[: size[1], : size[0]].astype(np.uint8)
    for number, name in enumerate(names):
        Image.fromarray(np.stack([np.full_like(x, number), x, y], -1)).save(folder / name)
    return names


def truncate(path: Path) -> None:
    """Replace an image by the first half of an incompressible one: a good header, too few pixels."""
    noise = np.random.default_rng(0).integers(0, 256, (32, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flat_keys(batches: Any) -> list[int]:
    return [key for batch in batches for key in batch["key"].tolist()]


def write_captioned_folder(root: Path) -> Path:
    """Write twenty small captioned images; gives their folder."""
    names = write_images(root / "folder", 20)
    captions = {name: [f"{name} {caption}" for caption in "abc"] for name in names}
    (root / "captions.json").write_text(json.dumps(captions))
    return root / "folder"


def folder_module(folder: Path, **kwargs: Any) -> CaptionedFolderDataModule:
    settings = {"crop_size": 16, "val_images": 4, "num_workers": 0, "batch_size": 8} | kwargs
    return CaptionedFolderDataModule(str(folder), str(folder.parent / "captions.json"), **settings)


# 16 images x 3 captions in batches of 8.
STEPS_PER_EPOCH = 6


class Recorder(L.LightningModule):
    """Records the keys it is trained on; fails at `fail_at_step` as a crash would, before the update."""

    def __init__(self, fail_at_step: int | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.fail_at_step = fail_at_step
        self.seen: list[list[int]] = []
        self.validated: list[str] = []

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.global_step == self.fail_at_step:
            raise InterruptedError("as if the machine went away")
        self.seen.append(batch["key"].tolist())
        return self.weight * batch["image"].mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.validated += batch["name"]

    def predict_step(self, batch: Any, batch_idx: int) -> list[str]:
        return batch["name"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(**kwargs: Any) -> L.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    kwargs.setdefault("enable_checkpointing", bool(kwargs.get("callbacks")))
    return L.Trainer(accelerator="cpu", **{**quiet, "num_sanity_val_steps": 0, **kwargs})


def sample_data(**overrides: Any) -> SampleDataModule:
    """Small crops of the embedded photographs: 11 steps per epoch."""
    settings: dict[str, Any] = {"crops_per_image": 2, "batch_size": 2, "crop_size": 64, "num_workers": 0, **overrides}
    return SampleDataModule(**settings)
