"""One JSON file per tested dataset: the result, and all that is needed to trust or repeat it."""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, cast

import lightning as L
from rich.console import Console
from rich.table import Table

from callbacks import provenance
from callbacks.gather import all_gather_rows
from callbacks.metric import MetricCallback
from callbacks.metrics.value import NotAvailable
from callbacks.names import BPP, DECODE_MS, ENCODE_MS, MS_SSIM, PSNR
from callbacks.per_image import PerImageMetric
from callbacks.save_config import SaveRunConfig
from lightning_modules.files import write_atomically

SCHEMA = 1
IDENTITY = ("codec", "lambda", "weights")
"""Records that differ in these are results of different things."""

COMPRESSAI_NAMES = {
    PSNR: ("psnr-rgb", 1.0),
    MS_SSIM: ("ms-ssim-rgb", 1.0),
    BPP: ("bpp", 1.0),
    ENCODE_MS: ("encoding_time", 1e-3),
    DECODE_MS: ("decoding_time", 1e-3),
}
"""Our figure -> CompressAI's name for it, and the factor to its unit (seconds)."""


class Identifiable(Protocol):
    """A module that can say what it is."""

    def result_identity(self) -> dict[str, Any]:
        """`codec` (str), `lambda` (float or None), `weights` (hex), `parameters` (part -> count)."""


class ResultExistsError(RuntimeError):
    """The run directory holds the record of another codec, λ or set of weights."""


class ResultRecord(L.Callback):
    """Writes `{run_dir}/results/{dataset}.json` at the end of a test, and prints a table of the means.

    The file reads as one of CompressAI's published result files (`name`, `description`, `results`:
    CompressAI's metric names -> one-element lists, times in seconds, MS-SSIM not in dB), so
    `python -m compressai.utils.plot` draws it. Beside these keys it holds:

    - `schema`: 1; `created`: ISO 8601, UTC.
    - `codec`, `lambda`, `weights` (fingerprint), `parameters` (part -> count): from
      `pl_module.result_identity()`.
    - `dataset`; `images`: one row per image, sorted by name, with `name`, `caption`, `width`, `height`
      (pixels), `file_bytes` and every figure.
    - `mean`: figure -> mean over the images that have it; `not_available`: figure -> why it has no mean, or
      on which share of the images it could not be measured.
    - `protocols`: figure -> unit, direction and what exactly was computed.
    - `checkpoint`: `path` as given (null: the weights in memory), `step`, `epoch`; `device`; `versions`;
      `git`: `commit` and `dirty`, or null; `config`: the resolved configuration, or null without
      `SaveRunConfig`.

    It is strict JSON: infinite and undefined figures are the strings "Infinity", "-Infinity" and "NaN"
    (`float()` reads them), figures that are not available are null, and `results` leaves out means that are
    not finite.

    A run directory belongs to one model. Where `results/` holds a record with another codec, λ or weights,
    the test is refused before it starts; a record of the same ones is replaced. With `trainer.fast_dev_run`
    nothing is written.

    Args:
        overwrite: replace records of other models too.
    """

    def __init__(self, overwrite: bool = False) -> None:
        self.overwrite = overwrite
        self._rows: list[dict[str, Any]] = []
        self._loaded: dict[str, Any] = {}
        self._identity: dict[str, Any] = {}

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note how far the tested checkpoint was trained; the trainer does not restore that for a test."""
        self._loaded = {"step": checkpoint.get("global_step"), "epoch": checkpoint.get("epoch")}

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse to mix results before any work is done.

        Raises:
            ResultExistsError: the run directory holds another model's record and `overwrite` is false.
            ValueError: two metric callbacks report the same figure.
        """
        self._rows = []
        names = [callback.name for callback in _metrics(trainer)]
        if again := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"several metric callbacks report {', '.join(sorted(again))}; keep one of each")
        self._identity = plain(cast(Identifiable, pl_module).result_identity())
        refusal = None
        if trainer.is_global_zero and not self.overwrite and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            refusal = conflict(_folder(trainer), self._identity)
        # Every rank learns of it: one that waits in a collective for a rank that has stopped would hang.
        refusal = trainer.strategy.broadcast(refusal)
        if refusal is not None:
            raise ResultExistsError(refusal)

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Note what is known of each image."""
        height, width = outputs["image"].shape[-2:]
        captions = outputs.get("caption", [None] * len(outputs["name"]))
        for name, caption, bits in zip(outputs["name"], captions, outputs["bits"].tolist(), strict=True):
            row = {
                "name": name,
                "caption": caption,
                "width": width,
                "height": height,
                "file_bytes": round(bits / 8),
            }
            self._rows.append({"dataset": outputs["dataset"], **row})

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Gather, write, print."""
        rows = sorted(all_gather_rows(self._rows), key=lambda row: (row["dataset"], row["name"]))
        self._rows = []
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        origin = _origin(trainer, pl_module, self._loaded)
        for dataset in dict.fromkeys(row["dataset"] for row in rows):
            images: dict[str, dict[str, Any]] = {}
            for row in rows:
                if row["dataset"] == dataset:
                    images.setdefault(row["name"], {key: row[key] for key in row if key != "dataset"})
            record = build_record(dataset, images, _metrics(trainer), self._identity, origin)
            path = _folder(trainer) / f"{dataset}.json"
            text = json.dumps(record, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
            write_atomically(path, lambda draft, text=text: draft.write_text(text, encoding="utf-8"))  # type: ignore[misc]
            print_table(record, path)


def build_record(
    dataset: str,
    images: dict[str, dict[str, Any]],
    metrics: list[MetricCallback],
    identity: Mapping[str, Any],
    origin: Mapping[str, Any],
) -> dict[str, Any]:
    """The record of one dataset as plain values (see `ResultRecord`).

    Args:
        dataset: its name.
        images: image name -> row without figures.
        metrics: the callbacks that hold the figures.
        identity: from the module's `result_identity`.
        origin: `checkpoint`, `device`, `versions`, `git`, `config`, `created`.
    """
    mean: dict[str, float] = {}
    not_available: dict[str, str] = {}
    protocols: dict[str, dict[str, Any]] = {}
    for metric in metrics:
        mean |= metric.summary.get(dataset, {})
        not_available |= metric.not_available.get(dataset, {})
        described = {"unit": metric.unit, "higher_is_better": metric.higher_is_better, **metric.protocol()}
        figures = {**metric.summary.get(dataset, {}), **metric.not_available.get(dataset, {})}
        protocols |= dict.fromkeys(figures, described)
        if isinstance(metric, PerImageMetric):
            for image, values in metric.rows.get(dataset, {}).items():
                images[image] |= values
            for row in images.values():
                row |= {name: None for name in figures if name not in row}
    results = {}
    for name, value in mean.items():
        theirs, factor = COMPRESSAI_NAMES.get(name, (name, 1.0))
        if math.isfinite(value):
            results[theirs] = [factor * value]
    return plain(
        {
            "schema": SCHEMA,
            "name": identity["codec"],
            "description": f"λ = {identity['lambda']} on {dataset}, bits of real files",
            "results": results,
            **identity,
            "dataset": dataset,
            "mean": mean,
            "not_available": not_available,
            "protocols": protocols,
            **origin,
            "images": list(images.values()),
        }
    )


def conflict(folder: Path, identity: Mapping[str, Any]) -> str | None:
    """Why a model may not write its records into a folder, or `None` where it may.

    Args:
        folder: `{run_dir}/results`; it need not exist.
        identity: codec, lambda and weights of the model.
    """
    for path in sorted(folder.glob("*.json")):
        try:
            existing = json.loads(path.read_text(encoding="utf-8"))
            differing = [f"{key} {existing[key]!r}" for key in IDENTITY if existing[key] != identity[key]]
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


def print_table(record: Mapping[str, Any], path: Path) -> None:
    """Print the means of a record with their units, and where the record is."""
    view = Table("figure", "mean", "unit")
    view.columns[1].justify = "right"
    arrows = {True: " ↑", False: " ↓", None: ""}
    for name in {**record["mean"], **record["not_available"]}:
        protocol = record["protocols"][name]
        mean = record["mean"].get(name)
        shown = "not available" if mean is None else f"{float(mean):.4f}"
        view.add_row(name + arrows[protocol["higher_is_better"]], shown, protocol["unit"])
    console = Console(highlight=False, markup=False)
    console.print(f"{record['codec']}, λ = {record['lambda']}, {record['dataset']} ({len(record['images'])} images)")
    console.print(view)
    console.print(str(path), soft_wrap=True)  # in one piece, to be copied


def _folder(trainer: L.Trainer) -> Path:
    return Path(trainer.default_root_dir) / "results"


def _metrics(trainer: L.Trainer) -> list[MetricCallback]:
    return [callback for callback in trainer.callbacks if isinstance(callback, MetricCallback)]  # type: ignore[attr-defined]


def _origin(trainer: L.Trainer, pl_module: L.LightningModule, loaded: Mapping[str, Any]) -> dict[str, Any]:
    if trainer.ckpt_path is None:
        loaded = {"step": trainer.global_step, "epoch": trainer.current_epoch}
    config = [callback.plain() for callback in trainer.callbacks if isinstance(callback, SaveRunConfig)]  # type: ignore[attr-defined]
    return {
        "checkpoint": {"path": trainer.ckpt_path, **loaded},
        "device": provenance.describe_device(pl_module.device),
        "versions": provenance.versions(),
        "git": provenance.git_state(),
        "config": config[0] if config else None,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
