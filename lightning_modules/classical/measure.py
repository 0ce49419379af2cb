"""Measuring one point of a classical codec's curve as `test` measures a trained codec."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch.trainer.states import TrainerStatus

from callbacks import MetricCallback, Reconstructions, SaveRunConfig
from callbacks.record import IDENTITY, plain
from lightning_modules.classical.module import ClassicalModule

Images = Mapping[str, Mapping[str, tuple[int, int]]]
"""Dataset -> image name -> height and width in pixels."""


class RecordedConfig(SaveRunConfig):
    """Puts the command's configuration into the records, and writes no file of its own."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Write nothing."""


def images_of(data: L.LightningDataModule) -> Images:
    """What the test loader yields; it is read once through."""
    data.prepare_data()
    data.setup("test")
    images: dict[str, dict[str, tuple[int, int]]] = {}
    for batch in data.test_dataloader():
        height, width = batch["image"].shape[-2:]
        images.setdefault(batch["dataset"], {}).update(dict.fromkeys(batch["name"], (height, width)))
    return images


def is_measured(
    folder: Path, module: ClassicalModule, images: Images, callbacks: Sequence[L.Callback], keep_files: bool
) -> bool:
    """Whether a folder already holds all that `measure` would put there.

    That is, for each dataset, a record of the same codec, setting and encoder on images of the same names and sizes,
    with every metric asked for under the same protocol; and reconstructions and files where they are asked for.
    """
    identity = plain(module.result_identity())
    metrics = [callback for callback in callbacks if isinstance(callback, MetricCallback)]
    for dataset, sizes in images.items():
        record = _read(folder / "results" / f"{dataset}.json")
        if any(record.get(key) != identity.get(key) for key in IDENTITY):
            return False
        if {row.get("name"): (row.get("height"), row.get("width")) for row in record["images"]} != sizes:
            return False
        if not all(_covers(record["protocols"].get(metric.name), metric) for metric in metrics):
            return False
        wanted = [_count(callback, len(sizes)) for callback in callbacks if isinstance(callback, Reconstructions)]
        if len(list((folder / "reconstructions" / dataset).glob("*.png"))) < max(wanted, default=0):
            return False
        if keep_files and len(list((folder / "bitstreams" / dataset).glob("*"))) < len(sizes):
            return False
    return True


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        whole = isinstance(record["protocols"], dict) and all(isinstance(row, dict) for row in record["images"])
    except (OSError, ValueError, TypeError, KeyError):
        return {}
    return record if whole else {}


def _covers(protocol: Any, metric: MetricCallback) -> bool:
    """Whether a record's protocol is the metric's own, besides what it tells of the dataset."""
    asked = {"unit": metric.unit, **plain(metric.protocol())}
    return isinstance(protocol, dict) and all(protocol.get(key) == value for key, value in asked.items())


def _count(callback: Reconstructions, images: int) -> int:
    return images if callback.max_images is None else min(callback.max_images, images)


def measure(
    folder: Path,
    module: ClassicalModule,
    data: L.LightningDataModule,
    callbacks: Sequence[L.Callback],
    accelerator: str = "auto",
    keep_files: bool = False,
) -> None:
    """Test one point; its record and pictures go below `folder`.

    Where it fails or is interrupted, a folder that it made is removed again.

    Args:
        folder: The point's run directory.
        module: Codec and setting.
        data: Whose test images are coded.
        callbacks: Metrics, `ResultRecord`, pictures. The same ones may serve many points, so that their networks are
            loaded once.
        accelerator: Of Lightning's trainer: where the metrics' networks run. The codecs run on the CPU.
        keep_files: Leave the coded files in `folder/bitstreams`.

    Raises:
        ClassicalCodecError: The codec failed.
        ResultExistsError: The folder holds the record of another point.
        KeyboardInterrupt: Ctrl-C.
    """
    existed = folder.exists()
    try:
        with _quiet():
            trainer = L.Trainer(
                default_root_dir=folder,
                accelerator=accelerator,
                devices=1,
                callbacks=list(callbacks),
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                use_distributed_sampler=False,
            )
            try:
                trainer.test(module, datamodule=data, verbose=False)
            except SystemExit as exit_:  # what Lightning makes of Ctrl-C
                if trainer.state.status == TrainerStatus.INTERRUPTED:
                    raise KeyboardInterrupt from exit_
                raise
    except BaseException:
        if not existed:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        if not keep_files:
            shutil.rmtree(folder / "bitstreams", ignore_errors=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's remarks and the record's table: a point has one line, which the caller prints."""
    log = logging.getLogger("lightning.pytorch")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore", PossibleUserWarning)
            yield
    finally:
        log.setLevel(before)
