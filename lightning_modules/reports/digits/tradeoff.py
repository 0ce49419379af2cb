"""Table 3 and Fig. 5: distortion against conditional perception at the lowest rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from callbacks.names import ACCURACY, CONFID, FID, MSE
from lightning_modules.reports.decoder_result import cell
from lightning_modules.reports.digits import paper
from lightning_modules.reports.digits.measures import PRINTED, TO_OUR_UNIT
from lightning_modules.reports.digits.models import JOINT, DatasetModels, Model
from lightning_modules.reports.digits.results import Result
from lightning_modules.reports.drawing import label_axes, plot, write_panels
from lightning_modules.reports.interpolation import PREFIX, interpolation, prediction
from lightning_modules.reports.model import Figure
from lightning_modules.reports.section import Section, Shown
from lightning_modules.reports.style import axis_title
from lightning_modules.reports.table import Cell, Column, Missing, Table

PIXELS = 1024


def lowest(models: DatasetModels) -> Model | None:
    """The model with the digit and the lowest rate that was decoded between g1 and g2."""
    return next((m for m in models.labelled if any(name.startswith(PREFIX) for name in m.series)), None)


def tradeoff_section(models: DatasetModels, figures: Sequence[Figure]) -> Section:
    """Interpolation and joint training beside the paper's rows, and both drawn."""
    model = lowest(models)
    results = interpolation(model.series) if model is not None else {}
    remarks, tables = [], []
    if model is None:
        remarks.append("No records of decoders between g1 and g2 with the digit as side information.")
    else:
        tables.append(_interpolation_table(model, results, figures))
    if models.joint:
        tables.append(_joint_table(models.joint, figures))
    else:
        remarks.append("No records of jointly trained models.")
    tables.append(_printed_joint())
    drawn = [figure for figure in PRINTED.of_base(figures, CONFID) if _points([*results.values()], figure)]
    shown = Shown(
        "tradeoff",
        "MSE against ConFID of interpolation and joint training; open markers: the paper's (Fig. 5)",
        partial(_draw, results, [m for m in models.joint if model is not None and _alike(m, model)], drawn),
    )
    text = (
        "Interpolation decodes one stream of g1 and g2 to (1 - a) g1 + a g2, with one draw of noise. The paper does "
        "not print its weights a; those beside its rows are the ones that its MSE follow. Joint training minimises "
        "MSE + β (-D) with encoder, decoder and critic at once; the paper's β are not printed.",
    )
    title = "Table 3 and Fig. 5: distortion against conditional perception"
    return Section(title, text, tuple(tables), (shown,) if drawn else (), tuple(remarks))


def _interpolation_table(model: Model, results: dict[float, Result], figures: Sequence[Figure]) -> Table:
    printed = dict(zip(paper.REALISM, paper.table_3(jointly=False), strict=True))
    ends = [cell(results.get(a), MSE, f"no record of {name}") for a, name in ((0.0, "g1"), (1.0, "g2"))]
    columns = [Column("a", digits=2)]
    for base in (MSE, CONFID, FID, ACCURACY):
        columns += map(PRINTED.column, PRINTED.of_base(figures, base))
        if base == MSE:
            columns += [Column("predicted", digits=4), Column("deviation", "%", digits=2)]
        columns.append(PRINTED.printed_column(base))
    rows: list[tuple[Cell, ...]] = []
    for a in sorted({*results, *paper.REALISM}, reverse=True):
        result = results.get(a)
        cells: list[Cell] = [a]
        for base in (MSE, CONFID, FID, ACCURACY):
            cells += [cell(result, figure.name, _no_series(a)) for figure in PRINTED.of_base(figures, base)]
            if base == MSE:
                cells += prediction(a, ends, cells[-1])
            no_row = Missing("the paper has no such row")
            cells.append(TO_OUR_UNIT[base] * printed[a].figures[base] if a in printed else no_row)
        rows.append(tuple(cells))
    first = model.first
    notes = (f"Ours: code bits {first.code_bits}, rate {first.rate:.2f} bits. The paper's rows are at 4.29 bits.",)
    caption = "Interpolation at the lowest rate; predicted: MSE_1 + a² (MSE_2 - MSE_1)."
    return Table("table3_interpolation", caption, tuple(columns), tuple(rows), notes)


def _no_series(a: float) -> str:
    return f"no record of {'g1' if a == 0 else 'g2' if a == 1 else f'{PREFIX}{a:g}'}"


def _joint_table(joint: Sequence[Model], figures: Sequence[Figure]) -> Table:
    columns = (
        Column("β", digits=4),
        Column("code bits"),
        Column("side information", numeric=False),
        Column("rate", "bits", False, 3),
        *map(PRINTED.column, figures),
    )
    rows: list[tuple[Cell, ...]] = []
    for model in joint:
        result = model.series[JOINT]
        values = (cell(result, figure.name, "") for figure in figures)
        side = "label" if result.labelled else "none"
        rows.append((result.beta or 0.0, result.code_bits, side, result.rate, *values))
    return Table("table3_joint", "Jointly trained, one model per β.", columns, tuple(rows))


def _printed_joint() -> Table:
    bases = (MSE, CONFID, FID, ACCURACY)
    columns = (Column("row", numeric=False), Column("rate", "bits", False, 2), *map(PRINTED.printed_column, bases))
    rows: list[tuple[Cell, ...]] = [
        (row.setting, PIXELS * (row.bpp or 0), *(TO_OUR_UNIT[base] * row.figures[base] for base in bases))
        for row in paper.table_3(jointly=True)
    ]
    return Table("table3_joint_paper", "Jointly trained, the paper's rows.", columns, tuple(rows))


def _alike(joint: Model, model: Model) -> bool:
    """Whether a jointly trained model is at the rate of the interpolation, and has the digit too."""
    return joint.first.labelled and joint.code_bits == model.code_bits


def _points(results: Sequence[Result], figure: Figure) -> list[tuple[float, float]]:
    pairs = [(result.value(MSE), result.value(figure.name)) for result in results]
    return [(x, y) for x, y in pairs if x is not None and y is not None and math.isfinite(y) and y > 0]


def _draw(results: dict[float, Result], joint: Sequence[Model], figures: Sequence[Figure], stem: Path) -> list[Path]:
    def panel(i: int, axes: Axes) -> list[Line2D]:
        figure, lines = figures[i], []
        ours = [results[a] for a in sorted(results)]
        lines.append(plot(axes, _points(ours, figure), "interpolation", 0))
        if points := _points([model.series[JOINT] for model in joint], figure):
            lines.append(plot(axes, points, "trained jointly, β", 1, joined=False))
        for style, (jointly, label) in enumerate(((False, "interpolation, paper"), (True, "trained jointly, paper"))):
            points = [(row.figures[MSE], row.figures[CONFID]) for row in paper.table_3(jointly)]
            lines.append(plot(axes, points, label, style, joined=False, measured=False))
        label_axes(axes, "MSE ↓", axis_title(figure), log_y=True)
        return lines

    return write_panels(len(figures), panel, stem)
