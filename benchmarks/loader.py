"""Reading captioned photographs: the TACO authors' way against ours, on COCO's own JPEG files, in one run.

    python benchmarks/loader.py [--root DATA_ROOT/coco_mini] [--rounds 7] [--images 10000] [--steps 30]

Batches of four 256x256 random crops with the caption's tokens, each image with one caption, on one thread without
workers. Theirs, written out here: open, convert, torchvision's RandomCrop and ToTensor, and the tokeniser on each
caption. Ours: `CaptionedDataset`, and the captions of a batch tokenised in one call. Before anything is timed, every
crop of ours is compared, bit for bit, with decoding as they do and cropping at our place. The contestants take turns
of a few batches; a round is an epoch of each. The medians of the rounds are compared, by the clock and by the
processor's time, which a busy machine disturbs less, and the range of the ratio over the rounds says how much noise
there is.

Then the model of `configs/demo.yaml` trains on such batches (of its own size) from a loader with two workers, and,
for comparison, on one batch in memory: how long does it wait for data? `--steps 0` leaves this out.
"""

import argparse
import itertools
import logging
import math
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from omegaconf import OmegaConf
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import Compose, RandomCrop, ToTensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from datamodules import transforms
from datamodules.batch import Batch
from datamodules.coco import CocoCaptionsDataModule
from datamodules.decoding import Decode
from datamodules.sampler import KeyedSampler, ResumableLoader
from datamodules.samples import CaptionedDataset, Sample, collate, image_size
from lightning_modules.codecs.clip import ClipPart
from lightning_modules.codecs.text_encoder import ClipTextEncoder
from lightning_modules.losses.joint_image_text import JointLossPart
from lightning_modules.losses.perceptual import LpipsPart
from lightning_modules.taco import TacoModule

BATCH, SIDE, TOKENS = 4, 256, 38
TURN = 5
"""Batches that a contestant reads in one turn."""
THEIRS, OURS, FAST = "the authors' way", "ours, identical pixels", "ours, --data.decode fast"
CONFIGS = Path(__file__).resolve().parent.parent / "configs"


class TheirDataset(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Image, token ids and mask of a sample with its first caption, by the usual tools."""

    def __init__(self, samples: list[Sample], tokenizer: CLIPTokenizer) -> None:
        self.samples = samples
        self.tokenizer = tokenizer
        self.transform = Compose([RandomCrop(SIDE), ToTensor()])

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        sample = self.samples[index]
        image = self.transform(Image.open(sample.path).convert("RGB"))
        text = self.tokenizer(
            sample.captions[0], padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt"
        )
        return image, text["input_ids"][0], text["attention_mask"][0]


def photographs(root: Path, count: int) -> list[Sample]:
    """Up to `count` captioned photographs of both splits that a crop fits into."""
    coco = CocoCaptionsDataModule(str(root), year=2017)
    samples = coco.training_samples() + coco.test_samples()
    return [sample for sample in samples if min(image_size(sample)) >= SIDE][:count]


def our_loader(samples: list[Sample], side: int, decode: Decode, num_workers: int = 0) -> ResumableLoader:
    """A shuffled loader of random crops, as the datamodules make it."""
    dataset = CaptionedDataset(samples, transforms.RandomCrop(side), decode=decode)
    sampler = KeyedSampler(len(dataset), BATCH)
    return ResumableLoader(dataset, sampler, partial(collate, dataset="coco"), num_workers)


def check_pixels(loader: ResumableLoader) -> int:
    """Compare every crop of an epoch with decoding the whole image and cropping; gives how many there were."""
    crop, tensor = transforms.RandomCrop(SIDE), ToTensor()
    count = 0
    for batch in loader:
        for path, key, image in zip(batch["path"], batch["key"].tolist(), batch["image"], strict=True):
            whole = Image.open(path).convert("RGB")
            assert torch.equal(image, tensor(whole.crop(crop.box(whole.size, key)))), path
            count += 1
    return count


def mean_difference(loader: ResumableLoader, other: ResumableLoader) -> tuple[float, float, float]:
    """Largest and mean difference of pixels, of 255, and PSNR in dB over all of an epoch."""
    largest, mean, square = [], [], []
    for one, two in zip(loader, other, strict=True):
        difference = one["image"] - two["image"]
        largest.append(float(difference.abs().max()))
        mean.append(float(difference.abs().mean()))
        square.append(float(difference.square().mean()))
    return 255 * max(largest), 255 * statistics.mean(mean), -10 * math.log10(statistics.mean(square))


def compare(samples: list[Sample], tokenizer: CLIPTokenizer, rounds: int) -> Table:
    """Time epochs of the three contestants in turns."""
    encoder = ClipTextEncoder(CLIPTextModel(CLIPTextConfig(hidden_size=64, num_hidden_layers=1)), tokenizer, TOKENS)
    theirs = DataLoader(TheirDataset(samples, tokenizer), batch_size=BATCH, shuffle=True, drop_last=True)
    exact, fast = our_loader(samples, SIDE, "exact"), our_loader(samples, SIDE, "fast")

    def read(loader: ResumableLoader, epoch: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            yield batch["image"], *encoder.tokenize(batch["caption"])

    contestants: dict[str, Callable[[int], Iterable[tuple[Tensor, Tensor, Tensor]]]] = {
        THEIRS: lambda epoch: theirs,
        OURS: lambda epoch: read(exact, epoch),
        FAST: lambda epoch: read(fast, epoch),
    }
    print(f"pixels: {check_pixels(exact)} crops equal decoding everything and cropping, bit for bit")
    largest, mean, psnr = mean_difference(exact, fast)
    print(f"fast differs by at most {largest:.0f} and on average {mean:.2f} of 255, PSNR {psnr:.1f} dB")
    our_blocks = Image.core.get_blocks_max()
    clock: dict[str, list[float]] = {name: [] for name in contestants}
    processor: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        epochs = {name: iter(epoch(number)) for name, epoch in contestants.items()}
        spent = dict.fromkeys(contestants, (0.0, 0.0))
        for _ in range(len(samples) // BATCH // TURN):
            for name, batches in epochs.items():
                # What datamodules.decoding sets for the whole process is part of our way, not of theirs.
                Image.core.set_blocks_max(0 if name == THEIRS else our_blocks)
                start, start_processor = time.perf_counter(), time.process_time()
                for image, ids, mask in itertools.islice(batches, TURN):
                    assert image.shape == (BATCH, 3, SIDE, SIDE) and ids.shape == mask.shape == (BATCH, TOKENS)
                wall, cpu = spent[name]
                spent[name] = wall + time.perf_counter() - start, cpu + time.process_time() - start_processor
        if number:  # the first round warms up
            count = len(samples) // BATCH // TURN * TURN * BATCH
            for name, (wall, cpu) in spent.items():
                clock[name].append(wall / count * 1e3)
                processor[name].append(cpu / count * 1e3)
    Image.core.set_blocks_max(our_blocks)
    table = Table("contestant", "images/s", "ms/image", "speed", "CPU ms/image", "speed by CPU time", "in rounds")
    for name in contestants:
        ratios = [theirs_ / ours for theirs_, ours in zip(processor[THEIRS], processor[name], strict=True)]
        by_clock, by_processor = statistics.median(clock[name]), statistics.median(processor[name])
        table.add_row(
            name,
            f"{1e3 / by_clock:.0f}",
            f"{by_clock:.2f}",
            f"{statistics.median(clock[THEIRS]) / by_clock:.2f}x",
            f"{by_processor:.2f}",
            f"{statistics.median(processor[THEIRS]) / by_processor:.2f}x",
            f"{min(ratios):.2f}x to {max(ratios):.2f}x",
        )
    table.title = f"{len(samples)} photographs, one thread, median of {rounds} rounds"
    return table


class Timed:
    """Batches for a trainer, with how long each was waited for, in seconds."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self.batches = batches
        self.waited: list[float] = []

    def __iter__(self) -> Iterator[Batch]:
        iterator = iter(self.batches)
        while True:
            start = time.perf_counter()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self.waited.append(time.perf_counter() - start)
            yield batch


class StepEnds(L.Callback):
    """When each training step ended, in seconds."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *args: Any) -> None:
        """Look at the clock."""
        self.ends.append(time.perf_counter())


def demo_model() -> tuple[TacoModule, int]:
    """The model of `configs/demo.yaml`, and the side of its crops."""
    config: Any = OmegaConf.merge(*(OmegaConf.load(CONFIGS / name) for name in ("taco.yaml", "demo.yaml")))
    settings: Any = OmegaConf.to_container(config.model.init_args)
    parts = {"clip": ClipPart, "lpips": LpipsPart, "joint": JointLossPart}
    settings.update({name: part(**settings[name]) for name, part in parts.items()})
    return TacoModule(**settings), config.data.init_args.crop_size


def train(batches: Iterable[Batch], steps: int) -> tuple[float, float]:
    """Train the demo model; gives the median seconds of a step and the share of its time that it waited for data."""
    torch.manual_seed(0)
    module, _ = demo_model()
    timed, ends = Timed(batches), StepEnds()
    warm_up = 5
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            accelerator="cpu",
            max_steps=warm_up + steps,
            callbacks=[ends],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        trainer.fit(module, train_dataloaders=timed)
    durations = [later - earlier for earlier, later in itertools.pairwise(ends.ends[warm_up - 1 :])]
    return statistics.median(durations), sum(timed.waited[warm_up : warm_up + steps]) / sum(durations)


def starvation(samples: list[Sample], steps: int) -> Table:
    """Time training steps on batches from two workers and on one batch in memory."""
    side = demo_model()[1]

    def epochs() -> Iterator[Batch]:
        loader = our_loader(samples, side, "exact", num_workers=2)
        for epoch in itertools.count():
            loader.sampler.set_epoch(epoch)
            yield from loader

    one = next(iter(our_loader(samples, side, "exact")))
    table = Table("batches", "s/step (median)", "waited for data", title=f"the demo model, {steps} steps")
    for name, batches in (("one, in memory", itertools.repeat(one)), ("loader, 2 workers", epochs())):
        seconds, waited = train(batches, steps)
        table.add_row(name, f"{seconds:.3f}", f"{100 * waited:.2f} %")
    return table


def main() -> None:
    """Run and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(os.environ.get("DATA_ROOT", "data"))
    parser.add_argument("--root", type=Path, default=data / "coco_mini", help="COCO 2017 in its official layout")
    parser.add_argument("--vocabulary", type=Path, default=data / "clip_vocab", help="folder of CLIP's tokeniser")
    parser.add_argument("--rounds", type=int, default=7, help="timed epochs of each contestant")
    parser.add_argument("--images", type=int, default=10_000, help="photographs at most")
    parser.add_argument("--steps", type=int, default=30, help="timed steps of the demo model; 0 for none")
    options = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one thread, for theirs and ours
    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    samples = photographs(options.root, options.images)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    Console().print(compare(samples, CLIPTokenizer.from_pretrained(str(options.vocabulary)), options.rounds))
    torch.set_num_threads(threads)
    if options.steps:
        Console().print(starvation(samples, options.steps))


if __name__ == "__main__":
    main()
