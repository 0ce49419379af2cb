"""Table 1: Bjøntegaard differences of the four methods against the baseline, beside the paper's."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_modules.reports.difference_tables import DifferenceTables
from lightning_modules.reports.differences import Differences
from lightning_modules.reports.digits import paper
from lightning_modules.reports.digits.measures import PRINTED
from lightning_modules.reports.digits.models import BASELINE, METHODS, DatasetModels
from lightning_modules.reports.digits.results import pixels_of
from lightning_modules.reports.model import Figure
from lightning_modules.reports.section import Section


def differences_of(models: DatasetModels, figures: Sequence[Figure]) -> Differences:
    """BD values of the four methods."""
    return Differences([models.curve(method) for method in METHODS], figures, BASELINE.name)


def differences_section(models: DatasetModels, differences: Differences, figures: Sequence[Figure]) -> Section:
    """Table 1 by the cubic with the paper's columns, and the same by pchip."""
    make = DifferenceTables(differences, METHODS, figures, PRINTED)
    pixels = pixels_of(models.results[0])
    notes = make.ranges(lambda rate: f"{pixels * rate:.2f}", "bits per image")
    printed = {row.codec: row.figures for row in paper.table_1().rows}
    text = (
        "Mean difference to the baseline over the logarithm of the rate, over the rates that all methods have in "
        "common. Differences are in the figure's own unit, those of accuracy in percentage points. The paper does "
        "not say which features its FID and ConFID use; with others than these, only sign and order compare.",
    )
    tables = (
        make.beside_paper("table1", "Table 1: differences to the baseline, cubic fit.", "cubic", printed, notes),
        make.check("table1_pchip", notes),
    )
    return Section("Table 1: Bjøntegaard differences", text, tables)
