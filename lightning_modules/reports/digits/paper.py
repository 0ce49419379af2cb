"""The paper's numbers, from `configs/references`."""

from __future__ import annotations

from functools import lru_cache

from lightning_modules.reports.reference_file import Printed, Reference, read_reference
from lightning_modules.reports.references import FOLDER

REALISM = (1.0, 0.9, 0.8, 0.6, 0.4, 0.2, 0.0)
"""Weights of g2 in the rows of Table 3. They are not printed, but with these MSE_1 + a^2 (MSE_2 - MSE_1) meets the
printed MSE to 0.0003."""


@lru_cache
def table_1() -> Reference:
    """BD differences on MNIST."""
    return read_reference(FOLDER / "conditional_table1_mnist.json")


def table_3(jointly: bool) -> list[Printed]:
    """Rows of Table 3: those of the interpolation, one for each of `REALISM`, or those of joint training."""
    rows = _table_3().rows
    return [row for row in rows if ("jointly" in row.codec) == jointly]


@lru_cache
def randomness() -> Reference:
    """FID with and without noise, in the text of B.4."""
    return read_reference(FOLDER / "conditional_text_randomness.json")


@lru_cache
def _table_3() -> Reference:
    return read_reference(FOLDER / "conditional_table3_mnist.json")
