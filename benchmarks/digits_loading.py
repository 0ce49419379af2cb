"""Time of one epoch of MNIST at 32x32: `DigitsDataModule` against torchvision's MNIST in a DataLoader, in one run.

    python benchmarks/digits_loading.py [--root DATA_ROOT/mnist] [--rounds 3] [--network] [--device cuda]

Shuffled batches of 128 on the training device, torchvision with `Resize(32)`, `ToTensor` and 2 persistent workers.
The contestants take turns; the medians of the rounds are compared. With `--network` each batch also trains the
autoencoder of the paper's Fig. 8 in width 32, which shows what the loading leaves of the gain.
"""

import argparse
import gzip
import itertools
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from lightning import Trainer
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import MNIST
from torchvision.transforms import Compose, Resize, ToTensor

from datamodules.digits import DigitsDataModule

BATCH = 128
REFERENCE, OURS = "torchvision MNIST, DataLoader, 2 workers", "DigitsDataModule"


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


def network_step(device: str, width: int = 32) -> Callable[[Tensor], None]:
    """A training step of an autoencoder of five layers down and five up, as a function of the batch."""
    widths = (1, width, 2 * width, 4 * width, width, 16)
    layers: list[nn.Module] = []
    for kind, path in ((nn.Conv2d, widths), (nn.ConvTranspose2d, widths[::-1])):
        for before, after in itertools.pairwise(path):
            layers += [kind(before, after, 4, 2, 1), nn.BatchNorm2d(after), nn.ReLU()]
    model = nn.Sequential(*layers[:-2]).to(device)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)

    def step(x: Tensor) -> None:
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), x).backward()
        optimizer.step()

    return step


def seconds_per_epoch(images: Iterable[Tensor], step: Callable[[Tensor], None], device: str) -> float:
    """Time one pass, with the batches on the device at its end."""
    start = time.perf_counter()
    count = 0
    for x in images:
        step(x.to(device, non_blocking=True))
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
    parser.add_argument("--network", action="store_true", help="train on each batch, too")
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
    step = network_step(options.device) if options.network else lambda x: None
    seconds: dict[str, list[float]] = {REFERENCE: [], OURS: []}
    with tempfile.TemporaryDirectory() as folder:
        theirs = torchvision_loader(options.root, Path(folder), options.device)

        def epoch(name: str, number: int) -> Iterator[Tensor]:
            if name == REFERENCE:
                return (images for images, _ in theirs)
            ours.sampler.set_epoch(number)
            return (batch["image"] for batch in ours)

        for number in range(options.rounds + 1):
            for name, times in seconds.items():
                taken = seconds_per_epoch(epoch(name, number), step, options.device)
                if number:  # the first round warms up
                    times.append(taken)
    ratio = statistics.median(seconds[REFERENCE]) / statistics.median(seconds[OURS])
    what = "loading and training" if options.network else "loading"
    table = Table("contestant", "s/epoch (median)", "speed", title=f"an epoch of MNIST, {what}, {options.device}")
    for name, times in seconds.items():
        table.add_row(name, f"{statistics.median(times):.3f}", f"{ratio if name == OURS else 1:.1f}x")
    Console().print(table)
    print(f"reading and resizing once, at setup: {setup:.1f} s")


if __name__ == "__main__":
    main()
