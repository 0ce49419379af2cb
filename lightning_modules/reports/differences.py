"""Bjøntegaard differences of the methods of a paper against its baseline, over the rates that all have."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_modules.reports.bd import METHODS, BdTable, Method, Range, bd_table
from lightning_modules.reports.model import Curve, Figure
from lightning_modules.reports.table import Missing


class Differences:
    """BD values of a test set: mean difference to the baseline over the logarithm of the rate.

    As the first author of Xu et al. (2023) later described it: a cubic per method, and the rates that all methods
    have in common (tongdaxu/Idempotence-and-Perceptual-Image-Compression, issue 4). Pchip over the same rates is a
    check, or stands in for it where there are too few points.

    Args:
        curves: A curve of every method, by its name; those without points count as absent.
        figures: What is compared.
        anchor: The baseline's name.
    """

    def __init__(self, curves: Sequence[Curve], figures: Sequence[Figure], anchor: str) -> None:
        there = [curve for curve in curves if curve.points]
        self.anchor = anchor
        self._tables: dict[str, BdTable] = {}
        if any(curve.codec == anchor for curve in there):
            for figure in figures:
                self._tables[figure.name] = bd_table(there, figure, anchor, METHODS, True)
        self._absent = {curve.codec for curve in curves if not curve.points}

    def value(self, codec: str, figure: Figure, fit: Method = "cubic") -> float | Missing:
        """The difference in the figure's unit (shares: percentage points), or why there is none."""
        for name in (self.anchor, codec):
            if name in self._absent:
                return Missing(f"no records of {name}")
        if codec == self.anchor:
            return 0.0
        for row in self._tables[figure.name].rows:
            if row.codec == codec:
                found = row.metric[fit]
                return Missing(found.reason) if found.value is None else found.value
        return Missing(f"no record of {codec} has {figure.title}")

    def rates(self, figure: Figure, fits: Sequence[Method] = METHODS) -> list[Range]:
        """The rates in bit/pixel that the means are taken over; more than one where fits have other points."""
        table = self._tables.get(figure.name)
        values = [row.metric[fit] for row in (table.rows if table else ()) for fit in fits]
        return sorted({value.rates for value in values if value.value is not None and value.rates is not None})
