"""Table 2: Bjøntegaard differences of the methods against the baseline, beside the paper's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from callbacks.names import MIOU
from lightning_modules.reports.bd import Method as Fit
from lightning_modules.reports.delta import MIN_POINTS
from lightning_modules.reports.differences import Differences
from lightning_modules.reports.model import Figure
from lightning_modules.reports.section import Section
from lightning_modules.reports.streets import paper
from lightning_modules.reports.streets.measures import BASES, column, of_base, printed_column
from lightning_modules.reports.streets.models import BASELINE, METHODS, DatasetModels
from lightning_modules.reports.table import Cell, Column, Missing, Table

FITS: dict[Fit, str] = {"cubic": "cubic fit", "pchip": "piecewise cubic interpolation (pchip)"}


def differences_section(models: DatasetModels, figures: Sequence[Figure]) -> Section:
    """Table 2 with the paper's columns, by the paper's cubic where there are rates enough, else piecewise.

    With a cubic, the same by pchip follows as a check.
    """
    differences = Differences([models.curve(method) for method in METHODS], figures, BASELINE.name)
    fit = fit_for(models, figures)
    text = (
        "Mean difference to the baseline over the logarithm of the rate, over the rates that all methods have in "
        "common. Differences are in the figure's own unit, those of mIoU in percentage points. The paper's are of "
        "Cityscapes, its mIoU of a DRN (Yu et al., 2017), and it does not say which features its FID uses; with "
        "other images or networks than these, only sign and order compare.",
    )
    tables = [_table_2(models, differences, figures, fit)]
    if fit == "cubic":
        tables.append(_check(differences, figures))
    title = "Table 2: Bjøntegaard differences"
    return Section(title if fit == "cubic" else f"{title}, by {FITS[fit]}", text, tuple(tables))


def fit_for(models: DatasetModels, figures: Sequence[Figure]) -> Fit:
    """The cubic, if no curve that is long enough for pchip is too short for it; the same for all, to compare them."""
    lengths = [
        sum(figure.name in result.point.figures for result in models.of(method))
        for method in METHODS
        for figure in figures
    ]
    long_enough = [length for length in lengths if length >= MIN_POINTS["pchip"]]
    return "cubic" if long_enough and min(long_enough) >= MIN_POINTS["cubic"] else "pchip"


def _table_2(models: DatasetModels, differences: Differences, figures: Sequence[Figure], fit: Fit) -> Table:
    printed = {row.codec: row for row in paper.table_2().rows}
    columns = [Column("method", numeric=False)]
    for base in BASES:
        columns += map(_column, of_base(figures, base))
        columns.append(_named(printed_column(base)))
    rows: list[tuple[Cell, ...]] = []
    for method in METHODS:
        cells: list[Cell] = [method.name]
        for base in BASES:
            cells += [differences.value(method.name, figure, fit) for figure in of_base(figures, base)]
            value = printed[method.printed].figures.get(base)
            cells.append(Missing("the paper does not print it") if value is None else value)
        rows.append(tuple(cells))
    notes = [*_why_not_cubic(fit), *_ranges(differences, figures, fit)]
    for method in METHODS:
        if doubt := printed[method.printed].doubtful:
            notes.append(f"{method.name}, paper: {doubt}")
    ours = {method.printed for method in METHODS}
    notes += [
        f"The paper also has {row.codec}, BD-mIoU {row.figures[MIOU]:+.2f}; it was not trained here."
        for row in printed.values()
        if row.codec not in ours and MIOU in row.figures
    ]
    caption = f"Table 2: differences to the baseline, {FITS[fit]}."
    return Table("table2", caption, tuple(columns), tuple(rows), tuple(notes))


def _check(differences: Differences, figures: Sequence[Figure]) -> Table:
    columns = (Column("method", numeric=False), *map(_column, figures))
    rows: list[tuple[Cell, ...]] = [
        (method.name, *(differences.value(method.name, figure, "pchip") for figure in figures)) for method in METHODS
    ]
    notes = _ranges(differences, figures, "pchip")
    return Table("table2_pchip", "The same by pchip, as a check of the fit.", columns, tuple(rows), notes)


def _why_not_cubic(fit: Fit) -> list[str]:
    if fit == "cubic":
        return []
    return [
        f"The paper's cubic fit needs {MIN_POINTS['cubic']} rates of every method; there are fewer, so the mean is "
        f"of a piecewise interpolation through the points, which needs {MIN_POINTS['pchip']}."
    ]


def _column(figure: Figure) -> Column:
    return _named(column(figure))


def _named(of_figure: Column) -> Column:
    unit = "points" if of_figure.unit == "%" else of_figure.unit
    return replace(of_figure, title=f"BD-{of_figure.title}", unit=unit)


def _ranges(differences: Differences, figures: Sequence[Figure], fit: Fit) -> tuple[str, ...]:
    ranges = {figure.title: differences.rates(figure, (fit,)) for figure in figures}
    distinct = {pair for pairs in ranges.values() for pair in pairs}
    if len(distinct) == 1:
        low, high = distinct.pop()
        return (f"Means over {low:.4f} to {high:.4f} bit/pixel.",)
    return tuple(
        f"{title}: means over {' and '.join(f'{low:.4f} to {high:.4f}' for low, high in pairs)} bit/pixel."
        for title, pairs in ranges.items()
        if pairs
    )
