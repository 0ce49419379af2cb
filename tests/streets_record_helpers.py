"""Records and pictures of the street-scenes codec, as `test` writes them, with figures of the test's choosing."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lightning_modules.reports.streets.make import REPORT
from tests.decoder_record_helpers import Draft, values_of, write_decoder_record

WIDTH, HEIGHT, COUNT = 64, 48, 4
DATASET = "camvid-val"
HIGHER = {"miou": True, "miou_original": True, "psnr": True, "fid": False, "mse": False}
UNITS = {"miou": "%", "miou_original": "%", "psnr": "dB", "encode_ms": "ms", "decode_ms": "ms"}
PER_IMAGE = ("bpp", "bpp_likelihood", "bpp_gap", "bpp_y", "bpp_z", "bpp_labels", "mse", "psnr")
PLAIN = {0.0003: 0.10, 0.0006: 0.16, 0.00125: 0.27, 0.0025: 0.45}
LABELLED = {0.0003: 0.11, 0.0006: 0.17, 0.00125: 0.28, 0.0025: 0.46}
"""λ -> rate."""
BASE: dict[str, Callable[[float], float]] = {
    "mse": lambda x: 0.004 - 0.0008 * x,
    "fid": lambda x: 150 - 20 * x + 2 * x**2,
    "miou": lambda x: 40 + 5 * x,
}
# Above the baseline by OFFSET + SLOPE ln(rate): a cubic fits such curves exactly.
OFFSET = {
    (False, "g2", "patch"): {"mse": 0.002, "fid": -30.0, "miou": -1.0},
    (False, "g2", "oasis"): {"mse": 0.003, "fid": -50.0, "miou": 2.0},
    (True, "g1", "oasis"): {"mse": -0.0001, "fid": -9.0, "miou": 8.0},
    (True, "g2", "oasis"): {"mse": 0.0025, "fid": -60.0, "miou": 20.0},
}
SLOPE = {"mse": 1e-4, "fid": 1.5, "miou": -0.5}


def figures(labelled: bool, decoder: str, critic: str, rate: float) -> dict[str, float]:
    x = math.log(rate)
    offset = OFFSET.get((labelled, decoder, critic))
    return {name: base(x) + (offset[name] + SLOPE[name] * x if offset else 0.0) for name, base in BASE.items()}


def streets_record(
    run: Path,
    lmbda: float,
    labelled: bool,
    decoder: str,
    rate: float,
    critic: str | None = "oasis",
    realism: float | None = None,
    dataset: str = DATASET,
    weights: str | None = None,
    created: str = "2026-01-01T00:00:00+00:00",
    rows: dict[str, list[float]] | None = None,
    originals: list[str] | None = None,
    training: dict[str, Any] | None = None,
    **means: float,
) -> Path:
    """Write `{run}/results/{dataset}-{decoder}.json`.

    Args:
        rows: Figures of single images; others have the mean's value everywhere.
        originals: Paths of the images.
        means: Means; some of rate and time are there without.
    """
    labels = {"bpp_labels": 0.02} if labelled else {}
    likelihood = rate - 0.01
    mean = {"bpp": rate, "bpp_likelihood": likelihood, "bpp_gap": 0.01, "bpp_y": 0.6 * likelihood, **labels}
    mean |= {"psnr": 25.0, "encode_ms": 40.0, "decode_ms": 30.0, "miou_original": 62.5, **means}
    for name, column in (rows or {}).items():
        mean[name] = sum(column) / len(column)
    protocols: dict[str, dict[str, Any]] = {
        name: {"unit": UNITS.get(name, ""), "higher_is_better": HIGHER.get(name, False)} for name in mean
    }
    protocols |= {name: protocols[name] | {"samples": COUNT} for name in mean if name.startswith("fid")}
    if "miou" in mean:
        protocols["miou"] |= {"segmenter": "a small network", "iou_per_class": {"road": mean["miou"]}}
    images = [
        {
            "name": f"scene_{i}.png",
            "caption": None,
            "width": WIDTH,
            "height": HEIGHT,
            "file_bytes": 100,
            **values_of(rows, mean, PER_IMAGE, i),
            "original": originals[i] if originals else None,
            "reconstruction": f"../reconstructions/{dataset}-{decoder}/scene_{i}.png",
        }
        for i in range(COUNT)
    ]
    side = "label map" if labelled else "none"
    details: dict[str, Any] = {"classes": 12 if labelled else 0, "N": 48, "stage1_epochs": 100}
    details |= {} if critic is None else {"noise_dim": 64, "critic": {"critic": critic, "width": 32}}
    return write_decoder_record(
        run,
        "conditional_hyperprior",
        {"lambda": lmbda, "side_information": side},
        decoder,
        {"g1": 0.0, "g2": 1.0}[decoder] if realism is None else realism,
        dataset,
        mean,
        images,
        training=details | (training or {}),
        weights=weights or f"{run.name}-{lmbda}-{side}-{critic}",
        protocols=protocols,
        created=created,
    )


def write_methods(
    folder: Path, plain: dict[float, float] = PLAIN, labelled: dict[float, float] = LABELLED, **extra: Any
) -> Path:
    """The five methods at all rates; of the HiFiC-like codec, g1 too."""
    for side, critic, rates in ((False, "oasis", plain), (False, "patch", plain), (True, "oasis", labelled)):
        for lmbda, rate in rates.items():
            run = folder / f"{'map' if side else 'none'}_{critic}_{lmbda}"
            for decoder in ("g1", "g2"):
                values = figures(side, decoder, critic, rate)
                streets_record(run, lmbda, side, decoder, rate, critic, **values | extra)
    return folder


class Drafted(Draft):
    """The report of one test set of street scenes."""

    def __init__(self, folder: Path) -> None:
        super().__init__(REPORT, folder)


def picture(seed: int, width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """A smooth RGB picture, no two alike, so that resizing it keeps what it shows."""
    y, x = np.mgrid[:height, :width] / (height, width)[0]
    waves = [np.sin(3 * (seed + 1) * x + channel) + np.cos(2 * (seed + 2) * y - channel) for channel in range(3)]
    return Image.fromarray(np.uint8(np.clip(np.stack(waves, -1) * 60 + 128, 0, 255)))


def draw(run: Path, series: str, i: int, image: Image.Image, folder: str = "reconstructions") -> Path:
    """Write a picture where the callbacks of a test write it."""
    path = run / folder / series / f"scene_{i}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def psnr_of(a: Image.Image, b: Image.Image) -> float:
    error = np.mean((np.asarray(a, np.float64) - np.asarray(b, np.float64)) ** 2)
    return float(10 * np.log10(255**2 / error))
