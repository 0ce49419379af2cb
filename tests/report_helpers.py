"""Records of real photographs coded by real codecs, with the pictures beside them."""

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

CODECS = {"jpeg": ("JPEG", (10, 30, 60, 85)), "webp": ("WEBP", (5, 30, 60, 85)), "avif": ("AVIF", (15, 35, 55, 75))}
IMAGES = ("astronaut", "chelsea")
SIZE = (192, 128)
PROTOCOLS = {
    "bpp": {"unit": "bit/pixel", "higher_is_better": False},
    "psnr": {"unit": "dB", "higher_is_better": True},
    "ssim": {"unit": "", "higher_is_better": True},
    "decode_ms": {"unit": "ms", "higher_is_better": False},
}


def write_records(folder: Path, dataset: str = "sample") -> Path:
    """Code two photographs at four qualities with three codecs; PSNR and SSIM are scikit-image's.

    Originals go to `folder/originals`, records and reconstructions to `folder/records/CODEC/QUALITY`.
    """
    originals = {name: Image.fromarray(getattr(data, name)()).resize(SIZE) for name in IMAGES}
    (folder / "originals").mkdir(parents=True)
    for name, image in originals.items():
        image.save(folder / "originals" / f"{name}.png")
    for codec, (pillow_format, qualities) in CODECS.items():
        for quality in qualities:
            home = folder / "records" / codec / str(quality)
            home.mkdir(parents=True)
            rows = [_row(home, folder, name, image, pillow_format, quality) for name, image in originals.items()]
            write_json(home / f"{dataset}.json", _record(codec, quality, dataset, rows))
    return folder


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def _row(home: Path, folder: Path, name: str, image: Image.Image, pillow_format: str, quality: int) -> dict[str, Any]:
    file = io.BytesIO()
    image.save(file, pillow_format, quality=quality)
    decoded = Image.open(io.BytesIO(file.getvalue())).convert("RGB")
    decoded.save(home / f"{name}.png")
    a, b = np.array(image), np.array(decoded)
    return {
        "name": f"{name}.png",
        "caption": None,
        "width": image.width,
        "height": image.height,
        "file_bytes": len(file.getvalue()),
        "bpp": 8 * len(file.getvalue()) / (image.width * image.height),
        "psnr": float(peak_signal_noise_ratio(a, b)),
        "ssim": float(structural_similarity(a, b, channel_axis=2)),
        "decode_ms": 1.5,
        "original": str(folder / "originals" / f"{name}.png"),
        "reconstruction": f"{name}.png",
    }


def _record(codec: str, quality: int, dataset: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "schema": 1,
        "name": codec,
        "description": f"quality {quality}",
        "results": {"bpp": [1.0]},
        "codec": codec,
        "lambda": None,
        "setting": {"quality": quality},
        "weights": None,
        "parameters": {},
        "dataset": dataset,
        "mean": {name: math.fsum(row[name] for row in rows) / len(rows) for name in PROTOCOLS},
        "not_available": {"fid": "needs 2048 images </script><b>at least</b>"},
        "protocols": {**PROTOCOLS, "fid": {"unit": "", "higher_is_better": False}},
        "checkpoint": None,
        "device": "cpu",
        "versions": {"pillow": "any"},
        "git": {"commit": "0123456789abcdef", "dirty": True},
        "config": None,
        "created": "2026-01-02T03:04:05+00:00",
        "images": rows,
    }
