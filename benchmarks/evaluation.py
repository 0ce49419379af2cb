"""Time of PSNR, MS-SSIM and LPIPS by the callbacks, against the LPIPS network's pass alone, in one run.

    python benchmarks/evaluation.py [--images 1000] [--batch 1] [--threads 2]

256x256 images, batch size 1 as in `test`. Network and callbacks take turns batch by batch, so that a slow minute of
the machine meets both; medians over the batches are compared. AlexNet has random weights, which take the same time.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import callbacks as cb
from callbacks.metrics.precision import full_float32
from lightning_modules.step_output import StepOutput

SIDE = 256
NETWORK = "LPIPS network alone (AlexNet)"
ALL = "PSNR + MS-SSIM + LPIPS"


def coded_batch(size: int, number: int, device: str) -> StepOutput:
    """Pictures with structure at all scales, and noisy ones as reconstructions."""
    x = torch.zeros(size, 3, SIDE, SIDE, device=device)
    for side in (4, 16, 64, SIDE):
        x += torch.nn.functional.interpolate(torch.randn(size, 3, side, side, device=device), SIDE, mode="bilinear")
    x = x.sigmoid()
    x_hat = (x + 0.05 * torch.randn_like(x)).clamp(0, 1)
    image, x_hat = ((255 * side).round() / 255 for side in (x, x_hat))
    return {
        "dataset": "noise",
        "name": [f"{number + i:05}" for i in range(size)],
        "image": image,
        "x_hat": x_hat,
        "bits": torch.zeros(size, dtype=torch.float64),
        "likelihood_bits": {},
    }


def seconds_of(work: Callable[[], object], device: str) -> float:
    """Wall-clock seconds of one call."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=1, help="images per batch")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    psnr, ms_ssim, lpips = cb.Psnr(), cb.MsSsim(), cb.Lpips(pretrained=False)
    metrics: dict[str, cb.PerImageMetric] = {"PSNR": psnr, "MS-SSIM": ms_ssim, "LPIPS": lpips}
    for metric in metrics.values():
        metric.prepare(torch.device(options.device))
    assert lpips.network is not None
    network = lpips.network

    @torch.no_grad()
    def network_pass(image: Tensor, x_hat: Tensor) -> list[float]:
        with full_float32():
            return network(image, x_hat).tolist()

    seconds: dict[str, list[float]] = {name: [] for name in (NETWORK, *metrics, ALL)}
    warm_up = 3
    for number in range(-warm_up * options.batch, options.images, options.batch):
        size = min(options.batch, options.images - number)
        output = coded_batch(size, number, options.device)
        image, x_hat = 2 * output["image"] - 1, 2 * output["x_hat"] - 1
        times: dict[str, float] = {}
        # Whoever comes second finds the caches warm, so they take turns in that, too.
        for turn in ("network", "metrics") if number // options.batch % 2 else ("metrics", "network"):
            if turn == "network":
                times[NETWORK] = seconds_of(lambda: network_pass(image, x_hat), options.device)  # noqa: B023
            else:
                for name, metric in metrics.items():
                    times[name] = seconds_of(lambda: metric.update(output), options.device)  # noqa: B023
        if number < 0:
            for metric in metrics.values():
                metric.reset()
            continue
        times[ALL] = sum(times[name] for name in metrics)
        for name, value in times.items():
            seconds[name].append(value / size)
    conclude = sum(seconds_of(metric.conclude, options.device) for metric in metrics.values()) / options.images
    seconds[ALL] = [value + conclude for value in seconds[ALL]]

    setup = f"batch {options.batch}, {options.threads} threads, {options.device}"
    title = f"{options.images} images of {SIDE}x{SIDE}, {setup}"
    table = Table("work", "ms/image (median)", "s in all", "against the network", title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    base = seconds[NETWORK]
    for name, values in seconds.items():
        ratio = statistics.median(value / network for value, network in zip(values, base, strict=True))
        in_all = statistics.fmean(values) * options.images
        table.add_row(name, f"{1000 * statistics.median(values):.2f}", f"{in_all:.1f}", f"{ratio:.2f}x")
    Console().print(table)


if __name__ == "__main__":
    main()
