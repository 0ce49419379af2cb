"""Time of one epoch of MNIST at 32x32: `DigitsDataModule` against torchvision's MNIST in a DataLoader, in one run.

    python benchmarks/digits_loading.py [--root DATA_ROOT/mnist] [--rounds 3] [--network WIDTH] [--device cuda]

Shuffled batches of 128 on the training device, torchvision with `Resize(32)`, `ToTensor` and 2 persistent workers.
The contestants take turns; the medians of the rounds are compared. With `--network` each batch also is a step of
stage 1 of the digits codec in that width (128 in the paper). The network alone, on one batch again and again, is a
third contestant: faster than that no loading can be.
"""

import argparse
import gzip
import itertools
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from lightning import Trainer
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import MNIST
from torchvision.transforms import Compose, Resize, ToTensor

from datamodules.digits import DigitsDataModule
from lightning_modules.codecs.digits import DigitCodec
from lightning_modules.conditional import stage1_loss

BATCH = 128
REFERENCE, OURS = "torchvision MNIST, DataLoader, 2 workers", "DigitsDataModule"
ALONE = "the network alone"


def torchvision_loader(root: Path, folder: Path, device: str) -> DataLoader[tuple[Tensor, Tensor]]:
    """The usual loader, over the files of `root` unpacked into torchvision's layout in `folder`."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for path in root.glob("*-ubyte*"):
        if path.suffix == ".gz":
            (raw / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
        else:
            shutil.copy(path, raw)
    return DataLoader(
        MNIST(str(folder), transform=Compose([Resize(32), ToTensor()])),
        batch_size=BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=2,
        persistent_workers=True,
        pin_memory=device == "cuda",
    )


def network_step(device: str, width: int) -> Callable[[Tensor, Tensor], None]:
    """A step of stage 1, as a function of images and labels."""
    codec = DigitCodec(bits=16, width=width).to(device)
    optimizer = torch.optim.RMSprop(codec.parameters(), lr=1e-3)

    def step(x: Tensor, y: Tensor) -> None:
        loss, _ = stage1_loss(codec, codec(x, y), x, None)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def seconds_per_epoch(
    batches: Iterable[tuple[Tensor, Tensor]], step: Callable[[Tensor, Tensor], None], device: str
) -> float:
    """Time one pass, with the batches on the device at its end."""
    start = time.perf_counter()
    count = 0
    for x, y in batches:
        step(x.to(device, non_blocking=True), y.to(device, non_blocking=True))
        count += 1
    if device == "cuda":
        torch.cuda.synchronize()
    assert count == 60000 // BATCH
    return time.perf_counter() - start


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(os.environ.get("DATA_ROOT", "data")) / "mnist")
    parser.add_argument("--rounds", type=int, default=3, help="timed epochs of each contestant")
    parser.add_argument("--network", type=int, metavar="WIDTH", help="train a codec of this width on each batch, too")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    module = DigitsDataModule(str(options.root), batch_size=BATCH, val_images=0)
    module.trainer = Trainer(
        accelerator=options.device, devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    start = time.perf_counter()
    ours = module.train_dataloader()
    ours.progress = None  # of a trainer that fits; here every batch handed out is done
    setup = time.perf_counter() - start
    step = network_step(options.device, options.network) if options.network else lambda x, y: None
    seconds: dict[str, list[float]] = {REFERENCE: [], OURS: [], **({ALONE: []} if options.network else {})}
    with tempfile.TemporaryDirectory() as folder:
        theirs = torchvision_loader(options.root, Path(folder), options.device)

        def epoch(name: str, number: int) -> Iterable[tuple[Tensor, Tensor]]:
            if name == REFERENCE:
                return theirs
            ours.sampler.set_epoch(number)
            batches = ((batch["image"], batch["label"]) for batch in ours)
            return batches if name == OURS else itertools.repeat(next(batches), len(ours))

        for number in range(options.rounds + 1):
            for name, times in seconds.items():
                taken = seconds_per_epoch(epoch(name, number), step, options.device)
                if number:  # the first round warms up
                    times.append(taken)
    reference = statistics.median(seconds[REFERENCE])
    what = f"loading and training, width {options.network}" if options.network else "loading"
    table = Table("contestant", "s/epoch (median)", "speed", title=f"an epoch of MNIST, {what}, {options.device}")
    for name, times in seconds.items():
        median = statistics.median(times)
        table.add_row(name, f"{median:.3f}", f"{reference / median:.2f}x")
    Console().print(table)
    print(f"reading and resizing once, at setup: {setup:.1f} s")


if __name__ == "__main__":
    main()
