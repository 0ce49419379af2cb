"""One JSON file per tested dataset: the result, and all that is needed to trust or repeat it."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, cast

import lightning as L

from callbacks import provenance
from callbacks.build_record import build_record
from callbacks.gather import all_gather_rows
from callbacks.metric import MetricCallback
from callbacks.names import RECORDS
from callbacks.portable_paths import portable
from callbacks.record import conflict, plain, to_json
from callbacks.result_table import print_table
from callbacks.run_files import png_path
from callbacks.save_config import SaveRunConfig
from callbacks.wandb_points import log_points
from lightning_modules.files import write_atomically
from lightning_modules.step_output import CaptionVariant, Decoder, StepOutput, outputs_of


class Identifiable(Protocol):
    """A module that can say what it is."""

    def result_identity(self) -> dict[str, Any]:
        """`codec` (str), `lambda` (float or None), `weights` (hex or None), `parameters` (part -> count).

        Also `kmacs_per_pixel` (part -> float) where it is known, and for codecs without lambda `setting`: plain
        values, first the one that trades rate for quality. Further keys go into the record as they are.
        """


class ResultExistsError(RuntimeError):
    """The run directory holds the record of another codec, λ or set of weights."""


class ResultRecord(L.Callback):
    """Writes `{run_dir}/results/{dataset}.json` at the end of a test, and prints a table of the means.

    Where the steps return outputs of several decoders, or of several captions, each series has a file,
    `{run_dir}/results/{series}.json`, and each data set one table with a column per series.

    The file reads as one of CompressAI's published result files (`name`, `description`, `results`:
    CompressAI's metric names -> one-element lists, times in seconds, MS-SSIM not in dB), so
    `python -m compressai.utils.plot` draws it. Beside these keys it holds:

    - `schema`: 1; `created`: ISO 8601, UTC.
    - `codec`, `lambda`, `weights` (fingerprint), `parameters` (part -> count), `kmacs_per_pixel` (part ->
      thousands of multiply-accumulates), `setting` (of codecs without λ): from `pl_module.result_identity()`.
    - `decoder`: `name` and `realism` (0 least error, 1 most), of codecs with several decoders alone; `setting`
      then holds the name too, as `decoder`.
    - `captions`: which captions steered the encoder, where each image was coded with several; so in `setting`, too.
    - `dataset` (the data set proper, not the series); `images`: one row per image, sorted by
      name, with `name`, `caption`, `label` (where the data has classes), `width`, `height` (pixels), `file_bytes`
      (null where one file holds all images), every figure, `original` (the source file) and `reconstruction` (path
      from this file, or null where none was written).
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

    A run directory belongs to one model. Where `results/` holds a record with another codec, λ or weights (of codecs
    without weights: another setting), the test is refused before it starts; a record of the same ones is replaced.
    With `trainer.fast_dev_run` nothing is written.

    A W&B run also gets the points as a table and the records as files (`callbacks.wandb_points`), from which the verb
    `dashboard` draws curves.

    Args:
        overwrite: replace records of other models too.
    """

    def __init__(self, overwrite: bool = False) -> None:
        self.overwrite = overwrite
        self._rows: list[dict[str, Any]] = []
        self._series: dict[str, Decoder | CaptionVariant] = {}
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
        self._rows, self._series = [], {}
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
        for output in outputs_of(outputs):
            if "series" in output:
                self._series[output["dataset"]] = output["series"]
            self._rows += _rows(output)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Gather, write, print."""
        rows = sorted(all_gather_rows(self._rows), key=lambda row: (row["dataset"], row["name"]))
        series = dict(all_gather_rows(list(self._series.items())))
        self._rows, self._series = [], {}
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        origin = _origin(trainer, pl_module, self._loaded)
        written_records: dict[str, list[tuple[dict[str, Any], Path]]] = defaultdict(list)
        by_dataset: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        for row in rows:
            by_dataset[row.pop("dataset")].setdefault(row["name"], row)
        # Series stand in the order in which the module names them.
        for dataset in [*series, *(name for name in by_dataset if name not in series)]:
            images, one = by_dataset[dataset], series.get(dataset)
            for name, row in images.items():
                picture = png_path(Path("reconstructions"), dataset, name)
                written = (_folder(trainer).parent / picture).is_file()
                row["reconstruction"] = str(Path("..") / picture) if written else None
            record = build_record(dataset, images, _metrics(trainer), self._identity, origin, one)
            path = _folder(trainer) / f"{dataset}.json"
            text = to_json(record)
            write_atomically(path, lambda draft, text=text: draft.write_text(text, encoding="utf-8"))  # type: ignore[misc]
            written_records[record["dataset"]].append((record, path))
        for of_dataset in written_records.values():
            print_table(of_dataset)
        log_points(trainer, [item for of_dataset in written_records.values() for item in of_dataset])


def _rows(output: StepOutput) -> Iterator[dict[str, Any]]:
    """A row per image, without its figures."""
    height, width = output["image"].shape[-2:]
    unknown = [None] * len(output["name"])
    sizes = unknown if output.get("shared_file") else [round(bits / 8) for bits in output["bits"].tolist()]
    labels = output["label"].tolist() if "label" in output else unknown
    columns = (output["name"], output.get("caption", unknown), output.get("path", unknown), labels, sizes)
    for name, caption, source, label, file_bytes in zip(*columns, strict=True):
        yield {
            "dataset": output["dataset"],
            "name": name,
            "caption": caption,
            **({} if label is None else {"label": label}),
            "width": width,
            "height": height,
            "file_bytes": file_bytes,
            "original": None if source is None else portable(source),
        }


def _folder(trainer: L.Trainer) -> Path:
    return Path(trainer.default_root_dir) / RECORDS


def _metrics(trainer: L.Trainer) -> list[MetricCallback]:
    return [callback for callback in trainer.callbacks if isinstance(callback, MetricCallback)]  # type: ignore[attr-defined]


def _origin(trainer: L.Trainer, pl_module: L.LightningModule, loaded: Mapping[str, Any]) -> dict[str, Any]:
    if trainer.ckpt_path is None:
        loaded = {"step": trainer.global_step, "epoch": trainer.current_epoch}
    config = [callback.plain() for callback in trainer.callbacks if isinstance(callback, SaveRunConfig)]  # type: ignore[attr-defined]
    return {
        "checkpoint": {"path": portable(trainer.ckpt_path), **loaded},
        "device": provenance.describe_device(pl_module.device),
        "versions": provenance.versions(),
        "git": provenance.git_state(),
        "config": portable(config[0]) if config else None,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
