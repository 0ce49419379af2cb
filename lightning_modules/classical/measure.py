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

from callbacks import MetricCallback, Reconstructions
from callbacks.record import IDENTITY, plain
from lightning_modules.classical.module import ClassicalModule

Images = Mapping[str, frozenset[str]]
"""Dataset -> names of its images."""


def images_of(data: L.LightningDataModule) -> Images:
    """What the test loader yields; it is read once through."""
    data.prepare_data()
    data.setup("test")
    images: dict[str, set[str]] = {}
    for batch in data.test_dataloader():
        images.setdefault(batch["dataset"], set()).update(batch["name"])
    return {dataset: frozenset(names) for dataset, names in images.items()}


def is_measured(
    folder: Path, module: ClassicalModule, images: Images, callbacks: Sequence[L.Callback], keep_files: bool
) -> bool:
    """Whether a folder already holds all that `measure` would put there.

    That is, for each dataset, a record of the same codec, setting and encoder on the same images, with every metric
    asked for under the same protocol; and reconstructions and files where they are asked for.
    """
    identity = plain(module.result_identity())
    metrics = [callback for callback in callbacks if isinstance(callback, MetricCallback)]
    for dataset, names in images.items():
        record = _read(folder / "results" / f"{dataset}.json")
        if any(record.get(key) != identity.get(key) for key in IDENTITY):
            return False
        if {row["name"] for row in record["images"]} != names:
            return False
        protocols = record["protocols"]
        if any(plain(metric.protocol()).items() - protocols.get(metric.name, {}).items() for metric in metrics):
            return False
        wanted = [_count(callback, len(names)) for callback in callbacks if isinstance(callback, Reconstructions)]
        if len(list((folder / "reconstructions" / dataset).glob("*.png"))) < max(wanted, default=0):
            return False
        if keep_files and len(list((folder / "bitstreams" / dataset).glob("*"))) < len(names):
            return False
    return True


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return record if isinstance(record["images"], list) and isinstance(record["protocols"], dict) else {}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


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
