"""A codec of digits with three decoders that writes one file, and the same run on one process and on several."""

import json
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import callbacks as cb
from callbacks.extractors import RandomFeatures
from datamodules.batch import Batch
from lightning_modules.step_output import Decoder, StepOutput
from tests.callback_helpers import trainer

SIDE = 32
DATASET = "tiny-test"
DECODERS = {"g1": 0.0, "realism_0.5": 0.5, "g2": 1.0}
STREAM_BITS = 416
CLASSES = 2


class TinyDigits(Dataset):
    """Grey pictures of two classes, no two alike, with the names of digits."""

    def __init__(self, count: int, side: int = SIDE) -> None:
        generator = torch.Generator().manual_seed(3)
        self.images = (torch.rand(count, 1, side, side, generator=generator) * 255).round() / 255

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> dict[str, Any]:
        # Names fall where places rise, so that an order by name would show.
        return {"image": self.images[i], "label": i % CLASSES, "name": f"test-{len(self) - i:05d}"}


def collate(samples: list[dict[str, Any]]) -> Batch:
    return {
        "image": torch.stack([sample["image"] for sample in samples]),
        "label": torch.tensor([sample["label"] for sample in samples]),
        "name": [sample["name"] for sample in samples],
        "dataset": DATASET,
        "key": torch.zeros(len(samples), dtype=torch.int64),
    }


def digits(count: int = 9, batch_size: int = 2) -> DataLoader:
    return DataLoader(TinyDigits(count), batch_size=batch_size, collate_fn=collate)


def decode(image: Tensor, realism: float) -> Tensor:
    """g1 blurs to the mean, g2 posterises, between them a weighted mean."""
    mean, posterised = image.mean(dim=(2, 3), keepdim=True), (3 * image).round() / 3
    return (((1 - realism) * mean + realism * posterised).clamp(0, 1) * 255).round() / 255


class Decoders(L.LightningModule):
    """Returns one step output per decoder.

    Args:
        names: of the decoders.
        swapped: add the decoder `g2_as_1`, which leaves out the images of class 1.
        alone: return the output itself where there is but one.
    """

    def __init__(self, *names: str, swapped: bool = False, alone: bool = False) -> None:
        super().__init__()
        self.names, self.swapped, self.alone = names or tuple(DECODERS), swapped, alone
        self.gain = torch.nn.Parameter(torch.ones(()))
        self.unused = torch.nn.Parameter(torch.ones(()))

    def _outputs(self, batch: Batch, tested: bool) -> list[StepOutput] | StepOutput:
        outputs = [self._output(batch, name, DECODERS[name], tested) for name in self.names]
        if self.swapped:
            others = (batch["label"] != 1).nonzero().flatten().tolist()
            some: Batch = {
                "image": batch["image"][others],
                "label": torch.ones(len(others), dtype=torch.int64),
                "name": [batch["name"][i] for i in others],
                "dataset": batch["dataset"],
            }
            outputs.append(self._output(some, "g2_as_1", 1.0, tested))
        return outputs[0] if self.alone else outputs

    def _output(self, batch: Batch, name: str, realism: float, tested: bool) -> StepOutput:
        count = len(batch["name"])
        code = 3 + batch["image"].double().mean(dim=(1, 2, 3))
        output: StepOutput = {
            "dataset": f"{DATASET}-{name}",
            "series": Decoder(DATASET, name, realism),
            "name": batch["name"],
            "image": batch["image"],
            "x_hat": decode(batch["image"], realism),
            "bits": code + 1,
            "likelihood_bits": {"code": code, "label": torch.ones_like(code)},
            "label": batch["label"],
        }
        if tested:
            output |= {
                "bits": torch.full((count,), STREAM_BITS / 9, dtype=torch.float64),
                "file": [Path("stream.bin")] * count,
                "shared_file": True,
            }
        return output

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return (self.gain * batch["image"]).square().mean()

    def validation_step(self, batch: Batch, batch_idx: int) -> list[StepOutput] | StepOutput:
        return self._outputs(batch, tested=False)

    def test_step(self, batch: Batch, batch_idx: int) -> list[StepOutput] | StepOutput:
        return self._outputs(batch, tested=True)

    predict_step = test_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-3)

    def result_identity(self) -> dict[str, Any]:
        return {
            "codec": "digits",
            "lambda": None,
            "weights": "ab12",
            "parameters": {"g1": 1, "g2": 1},
            "setting": {"code_bits": 4, "side_information": "label"},
            "training": {"noise_dim": 86},
        }


def metrics(extractor: type[RandomFeatures] = RandomFeatures) -> list[cb.MetricCallback]:
    """Rate, error and realism, on features short enough that nine images are many."""
    return [
        cb.Mse(),
        cb.Bits(),
        cb.Bpp(),
        cb.Fid(extractor(6)),
        cb.ConFid(extractor(6), min_samples_per_class=1),
        cb.PatchFid(extractor(6), patch_size=16),
    ]


def validate_and_test(processes: int, folder: Path) -> None:
    """Validate in a fit, then test; rank 0 writes what was logged in validation."""
    # Under a name that makes DDP take the outputs of the step apart, as a GAN needs it.
    strategy = "ddp_find_unused_parameters_true" if processes > 1 else "auto"
    several = {"devices": processes, "strategy": strategy}
    model = Decoders(swapped=True)
    fitter = trainer(folder, *metrics(), max_steps=-1, max_epochs=1, **several)
    fitter.fit(model, digits(4), digits())
    if fitter.is_global_zero:
        logged = {name: float(value) for name, value in fitter.callback_metrics.items()}
        (folder / "validation.json").write_text(json.dumps(logged))
    extra = [cb.SampleGrid(3, 3), cb.Reconstructions(max_images=3, panel_images=0), cb.ResultRecord()]
    trainer(folder, *metrics(), *extra, **several).test(model, digits(), verbose=False)
