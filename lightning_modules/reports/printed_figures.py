"""The figures that a paper prints, and which of ours stand beside them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lightning_modules.reports.model import Figure
from lightning_modules.reports.table import Column


class PrintedFigure(NamedTuple):
    """A figure of a paper's tables."""

    base: str
    """Ours is named so, or so with the extractor behind it: "fid" and "fid_digits_resnet18"."""
    title: str
    unit: str
    higher_is_better: bool
    digits: int
    """Decimals of ours."""
    printed_digits: int
    """Decimals of the paper's."""


class PrintedFigures:
    """The figures of a paper's tables, in its order."""

    def __init__(self, figures: Sequence[PrintedFigure]) -> None:
        self._figures = {figure.base: figure for figure in figures}

    @property
    def bases(self) -> tuple[str, ...]:
        """Their names, in the paper's order."""
        return tuple(self._figures)

    def base_of(self, figure: Figure) -> str:
        """The paper's name of a figure of ours."""
        return next(base for base in self._figures if figure.name == base or figure.name.startswith(f"{base}_"))

    def of_base(self, figures: Iterable[Figure], base: str) -> list[Figure]:
        """The figures of ours that are the paper's `base` with some extractor."""
        return [figure for figure in figures if self.base_of(figure) == base]

    def column(self, figure: Figure) -> Column:
        """The column of a figure of ours in a table."""
        return Column(figure.title, figure.unit, figure.higher_is_better, self._figures[self.base_of(figure)].digits)

    def printed_column(self, base: str) -> Column:
        """The column of the paper's figures beside it."""
        _, title, unit, higher_is_better, _, printed_digits = self._figures[base]
        return Column(f"{title}, paper", unit, higher_is_better, printed_digits)
