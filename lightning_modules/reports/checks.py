"""Claims of a paper as checks with numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from callbacks.names import MSE
from lightning_modules.reports.decoder_result import DecoderResult, value_of
from lightning_modules.reports.section import Section
from lightning_modules.reports.table import Cell, Column, Missing, Table

Row = tuple[Cell, ...]
"""Claim, what was measured, verdict."""


def checks_section(rows: Sequence[Row]) -> Section:
    """One row per claim."""
    columns = (Column("claim", numeric=False), Column("measured", numeric=False), Column("verdict", numeric=False))
    return Section("Checks", tables=(Table("checks", "The paper's claims.", columns, tuple(rows)),))


def verdict(claim: str, measured: str, holds: bool) -> Row:
    """A claim, what was measured, and whether it holds."""
    return claim, measured, "holds" if holds else "does not hold"


def in_words(value: float) -> str:
    """Two decimals, with a true minus sign."""
    return f"{value:.2f}".replace("-", "−")


def mse_ratio_check(series: Mapping[str, DecoderResult], largest: float, model: object) -> Row:
    """Whether the MSE of g2 is at most `largest` times that of g1 (Theorem 2.5: twice, for perfect decoders).

    Args:
        series: A model's results by decoder.
        largest: The ratio.
        model: Its name.
    """
    claim = f"MSE of g2 ≤ {largest} x MSE of g1, {model}"
    values = [value_of(series, decoder, MSE, model) for decoder in ("g1", "g2")]
    numbers = [value for value in values if not isinstance(value, Missing)]
    if len(numbers) < len(values):
        return claim, "", next(value for value in values if isinstance(value, Missing))
    ratio = numbers[1] / numbers[0]
    return verdict(claim, f"{numbers[1]:.4f} / {numbers[0]:.4f} = {ratio:.3f}", ratio <= largest)
