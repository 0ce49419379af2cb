"""The points of a test for W&B: a row per data set and decoder, and the records themselves."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import WandbLogger

from callbacks.names import BPP, RD_POINTS
from callbacks.record import place_and_variant, setting_in_words

Cell = str | float | None

IDENTITY_COLUMNS = ("curve", "codec", "decoder", "dataset", "group", "setting", "lambda", BPP)
"""What every row has, in the order of the table; the other figures follow by name. No column is called `name` or
`id`: W&B gives these to the run when it joins the tables of several."""


def point_row(record: Mapping[str, Any], group: str = "") -> dict[str, Cell]:
    """A result record as one point of a rate-distortion curve.

    Args:
        record: As `callbacks.ResultRecord` writes it.
        group: What sets this run's points apart from others of the same codec, such as the sweep; "" for nothing.

    Returns:
        `curve` (codec and what makes it a curve of its own), `codec`, `decoder` (None where there is one only),
        `dataset` (with several decoders the data set proper), `group`, `setting` ("λ = 0.01", "bits = 4"), `lambda`
        (None where there is none), and the mean of every figure in its own unit, None where it is not finite.
    """
    variant = [_item(*item) for item in place_and_variant(record)[1].items()]
    figures = {name: _finite(value) for name, value in sorted(record["mean"].items())}
    return {
        "curve": f"{record['codec']} ({', '.join(variant)})" if variant else record["codec"],
        "codec": record["codec"],
        "decoder": record["decoder"]["name"] if "decoder" in record else None,
        "dataset": record["dataset"],
        "group": group,
        "setting": setting_in_words(record),
        "lambda": record["lambda"],
        BPP: figures.pop(BPP, None),
        **figures,
    }


def as_table(rows: Sequence[Mapping[str, Cell]]) -> tuple[list[str], list[list[Cell]]]:
    """Columns and lines of a table; a figure that a row lacks is None."""
    figures = sorted({name for row in rows for name in row} - set(IDENTITY_COLUMNS))
    columns = [*IDENTITY_COLUMNS, *figures]
    return columns, [[row.get(column) for column in columns] for row in rows]


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


def _item(name: str, value: Any) -> str:
    return value if isinstance(value, str) else f"{name} {value}"


def _finite(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
