"""One JSON file per tested dataset: the result, and all that is needed to trust or repeat it."""

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
from callbacks.record import build_record, conflict, plain, setting_in_words, to_json
from callbacks.run_files import png_path
from callbacks.save_config import SaveRunConfig
from lightning_modules.files import write_atomically


class Identifiable(Protocol):
    """A module that can say what it is."""

    def result_identity(self) -> dict[str, Any]:
        """`codec` (str), `lambda` (float or None), `weights` (hex or None), `parameters` (part -> count).

        Also `kmacs_per_pixel` (part -> float) where it is known, and for classical codecs `setting`: plain values,
        first the one that trades rate for quality.
        """


class ResultExistsError(RuntimeError):
    """The run directory holds the record of another codec, λ or set of weights."""


class ResultRecord(L.Callback):
    """Writes `{run_dir}/results/{dataset}.json` at the end of a test, and prints a table of the means.

    The file reads as one of CompressAI's published result files (`name`, `description`, `results`:
    CompressAI's metric names -> one-element lists, times in seconds, MS-SSIM not in dB), so
    `python -m compressai.utils.plot` draws it. Beside these keys it holds:

    - `schema`: 1; `created`: ISO 8601, UTC.
    - `codec`, `lambda`, `weights` (fingerprint), `parameters` (part -> count), `kmacs_per_pixel` (part ->
      thousands of multiply-accumulates), `setting` (of classical codecs): from `pl_module.result_identity()`.
    - `dataset`; `images`: one row per image, sorted by name, with `name`, `caption`, `width`, `height`
      (pixels), `file_bytes`, every figure, `original` (the source file) and `reconstruction` (path from this
      file, or null where none was written).
    - `mean`: figure -> mean over the images that have it; `not_available`: figure -> why it has no mean, or
      on which share of the images it could not be measured.
    - `protocols`: figure -> unit, direction and what exactly was computed, on how many samples.
    - `checkpoint`: `path` as given (null: the weights in memory), `step`, `epoch`; `device`; `versions`;
      `git`: `commit` and `dirty`, or null; `config`: the resolved configuration, or null without
      `SaveRunConfig`.

    Paths below $DATA_ROOT, the working directory and the home directory are written relative to these, so that
    a record tells nothing of the machine, and its pictures are found on another.

    It is strict JSON: infinite and undefined figures are the strings "Infinity", "-Infinity" and "NaN"
    (`float()` reads them), figures that are not available are null, and `results` leaves out means that are
    not finite.

    A run directory belongs to one model. Where `results/` holds a record with another codec, λ, setting or
    weights, the test is refused before it starts; a record of the same ones is replaced. With
    `trainer.fast_dev_run` nothing is written.

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
        unknown = [None] * len(outputs["name"])
        columns = (outputs["name"], outputs.get("caption", unknown), outputs.get("path", unknown))
        for name, caption, source, bits in zip(*columns, outputs["bits"].tolist(), strict=True):
            row = {
                "name": name,
                "caption": caption,
                "width": width,
                "height": height,
                "file_bytes": round(bits / 8),
                "original": None if source is None else provenance.portable(source),
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
            for name, row in images.items():
                picture = png_path(Path("reconstructions"), dataset, name)
                written = (_folder(trainer).parent / picture).is_file()
                row["reconstruction"] = str(Path("..") / picture) if written else None
            record = build_record(dataset, images, _metrics(trainer), self._identity, origin)
            path = _folder(trainer) / f"{dataset}.json"
            text = to_json(record)
            write_atomically(path, lambda draft, text=text: draft.write_text(text, encoding="utf-8"))  # type: ignore[misc]
            print_table(record, path)


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
    console.print(
        f"{record['codec']}, {setting_in_words(record)}, {record['dataset']} ({len(record['images'])} images)"
    )
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
        "checkpoint": {"path": provenance.portable(trainer.ckpt_path), **loaded},
        "device": provenance.describe_device(pl_module.device),
        "versions": provenance.versions(),
        "git": provenance.git_state(),
        "config": provenance.portable(config[0]) if config else None,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
