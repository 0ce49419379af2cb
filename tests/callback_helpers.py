"""A codec with one weight on smooth pictures, for the tests of the callbacks."""

import json
import math
from pathlib import Path

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.batch import Batch
from lightning_modules.step_output import StepOutput

SIDE = 40


class TinyImages(Dataset):
    """Smooth pictures, no two alike."""

    def __init__(self, count: int, dataset: str = "tiny", side: int = SIDE, classes: int = 0) -> None:
        self.count, self.dataset, self.side, self.classes = count, dataset, side, classes

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> dict:
        ramp = torch.linspace(0, 1, self.side)
        image = torch.stack([ramp.expand(self.side, -1), ramp[:, None].expand(-1, self.side), ramp.outer(ramp)])
        image = (((image + 0.13 * i) % 1) * 255).round() / 255
        # Names in another order than the dataset's, so that nothing relies on the two being the same.
        sample = {"image": image, "name": f"im{(7 * i) % 10}.jpg", "caption": f"ramp {i}", "dataset": self.dataset}
        return {**sample, "label": i % self.classes} if self.classes else sample


def collate(samples: list[dict]) -> Batch:
    batch: Batch = {
        "image": torch.stack([sample["image"] for sample in samples]),
        "name": [sample["name"] for sample in samples],
        "caption": [sample["caption"] for sample in samples],
        "dataset": samples[0]["dataset"],
        "key": torch.zeros(len(samples), dtype=torch.int64),
    }
    if "label" in samples[0]:
        batch["label"] = torch.tensor([sample["label"] for sample in samples])
    return batch


def loader(
    count: int = 5, batch_size: int = 1, dataset: str = "tiny", side: int = SIDE, classes: int = 0
) -> DataLoader:
    return DataLoader(TinyImages(count, dataset, side, classes), batch_size=batch_size, collate_fn=collate)


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
        output: StepOutput = {
            "dataset": batch["dataset"],
            "name": batch["name"],
            "image": batch["image"],
            "x_hat": self.code(batch["image"]),
            "bits": y + 10,
            "likelihood_bits": {"y": y, "z": torch.full_like(y, 10)},
            "caption": batch["caption"],
        }
        if "label" in batch:
            output["label"] = batch["label"]
        return output

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
