"""Table 1: Bjøntegaard differences of the four methods against the baseline, beside the paper's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lightning_modules.reports.bd import BdTable, bd_table
from lightning_modules.reports.digits import paper
from lightning_modules.reports.digits.measures import PRINTED, column, of_base, printed_column
from lightning_modules.reports.digits.models import BASELINE, METHODS, DatasetModels, Method
from lightning_modules.reports.digits.results import pixels_of
from lightning_modules.reports.digits.section import Section
from lightning_modules.reports.model import Figure
from lightning_modules.reports.table import Cell, Column, Missing, Table


class Differences:
    """BD values of a test set: mean difference to the baseline over the logarithm of the rate.

    As the first author later described it: a cubic per method, and the rates that all methods have in common
    (tongdaxu/Idempotence-and-Perceptual-Image-Compression, issue 4). Pchip over the same rates is a check.
    """

    def __init__(self, models: DatasetModels, figures: Sequence[Figure]) -> None:
        curves = [curve for method in METHODS if (curve := models.curve(method)).points]
        self._tables: dict[str, BdTable] = {}
        if any(curve.codec == BASELINE.name for curve in curves):
            for figure in figures:
                self._tables[figure.name] = bd_table(curves, figure, BASELINE.name, ("cubic", "pchip"), True)
        self._pixels = pixels_of(models.results[0])
        self._absent = {method.name for method in METHODS if method.name not in {curve.codec for curve in curves}}

    def value(self, method: Method, figure: Figure, fit: str = "cubic") -> float | Missing:
        """The difference in the figure's unit (accuracy: percentage points), or why there is none."""
        for name in (BASELINE.name, method.name):
            if name in self._absent:
                return Missing(f"no records of {name}")
        if method is BASELINE:
            return 0.0
        for row in self._tables[figure.name].rows:
            if row.codec == method.name:
                found = next(value for name, value in row.metric.items() if name == fit)
                return Missing(found.reason) if found.value is None else found.value
        return Missing(f"no record of {method.name} has {figure.title}")

    def rates(self, figure: Figure) -> list[tuple[float, float]]:
        """The rates that the means are taken over, in bits per image; more than one where fits have other points."""
        table = self._tables.get(figure.name)
        rows = table.rows if table else ()
        values = [value for row in rows for value in row.metric.values() if value.value is not None]
        ranges = {value.rates for value in values if value.rates is not None}
        return sorted((self._pixels * low, self._pixels * high) for low, high in ranges)


def differences_section(differences: Differences, figures: Sequence[Figure]) -> Section:
    """Table 1 by the cubic with the paper's columns, and the same by pchip."""
    notes = _ranges(differences, figures)
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
            cells += [differences.value(method, figure) for figure in of_base(figures, base)]
            cells.append(printed[method.printed][base])
        rows.append(tuple(cells))
    return Table("table1", "Table 1: differences to the baseline, cubic fit.", tuple(columns), tuple(rows), notes)


def _pchip_table(differences: Differences, figures: Sequence[Figure], notes: tuple[str, ...]) -> Table:
    columns = (Column("method", numeric=False), *map(_column, figures))
    rows: list[tuple[Cell, ...]] = [
        (method.name, *(differences.value(method, figure, "pchip") for figure in figures)) for method in METHODS
    ]
    return Table("table1_pchip", "The same by pchip, as a check of the fit.", columns, tuple(rows), notes)


def _column(figure: Figure) -> Column:
    return _named(column(figure))


def _named(of_figure: Column) -> Column:
    unit = "points" if of_figure.unit == "%" else of_figure.unit
    return replace(of_figure, title=f"BD-{of_figure.title}", unit=unit)


def _ranges(differences: Differences, figures: Sequence[Figure]) -> tuple[str, ...]:
    ranges = {figure.title: differences.rates(figure) for figure in figures}
    distinct = {pair for pairs in ranges.values() for pair in pairs}
    if len(distinct) == 1:
        low, high = distinct.pop()
        return (f"Means over {low:.2f} to {high:.2f} bits per image.",)
    return tuple(
        f"{title}: means over {' and '.join(f'{low:.2f} to {high:.2f}' for low, high in pairs)} bits per image."
        for title, pairs in ranges.items()
        if pairs
    )
