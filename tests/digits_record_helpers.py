"""Records of the digits codec, as `test` writes them, with figures of the test's choosing, and reports of them."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lightning_modules.reports.digits.make import REPORT
from tests.decoder_record_helpers import Draft, values_of, write_decoder_record

SIDE, COUNT = 32, 20
FEATURES = "digits_resnet18"
CONFID, FID = f"confid_{FEATURES}", f"fid_{FEATURES}"
PER_IMAGE = ("bits", "bits_likelihood", "bpp", "mse", "accuracy", "accuracy_original")
HIGHER = {"accuracy": True, "accuracy_original": True}
UNITS = {"accuracy": "%", "accuracy_original": "%", "bpp": "bit/pixel", "bits": "bit/image"}
PLAIN = {4: 4.0, 8: 8.0, 12: 12.0, 16: 16.0, 20: 20.0}
LABELLED = {1: 4.29, 4: 7.2, 8: 11.1, 12: 15.2, 16: 19.0}
"""Code bits -> rate."""
# Above the baseline by OFFSET + SLOPE ln(rate): a cubic fits such curves exactly.
OFFSET = {
    ("none", "g2"): {"mse": 0.02, "confid": -40.0, "fid": -30.0, "accuracy": -6.0},
    ("label", "g1"): {"mse": -0.001, "confid": 9.0, "fid": 3.0, "accuracy": 1.0},
    ("label", "g2"): {"mse": 0.019, "confid": -60.0, "fid": -50.0, "accuracy": 2.0},
}
SLOPE = {("none", "g2"): 2.0, ("label", "g1"): 0.5, ("label", "g2"): -1.0}
BASE: dict[str, Callable[[float], float]] = {
    "mse": lambda x: 0.06 - 0.01 * x,
    "confid": lambda x: 150 - 20 * x + 2 * x**2,
    "fid": lambda x: 120 - 15 * x,
    "accuracy": lambda x: 60 + 8 * x,
}


def digits_record(
    run: Path,
    code_bits: int,
    labelled: bool,
    decoder: str,
    rate: float,
    realism: float | None = None,
    noise_dim: int | None = -1,
    beta: float | None = None,
    dataset: str = "mnist-test",
    weights: str | None = None,
    created: str = "2026-01-01T00:00:00+00:00",
    training: dict[str, Any] | None = None,
    rows: dict[str, list[float]] | None = None,
    not_available: dict[str, str] | None = None,
    labels: list[int] | None = None,
    **figures: float,
) -> Path:
    """Write `{run}/results/{dataset}-{decoder}.json`.

    Args:
        noise_dim: -1 fills g2's input up to 100 channels.
        rows: Figures of single images; others have the mean's value everywhere.
        figures: Means; `confid` and `fid` stand for those on the classifier's features, `confid_inception` and
            `fid_inception` for the others.
    """
    names = {"confid": CONFID, "fid": FID, "confid_inception": "confid", "fid_inception": "fid"}
    mean = {"bpp": 1.004 * rate / SIDE**2, "bits": 1.004 * rate, "bits_likelihood": rate}
    mean |= {names.get(name, name): value for name, value in figures.items()}
    protocols: dict[str, dict[str, Any]] = {
        name: {"unit": UNITS.get(name, ""), "higher_is_better": HIGHER.get(name, False), "samples": COUNT}
        for name in (*mean, *(not_available or {}))
    }
    images = [
        {
            "name": f"test-{i:05}",
            "caption": None,
            "width": SIDE,
            "height": SIDE,
            "file_bytes": None,
            "label": (labels or [i % 10 for i in range(COUNT)])[i],
            **values_of(rows, mean, PER_IMAGE, i),
            "original": None,
            "reconstruction": None,
        }
        for i in range(COUNT)
    ]
    noise = 100 - code_bits - 10 * labelled if noise_dim == -1 else noise_dim
    details = {
        "variant": "fig8",
        "width": 32,
        "stage1_epochs": 20,
        "adversarial": {"critic_steps": 1, "noise_dim": noise_dim},
    }
    details |= {} if noise is None else {"noise_dim": noise}
    side = "label" if labelled else "none"
    beta_setting = {} if beta is None else {"beta": beta}
    return write_decoder_record(
        run,
        "digits",
        {"code_bits": code_bits, "side_information": side, **beta_setting},
        decoder,
        1.0 if realism is None and decoder != "g1" else realism or 0.0,
        dataset,
        mean,
        images,
        training=details | (training or {}),
        weights=weights or f"{run.name}-{code_bits}-{side}-{beta}-{noise}",
        not_available=not_available or {},
        protocols=protocols,
        created=created,
    )


def grid(path: Path, tiles: list[np.ndarray], columns: int = 10) -> Path:
    """A picture of tiles, ten lines of them, as `callbacks.SampleGrid` writes it."""
    canvas = np.full((10 * SIDE, columns * SIDE), 255, np.uint8)
    for i, tile in enumerate(tiles):
        line, column = divmod(i, columns)
        canvas[line * SIDE : (line + 1) * SIDE, column * SIDE : (column + 1) * SIDE] = tile
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(canvas).save(path)
    return path


def figures(side: str, decoder: str, rate: float) -> dict[str, float]:
    x = math.log(rate)
    values = {name: base(x) for name, base in BASE.items()}
    if (side, decoder) in OFFSET:
        scale = {"mse": 1e-4, "confid": 1.0, "fid": 1.0, "accuracy": 1.0}
        for name, offset in OFFSET[side, decoder].items():
            values[name] += offset + SLOPE[side, decoder] * scale[name] * x
    return values


def write_methods(folder: Path, leave_out: tuple[str, ...] = (), **extra: Any) -> Path:
    """The four methods at all rates; `leave_out` has items such as "label-16-g2"."""
    for side, rates in (("none", PLAIN), ("label", LABELLED)):
        for code_bits, rate in rates.items():
            for decoder in ("g1", "g2"):
                if f"{side}-{code_bits}-{decoder}" not in leave_out:
                    run = folder / f"{side}_{code_bits}"
                    digits_record(
                        run, code_bits, side == "label", decoder, rate, **figures(side, decoder, rate), **extra
                    )
    return folder


def write_realism(folder: Path, error: float = 0.0, accuracy: float = 90.0) -> None:
    """Decoders between g1 and g2 of the lowest rate; MSE too high by a share of `error`."""
    ends = [figures("label", decoder, LABELLED[1])["mse"] for decoder in ("g1", "g2")]
    for a in (0.2, 0.4, 0.6, 0.8, 0.9):
        mse = (ends[0] + a * a * (ends[1] - ends[0])) * (1 + error)
        digits_record(
            *(folder / "label_1", 1, True, f"realism_{a:g}", LABELLED[1], a),
            **{"mse": mse, "confid": 100 - 60 * a, "fid": 80 - 50 * a, "accuracy": accuracy},
        )


def write_swapped(folder: Path, shares: list[float]) -> None:
    for k, share in enumerate(shares):
        digits_record(folder / "label_1", 1, True, f"g2_as_{k}", LABELLED[1], accuracy=share)


def write_study(folder: Path, **extra: Any) -> None:
    for code_bits in (4, 32):
        for k in (0, 8, 42, 84):
            run = folder / f"noise_{code_bits}_{k}"
            for decoder, fid in (("g1", 300.0), ("g2", 200.0 / (1 + k) + code_bits)):
                digits_record(run, code_bits, False, decoder, float(code_bits), noise_dim=k, fid=fid, **extra)


class Drafted(Draft):
    """The report of one test set of digits."""

    def __init__(self, folder: Path) -> None:
        super().__init__(REPORT, folder)

    def pixels(self, name: str, folder: Path) -> np.ndarray:
        """Those of one of its pictures."""
        with Image.open(self.write(name, folder)) as written:
            return np.asarray(written)
