"""Table 1: Bjøntegaard differences of the four methods against the baseline, beside the paper's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lightning_modules.reports.differences import Differences
from lightning_modules.reports.digits import paper
from lightning_modules.reports.digits.measures import PRINTED, column, of_base, printed_column
from lightning_modules.reports.digits.models import BASELINE, METHODS, DatasetModels
from lightning_modules.reports.digits.results import pixels_of
from lightning_modules.reports.model import Figure
from lightning_modules.reports.section import Section
from lightning_modules.reports.table import Cell, Column, Table


def differences_of(models: DatasetModels, figures: Sequence[Figure]) -> Differences:
    """BD values of the four methods."""
    return Differences([models.curve(method) for method in METHODS], figures, BASELINE.name)


def differences_section(models: DatasetModels, differences: Differences, figures: Sequence[Figure]) -> Section:
    """Table 1 by the cubic with the paper's columns, and the same by pchip."""
    notes = _ranges(models, differences, figures)
    text = (
        "Mean difference to the baseline over the logarithm of the rate, over the rates that all methods have in "
        "common. Differences are in the figure's own unit, those of accuracy in percentage points. The paper does "
        "not say which features its FID and ConFID use; with others than these, only sign and order compare.",
    )
    tables = (_table_1(differences, figures, notes), _pchip_table(differences, figures, notes))
    return Section("Table 1: Bjøntegaard differences", text, tables)


def _table_1(differences: Differences, figures: Sequence[Figure], notes: tuple[str, ...]) -> Table:
    printed = {row.codec: row.figures for row in paper.table_1().rows}
    columns = [Column("method", numeric=False)]
    for base in PRINTED:
        columns += map(_column, of_base(figures, base))
        columns.append(_named(printed_column(base)))
    rows: list[tuple[Cell, ...]] = []
    for method in METHODS:
        cells: list[Cell] = [method.name]
        for base in PRINTED:
            cells += [differences.value(method.name, figure) for figure in of_base(figures, base)]
            cells.append(printed[method.printed][base])
        rows.append(tuple(cells))
    return Table("table1", "Table 1: differences to the baseline, cubic fit.", tuple(columns), tuple(rows), notes)


def _pchip_table(differences: Differences, figures: Sequence[Figure], notes: tuple[str, ...]) -> Table:
    columns = (Column("method", numeric=False), *map(_column, figures))
    rows: list[tuple[Cell, ...]] = [
        (method.name, *(differences.value(method.name, figure, "pchip") for figure in figures)) for method in METHODS
    ]
    return Table("table1_pchip", "The same by pchip, as a check of the fit.", columns, tuple(rows), notes)


def _column(figure: Figure) -> Column:
    return _named(column(figure))


def _named(of_figure: Column) -> Column:
    unit = "points" if of_figure.unit == "%" else of_figure.unit
    return replace(of_figure, title=f"BD-{of_figure.title}", unit=unit)


def _ranges(models: DatasetModels, differences: Differences, figures: Sequence[Figure]) -> tuple[str, ...]:
    pixels = pixels_of(models.results[0])
    ranges = {
        figure.title: [(pixels * low, pixels * high) for low, high in differences.rates(figure)] for figure in figures
    }
    distinct = {pair for pairs in ranges.values() for pair in pairs}
    if len(distinct) == 1:
        low, high = distinct.pop()
        return (f"Means over {low:.2f} to {high:.2f} bits per image.",)
    return tuple(
        f"{title}: means over {' and '.join(f'{low:.2f} to {high:.2f}' for low, high in pairs)} bits per image."
        for title, pairs in ranges.items()
        if pairs
    )
