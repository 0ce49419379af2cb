"""The points of a test as rows of a table: one per data set and decoder."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from callbacks.names import BPP
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


def _item(name: str, value: Any) -> str:
    return value if isinstance(value, str) else f"{name} {value}"


def _finite(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
