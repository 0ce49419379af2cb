"""Rate and quality of the four methods: the table of all points, the curves of Fig. 3, and what was trained."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from callbacks.names import ACCURACY, BITS, CONFID, FID, MSE
from lightning_modules.reports.decoder_result import cell
from lightning_modules.reports.digits.measures import PRINTED, notes_on
from lightning_modules.reports.digits.models import METHODS, DatasetModels
from lightning_modules.reports.digits.results import Result
from lightning_modules.reports.drawing import label_axes, plot, write_panels
from lightning_modules.reports.model import Figure
from lightning_modules.reports.section import Section, Shown
from lightning_modules.reports.style import axis_title
from lightning_modules.reports.table import Cell, Column, Missing, Table
from lightning_modules.reports.trained_with import training_table

RATE = Column("rate", "bits", False, 3)
RATE_TITLE = "rate (bits per image)"


def rates_section(models: DatasetModels, figures: Sequence[Figure]) -> Section:
    """Every point of the four methods, and the curves."""
    present = [method for method in METHODS if models.of(method)]
    shown = (
        Shown("rates", "Rate against distortion, perception and accuracy (Fig. 3)", partial(_draw, models, figures)),
    )
    return Section(
        "Rates",
        text=(
            "The rate is the cross-entropy of code and digit, in bits per image, as in the paper. The stream is an "
            "image's share of the file that holds the whole test set; the gap is how much more that is.",
        ),
        tables=(_rates_table(models, figures),),
        shown=shown if present else (),
        remarks=tuple(f"No records of {method.name}." for method in METHODS if method not in present),
    )


def models_table(models: DatasetModels) -> Table:
    """The models behind the curves: what they were trained with, and the fingerprints of their weights."""
    results = [model.first for model in (*models.unlabelled, *models.labelled, *models.joint)]
    columns = (
        Column("code bits"),
        Column("side information", numeric=False),
        Column("noise dimensions"),
        Column("β", numeric=False),
    )
    return training_table(results, columns, _model_cells)


def _model_cells(result: Result) -> tuple[Cell, ...]:
    return (
        result.code_bits,
        "label" if result.labelled else "none",
        Missing("the records do not say") if result.noise_dim is None else result.noise_dim,
        "" if result.beta is None else f"{result.beta:g}",
    )


def _rates_table(models: DatasetModels, figures: Sequence[Figure]) -> Table:
    order = [figure for base in (MSE, FID, CONFID, ACCURACY) for figure in PRINTED.of_base(figures, base)]
    columns = (
        Column("method", numeric=False),
        Column("code bits"),
        RATE,
        Column("stream", "bits", False, 3),
        Column("gap", "%", False, 2),
        *map(PRINTED.column, order),
    )
    rows: list[tuple[Cell, ...]] = []
    shown: list[Result] = []
    for method in METHODS:
        for result in models.of(method):
            stream = cell(result, BITS, "")
            gap = stream if isinstance(stream, Missing) else 100 * (float(stream) / result.rate - 1)
            values = (cell(result, figure.name, "") for figure in order)
            rows.append((method.name, result.code_bits, result.rate, stream, gap, *values))
            shown.append(result)
    return Table("rates", "The four methods at every rate.", columns, tuple(rows), notes_on(shown, figures))


def _draw(models: DatasetModels, figures: Sequence[Figure], stem: Path) -> list[Path]:
    drawn = [figure for figure in figures if any(models.values(method, figure) for method in METHODS)]

    def panel(i: int, axes: Axes) -> list[Line2D]:
        lines = []
        for style, method in enumerate(METHODS):
            if points := models.values(method, drawn[i]):
                lines.append(plot(axes, points, method.name, style))
        label_axes(axes, RATE_TITLE, axis_title(drawn[i]))
        axes.set_xlim(left=0)
        return lines

    return write_panels(len(drawn), panel, stem)
