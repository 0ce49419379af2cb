"""Table 2: Bjøntegaard differences of the methods against the baseline, beside the paper's."""

from __future__ import annotations

from collections.abc import Sequence

from callbacks.names import MIOU
from lightning_modules.reports.bd import Method as Fit
from lightning_modules.reports.delta import MIN_POINTS
from lightning_modules.reports.difference_tables import DifferenceTables
from lightning_modules.reports.differences import Differences
from lightning_modules.reports.model import Figure
from lightning_modules.reports.section import Section
from lightning_modules.reports.streets import paper
from lightning_modules.reports.streets.measures import PRINTED
from lightning_modules.reports.streets.models import BASELINE, METHODS, DatasetModels

FITS: dict[Fit, str] = {"cubic": "cubic fit", "pchip": "piecewise cubic interpolation (pchip)"}


def differences_section(models: DatasetModels, figures: Sequence[Figure]) -> Section:
    """Table 2 with the paper's columns, by the paper's cubic where there are rates enough, else piecewise.

    With a cubic, the same by pchip follows as a check.
    """
    differences = Differences([models.curve(method) for method in METHODS], figures, BASELINE.name)
    make = DifferenceTables(differences, METHODS, figures, PRINTED)
    fit = fit_for(models, figures)
    text = (
        "Mean difference to the baseline over the logarithm of the rate, over the rates that all methods have in "
        "common. Differences are in the figure's own unit, those of mIoU in percentage points. The paper's are of "
        "Cityscapes, its mIoU of a DRN (Yu et al., 2017), and it does not say which features its FID uses; with "
        "other images or networks than these, only sign and order compare.",
    )
    printed = {row.codec: row.figures for row in paper.table_2().rows}
    notes = [*_why_not_cubic(fit), *_ranges(make, fit), *_of_paper()]
    caption = f"Table 2: differences to the baseline, {FITS[fit]}."
    tables = [make.beside_paper("table2", caption, fit, printed, notes)]
    if fit == "cubic":
        tables.append(make.check("table2_pchip", _ranges(make, "pchip")))
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


def _why_not_cubic(fit: Fit) -> list[str]:
    if fit == "cubic":
        return []
    return [
        f"The paper's cubic fit needs {MIN_POINTS['cubic']} rates of every method; there are fewer, so the mean is "
        f"of a piecewise interpolation through the points, which needs {MIN_POINTS['pchip']}."
    ]


def _ranges(make: DifferenceTables, fit: Fit) -> tuple[str, ...]:
    return make.ranges(lambda rate: f"{rate:.4f}", "bit/pixel", (fit,))


def _of_paper() -> list[str]:
    """What the paper's rows are, where that is not clear, and those that have no row here."""
    printed = {row.codec: row for row in paper.table_2().rows}
    notes = [f"{method.name}, paper: {doubt}" for method in METHODS if (doubt := printed[method.printed].doubtful)]
    ours = {method.printed for method in METHODS}
    return notes + [
        f"The paper also has {row.codec}, BD-mIoU {row.figures[MIOU]:+.2f}; it was not trained here."
        for row in printed.values()
        if row.codec not in ours and MIOU in row.figures
    ]
