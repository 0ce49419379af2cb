"""What a result record holds, as plain values and as strict JSON."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from callbacks.metrics.value import NotAvailable
from callbacks.names import BPP, DECODE_MS, ENCODE_MS, MS_SSIM, PSNR

SCHEMA = 1
IDENTITY = ("codec", "lambda", "weights", "setting")
"""Records that differ in these are results of different things."""

COMPRESSAI_NAMES = {
    PSNR: ("psnr-rgb", 1.0),
    MS_SSIM: ("ms-ssim-rgb", 1.0),
    BPP: ("bpp", 1.0),
    ENCODE_MS: ("encoding_time", 1e-3),
    DECODE_MS: ("decoding_time", 1e-3),
}
"""Our figure -> CompressAI's name for it, and the factor to its unit (seconds)."""


def place_and_variant(identity: Mapping[str, Any]) -> tuple[tuple[str, Any], dict[str, Any]]:
    """What moves a result along its curve, and what tells its curve from others of the codec.

    The first is λ where there is one, or else the first item of `setting`, (name, value); the second is the rest of
    `setting`.
    """
    setting = dict(identity.get("setting") or {})
    if identity["lambda"] is not None or not setting:
        setting.pop("lambda", None)
        return ("λ", identity["lambda"]), setting
    name = next(iter(setting))
    return (name, setting.pop(name)), setting


def setting_in_words(identity: Mapping[str, Any]) -> str:
    """What places a point on its curve: "λ = 0.01", or the first setting of a classical codec, "quality = 75"."""
    (name, value), _ = place_and_variant(identity)
    return f"{name} = {value}"


def series_name(record: Mapping[str, Any]) -> str | None:
    """Of which series a record is, by name: a decoder, or captions; None where the data set has no series."""
    name: str | None = record["decoder"]["name"] if "decoder" in record else record.get("captions")
    return name


def to_json(record: Mapping[str, Any]) -> str:
    """A record as strict JSON, a line per image."""
    rows = [json.dumps(row, allow_nan=False, ensure_ascii=False) for row in record["images"]]
    rest = {key: value for key, value in record.items() if key != "images"}
    text = json.dumps(rest, indent=2, allow_nan=False, ensure_ascii=False).removesuffix("\n}")
    return text + ',\n  "images": [\n    ' + ",\n    ".join(rows) + "\n  ]\n}\n"


def conflict(folder: Path, identity: Mapping[str, Any]) -> str | None:
    """Why a model may not write its records into a folder, or `None` where it may.

    Args:
        folder: `{run_dir}/results`; it need not exist.
        identity: codec, lambda, weights and setting of the model. The setting counts only where there are no
            weights: weights belong to one setting, and what their records differ in is the decoder.
    """
    keys = [key for key in IDENTITY if key != "setting" or identity.get("weights") is None]
    for path in sorted(folder.glob("*.json")):
        try:
            existing = json.loads(path.read_text(encoding="utf-8"))
            both = [(key, existing.get(key), identity.get(key)) for key in keys]
            differing = [f"{key} {theirs!r}" for key, theirs, mine in both if theirs != mine]
            if "codec" not in existing:
                raise KeyError("codec")
        except (ValueError, KeyError, TypeError):
            differing = ["no readable identity"]
        if differing:
            return (
                f"{path} is the record of another model ({', '.join(differing)}). Test into another run "
                "directory (--run_dir), or set overwrite: true of ResultRecord to replace it."
            )
    return None


def plain(value: Any) -> Any:
    """A value as strict JSON has it: no infinities, no missing figures, no types but JSON's own."""
    if isinstance(value, NotAvailable):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
