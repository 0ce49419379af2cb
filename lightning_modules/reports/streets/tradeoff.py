"""Decoders between g1 and g2 (Fig. 7): MSE beside the one that theory has, and what it buys."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from callbacks.names import MSE
from lightning_modules.reports.decoder_result import cell
from lightning_modules.reports.drawing import label_axes, plot, write_panels
from lightning_modules.reports.interpolation import PREFIX, interpolation, prediction
from lightning_modules.reports.model import Figure
from lightning_modules.reports.section import Section, Shown
from lightning_modules.reports.streets.measures import MSE_DIGITS, PRINTED
from lightning_modules.reports.streets.models import DatasetModels, Model
from lightning_modules.reports.style import axis_title
from lightning_modules.reports.table import Cell, Column, Table


def tradeoff_section(models: DatasetModels, figures: Sequence[Figure]) -> Section:
    """Every model that was decoded between g1 and g2: its figures by the weight of g2, and drawn."""
    title = "Interpolation between g1 and g2"
    dialled = [model for model in models.all if any(name.startswith(PREFIX) for name in model.series)]
    if not dialled:
        return Section(title, remarks=("No records of decoders between g1 and g2 (model.realism of the test).",))
    gained = [figure for figure in figures if figure.name != MSE]
    drawn = [figure for figure in gained if any(_points(model, figure) for model in dialled)]
    alt = "MSE against perception and segmentation of (1 - a) g1 + a g2"
    text = (
        "One file of g1 and g2 is decoded to (1 - a) g1 + a g2, with one draw of noise. Where g1 is the mean of the "
        "images of a code, the MSE is MSE_1 + a² (MSE_2 - MSE_1).",
    )
    shown = (Shown("tradeoff", alt, partial(_draw, dialled, drawn)),) if drawn else ()
    return Section(title, text, (_table(dialled, gained),), shown)


def _table(models: Sequence[Model], figures: Sequence[Figure]) -> Table:
    columns = (
        Column("model", numeric=False),
        Column("a", digits=2),
        Column("MSE", "", False, MSE_DIGITS),
        Column("predicted", digits=MSE_DIGITS),
        Column("deviation", "%", digits=2),
        *map(PRINTED.column, figures),
    )
    rows: list[tuple[Cell, ...]] = []
    for model in models:
        results = interpolation(model.series)
        ends = [cell(results.get(a), MSE, f"no record of {name}") for a, name in ((0.0, "g1"), (1.0, "g2"))]
        for a in sorted(results, reverse=True):
            mse = cell(results[a], MSE, "")
            others = (cell(results[a], figure.name, "") for figure in figures)
            rows.append((str(model), a, mse, *prediction(a, ends, mse), *others))
    caption = "Interpolation; predicted: MSE_1 + a² (MSE_2 - MSE_1)."
    return Table("interpolation", caption, columns, tuple(rows))


def _points(model: Model, figure: Figure) -> list[tuple[float, float]]:
    results = interpolation(model.series)
    pairs = [(results[a].value(MSE), results[a].value(figure.name)) for a in sorted(results)]
    return [(x, y) for x, y in pairs if x is not None and y is not None]


def _draw(models: Sequence[Model], figures: Sequence[Figure], stem: Path) -> list[Path]:
    def panel(i: int, axes: Axes) -> list[Line2D]:
        lines = [
            plot(axes, points, str(model), style)
            for style, model in enumerate(models)
            if (points := _points(model, figures[i]))
        ]
        label_axes(axes, "MSE ↓", axis_title(figures[i]))
        return lines

    return write_panels(len(figures), panel, stem)
