"""The points of a test and its records, handed to W&B."""

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
    with all checks of comparability. The group of the points is the run's, or else its sweep.

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
            for _, path in written:
                run.save(str(path.resolve()), base_path=str(Path(trainer.default_root_dir).resolve()), policy="now")
