"""Tables of Bjøntegaard differences, ours beside a paper's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from lightning_modules.reports.bd import METHODS as FITS
from lightning_modules.reports.bd import Method as Fit
from lightning_modules.reports.differences import Differences
from lightning_modules.reports.measured_models import Method
from lightning_modules.reports.model import Figure
from lightning_modules.reports.printed_figures import PrintedFigures
from lightning_modules.reports.table import Cell, Column, Missing, Table


@dataclass(frozen=True)
class DifferenceTables:
    """The tables of one test set."""

    differences: Differences
    methods: Sequence[Method]
    """Their rows."""
    figures: Sequence[Figure]
    """What is compared."""
    printed: PrintedFigures
    """Of the paper's table."""

    def beside_paper(
        self, name: str, caption: str, fit: Fit, paper: Mapping[str, Mapping[str, float]], notes: Sequence[str]
    ) -> Table:
        """The differences by one fit, and after those of each figure the paper's.

        Args:
            name: Of the table.
            caption: Of the table.
            fit: By which ours are.
            paper: `printed` of a method -> figure of the paper -> its difference.
            notes: Of the table.
        """
        columns = [Column("method", numeric=False)]
        for base in self.printed.bases:
            columns += map(self._column, self.printed.of_base(self.figures, base))
            columns.append(_bd(self.printed.printed_column(base)))
        rows: list[tuple[Cell, ...]] = []
        for method in self.methods:
            cells: list[Cell] = [method.name]
            for base in self.printed.bases:
                ours = self.printed.of_base(self.figures, base)
                cells += [self.differences.value(method.name, figure, fit) for figure in ours]
                theirs = paper[method.printed].get(base)
                cells.append(Missing("the paper does not print it") if theirs is None else theirs)
            rows.append(tuple(cells))
        return Table(name, caption, tuple(columns), tuple(rows), tuple(notes))

    def check(self, name: str, notes: Sequence[str]) -> Table:
        """The differences by pchip beside those of a cubic.

        Args:
            name: Of the table.
            notes: Of the table.
        """
        columns = (Column("method", numeric=False), *map(self._column, self.figures))
        rows: list[tuple[Cell, ...]] = [
            (method.name, *(self.differences.value(method.name, figure, "pchip") for figure in self.figures))
            for method in self.methods
        ]
        return Table(name, "The same by pchip, as a check of the fit.", columns, tuple(rows), tuple(notes))

    def ranges(self, rate: Callable[[float], str], unit: str, fits: Sequence[Fit] = FITS) -> tuple[str, ...]:
        """Notes on the rates that the means are over: one line where all figures have the same.

        Args:
            rate: A rate in bit/pixel as it is to read, without its unit.
            unit: Its unit.
            fits: By which the means are.
        """
        ranges = {figure.title: self.differences.rates(figure, fits) for figure in self.figures}
        distinct = {pair for pairs in ranges.values() for pair in pairs}
        if len(distinct) == 1:
            low, high = distinct.pop()
            return (f"Means over {rate(low)} to {rate(high)} {unit}.",)
        return tuple(
            f"{title}: means over {' and '.join(f'{rate(low)} to {rate(high)}' for low, high in pairs)} {unit}."
            for title, pairs in ranges.items()
            if pairs
        )

    def _column(self, figure: Figure) -> Column:
        return _bd(self.printed.column(figure))


def _bd(column: Column) -> Column:
    """The column of a figure's differences; those of shares are in percentage points."""
    return replace(column, title=f"BD-{column.title}", unit="points" if column.unit == "%" else column.unit)
