"""Records as `test` writes them, with figures of the test's choosing, and curves of them."""

import json
from pathlib import Path
from typing import Any

import callbacks as cb
from callbacks.build_record import build_record
from callbacks.metrics.value import NotAvailable
from callbacks.names import BPP, DECODE_MS, ENCODE_MS, LPIPS, MS_SSIM, PSNR
from callbacks.per_image import ImageRow, PerImageMetric
from callbacks.record import to_json
from lightning_modules.reports.curves import build_curves
from lightning_modules.reports.model import Curve
from lightning_modules.reports.records import read_points

SIDE = 200
CALLBACKS = {PSNR: cb.Psnr, MS_SSIM: cb.MsSsim, LPIPS: cb.Lpips, BPP: cb.Bpp, ENCODE_MS: cb.CodingTime}


def fill(metric: PerImageMetric, dataset: str, columns: dict[str, list[Any]]) -> PerImageMetric:
    """Give a real callback its rows, and let it make its means."""
    metric.reset()
    count = len(next(iter(columns.values())))
    metric._gathering = [
        ImageRow(dataset, f"im{i}.png", {name: column[i] for name, column in columns.items()}) for i in range(count)
    ]
    metric.summary, metric.not_available, metric.details = {}, {}, {}
    metric.conclude()
    return metric


def make_record(
    codec: str = "taco",
    lmbda: float | None = 0.01,
    dataset: str = "kodak",
    bpp: float = 0.5,
    weights: str | None = None,
    setting: dict[str, Any] | None = None,
    count: int = 3,
    metrics: dict[str, PerImageMetric] | None = None,
    extra: dict[str, Any] | None = None,
    **figures: float | list[float | NotAvailable],
) -> dict[str, Any]:
    """A record whose means are `bpp` and `figures`; a number is spread over the images around itself."""
    spread = [0.01 * (i - (count - 1) / 2) for i in range(count)]

    def column(value: Any) -> list[Any]:
        return list(value) if isinstance(value, list) else [value * (1 + share) for share in spread]

    images = {
        f"im{i}.png": {
            "name": f"im{i}.png",
            "caption": None,
            "width": SIDE,
            "height": SIDE,
            "file_bytes": 1 + i,
            "original": None,
            "reconstruction": None,
        }
        for i in range(count)
    }
    filled = [fill(cb.Bpp(), dataset, {BPP: column(bpp)})]
    times = {name: column(figures.pop(name)) for name in (ENCODE_MS, DECODE_MS) if name in figures}
    if times:
        filled.append(fill(cb.CodingTime(), dataset, times))
    for name, value in figures.items():
        metric = (metrics or {}).get(name) or CALLBACKS[name]()
        filled.append(fill(metric, dataset, {name: column(value)}))
    identity = {
        "codec": codec,
        "lambda": lmbda if setting is None else None,
        "weights": weights or f"{lmbda}-{bpp}",
        "parameters": {"g_a": 2_000_000, "g_s": 3_000_000} if setting is None else {},
        "kmacs_per_pixel": {"g_a": 100.0, "g_s": 150.5} if setting is None else {},
    }
    if setting is not None:
        identity["setting"] = setting
    origin = {
        "checkpoint": {"path": None, "step": 1, "epoch": 0},
        "device": "cpu: x86_64, 1 threads",
        "versions": {},
        "git": None,
        "config": None,
        "created": "2026-01-01T00:00:00+00:00",
    }
    return build_record(dataset, images, filled, identity, origin) | (extra or {})


def write(path: Path, record: dict[str, Any]) -> Path:
    """Write a record as `test` does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = to_json(record)
    json.loads(text)
    path.write_text(text, encoding="utf-8")
    return path


def make_curves(folder: Path, *records: dict[str, Any]) -> list[Curve]:
    """The curves of records, read from files."""
    paths = [write(folder / f"run{i}" / "results" / "kodak.json", record) for i, record in enumerate(records)]
    return build_curves({str(folder): [point for path in paths for point in read_points(path)]})


def sweep(codec: str, rates: list[float], dataset: str = "kodak", **columns: Any) -> list[dict[str, Any]]:
    """One record per rate; λ grows with the rate, and each column has a value per rate."""
    return [
        make_record(
            codec,
            lmbda=0.001 * (i + 1),
            bpp=rate,
            dataset=dataset,
            **{name: column[i] if isinstance(column, list) else column for name, column in columns.items()},
        )
        for i, rate in enumerate(rates)
    ]
