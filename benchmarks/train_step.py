"""Time of one training step: TACO in float32 and bf16 against CompressAI's Elic2022Official, in one run.

    python benchmarks/train_step.py [--rounds 5] [--threads 2]

Batch 4 of 256x256, rate and MSE, forward, backward, clipping and Adam. The contestants take turns, so that a slow
minute of the machine meets all of them; the medians of the rounds are compared.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from compressai.models import Elic2022Official
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from lightning_modules.codecs.elic import ElicCodec
from lightning_modules.codecs.taco import TacoCodec, TextFeatures
from lightning_modules.losses.rate_distortion import squared_error_255

BATCH, SIDE, LMBDA = 4, 256, 0.0016
REFERENCE = "CompressAI Elic2022Official, float32"


def loss_of(out: Any, x: Tensor) -> Tensor:
    """λ·255²·MSE plus bits per pixel, for both output conventions."""
    bits = torch.stack([-torch.log2(values).sum() for values in out["likelihoods"].values()]).sum()
    return bits / x[:, 0].numel() + LMBDA * squared_error_255(x, out["x_hat"].float())


def step_of(model: nn.Module, forward: Callable[[Tensor], Any], device: str, bf16: bool) -> Callable[[Tensor], None]:
    """One training step of `model` as a function of the batch."""
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

    def step(x: Tensor) -> None:
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            out = forward(x)
        loss_of(out, x).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="timed steps of each contestant")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    x = torch.rand(BATCH, 3, SIDE, SIDE, device=options.device)
    text = TextFeatures(
        torch.randn(BATCH, 38, 512, device=options.device), torch.randn(BATCH, 512, device=options.device)
    )
    reference, elic, taco, taco_bf16 = (
        model.to(options.device) for model in (Elic2022Official(), ElicCodec(), TacoCodec(), TacoCodec())
    )
    steps = {
        REFERENCE: step_of(reference, reference, options.device, False),
        "ELIC backbone, float32": step_of(elic, elic, options.device, False),
        "TACO, float32": step_of(taco, lambda x: taco(x, text), options.device, False),
        "TACO, bf16-mixed": step_of(taco_bf16, lambda x: taco_bf16(x, text), options.device, True),
    }
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(options.rounds + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step(x)
            if round_:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    table = Table("contestant", "s/step (median)", "speed against CompressAI", title="one training step")
    base = statistics.median(seconds[REFERENCE])
    for name, times in seconds.items():
        median = statistics.median(times)
        table.add_row(name, f"{median:.2f}", f"{base / median:.2f}x")
    Console().print(table)


if __name__ == "__main__":
    main()
