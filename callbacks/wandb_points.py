"""The points of a test and its records, handed to W&B."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import WandbLogger

from callbacks.names import RD_POINTS
from callbacks.rd_points import as_table, point_row


def log_points(trainer: L.Trainer, written: Sequence[tuple[Mapping[str, Any], Path]]) -> None:
    """Hand the records of a test to W&B, where the trainer logs there: called on rank 0 alone.

    The table `rd_points` is what custom charts join over runs. Each record goes to the run's files under the name
    that it has in the run directory (`results/kodak.json`), so that tables of BD values can be made from W&B alone,
    with all checks of comparability. It goes there as a copy: a run that waits for `wandb sync` can be moved, and
    sends what this test has measured, even if a later one has replaced the record. The group of the points is the
    run's, or else its sweep.

    Args:
        trainer: With or without a W&B logger.
        written: Records with their files.
    """
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger) and written:
            run = logger.experiment
            rows = [point_row(record, run.group or run.sweep_id or "") for record, _ in written]
            columns, lines = as_table(rows)
            logger.log_table(RD_POINTS, columns=columns, data=lines)
            if run.disabled:
                continue
            for _, path in written:
                # W&B itself would link to the record, by its absolute path.
                kept = Path(run.dir) / path.relative_to(trainer.default_root_dir)
                kept.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, kept)
                run.save(str(kept), base_path=run.dir, policy="now", glob=False)
