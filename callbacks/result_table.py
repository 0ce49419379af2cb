"""The means of records, printed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from callbacks.record import series_name, setting_in_words

_ARROWS = {True: " ↑", False: " ↓", None: ""}


def print_table(records: Sequence[tuple[Mapping[str, Any], Path]]) -> None:
    """Print the means of one data set with their units, and where the records are.

    Args:
        records: a record with its file, or one per series: then each has a column.
    """
    first = records[0][0]
    heads = ["mean"] if len(records) == 1 else [series_name(record) or "mean" for record, _ in records]
    view = Table("figure", *heads, "unit")
    for column in view.columns[1:-1]:
        column.justify = "right"
    protocols: dict[str, Mapping[str, Any]] = {}
    for record, _ in records:
        for name in {**record["mean"], **record["not_available"]}:
            protocols.setdefault(name, record["protocols"][name])
    counts = [len(record["images"]) for record, _ in records]
    images = f" ({counts[0]} images)"
    if len(set(counts)) > 1:
        images = ""
        view.add_row("images", *map(str, counts), "")
    for name, protocol in protocols.items():
        cells = [_cell(record, name) for record, _ in records]
        view.add_row(name + _ARROWS[protocol["higher_is_better"]], *cells, protocol["unit"])
    console = Console(highlight=False, markup=False)
    # A column that is cut off is of no use: rather let the terminal, or the reader of a log file, scroll.
    needed = Measurement.get(console, console.options.update(width=10_000), view).maximum
    console.width = max(console.width, needed)
    console.print(f"{first['codec']}, {setting_in_words(first)}, {first['dataset']}{images}")
    console.print(view)
    for _, path in records:
        console.print(str(path), soft_wrap=True)  # in one piece, to be copied


def _cell(record: Mapping[str, Any], figure: str) -> str:
    if figure in record["mean"]:
        return f"{float(record['mean'][figure]):.4f}"
    return "not available" if figure in record["not_available"] else ""
