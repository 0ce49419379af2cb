"""Rate and quality of the methods: the table of all points, the curves of Fig. 6, and what was trained."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from callbacks.names import (
    BPP_GAP,
    BPP_R_Y_CONSTANT,
    DECODE_MS,
    ENCODE_MS,
    FID,
    MIOU,
    MIOU_ORIGINAL,
    MSE,
    PSNR,
    latent_bpp,
)
from lightning_modules.reports.decoder_result import cell
from lightning_modules.reports.drawing import label_axes, plot, write_panels
from lightning_modules.reports.model import Figure
from lightning_modules.reports.section import Section, Shown
from lightning_modules.reports.streets import paper
from lightning_modules.reports.streets.measures import PRINTED, notes_on
from lightning_modules.reports.streets.models import BASELINE, METHODS, PROPOSED_1, DatasetModels
from lightning_modules.reports.streets.results import Result
from lightning_modules.reports.style import RATE_TITLE, axis_title
from lightning_modules.reports.table import Cell, Column, Missing, Table
from lightning_modules.reports.trained_with import training_table

BPP_LABELS = latent_bpp("labels")
RATE = Column("rate", "bit/pixel", False, 4)
LOGGED = (BASELINE, PROPOSED_1)
"""Methods whose points the first author's code logged."""


def rates_section(models: DatasetModels, figures: Sequence[Figure]) -> Section:
    """Every point of the methods, and the curves."""
    present = [method for method in METHODS if models.of(method)]
    open_markers = "; open markers: logged by the first author's code" if _logged(models) else ""
    alt = f"Rate against distortion, perception and segmentation (Fig. 6){open_markers}"
    tables = [_rates_table(models, figures)]
    if _logged(models):
        tables.append(_logged_table(models))
    return Section(
        "Rates",
        text=(
            "Rates are of whole files, header included. That of Y is what the label map costs in them, as its "
            "entropy model tells; the gap is how much larger the files are than the likelihoods of all that they "
            "hold.",
        ),
        tables=tuple(tables),
        shown=(Shown("rates", alt, partial(_draw, models, figures)),) if present else (),
        remarks=tuple(f"No records of {method.name}." for method in METHODS if method not in present),
    )


def models_table(models: DatasetModels) -> Table:
    """The models behind the curves: what they were trained with, and the fingerprints of their weights."""
    columns = (Column("λ"), Column("side information", numeric=False), Column("critic", numeric=False))
    return training_table([model.first for model in models.all], columns, _model_cells)


def _model_cells(result: Result) -> tuple[Cell, ...]:
    return f"{result.lmbda:g}", "label map" if result.labelled else "none", result.critic or "none"


def _rates_table(models: DatasetModels, figures: Sequence[Figure]) -> Table:
    shown = [(method, result) for method in METHODS for result in models.of(method)]
    constant = any(result.value(BPP_R_Y_CONSTANT) is not None for _, result in shown)
    fids = PRINTED.of_base(figures, FID)
    columns = (
        Column("method", numeric=False),
        Column("λ"),
        RATE,
        Column("Y", "bit/pixel", digits=4),
        Column("gap", "bit/pixel", False, 4),
        *([Column("rate, constant Y", "bit/pixel", False, 4)] if constant else []),
        *map(PRINTED.column, PRINTED.of_base(figures, MSE)),
        Column("PSNR", "dB", True, 2),
        *map(PRINTED.column, PRINTED.of_base(figures, MIOU)),
        Column("mIoU of originals", "%", digits=2),
        *map(PRINTED.column, fids),
        Column("encoding", "ms", False, 1),
        Column("decoding", "ms", False, 1),
    )
    rows: list[tuple[Cell, ...]] = []
    for method, result in shown:
        named = (MSE, PSNR, MIOU, MIOU_ORIGINAL, *(figure.name for figure in fids), ENCODE_MS, DECODE_MS)
        # A codec without Y spends nothing on it, and its rate is its rate.
        labels: Cell = cell(result, BPP_LABELS, "") if method.labelled else 0.0
        with_constant: Cell = cell(result, BPP_R_Y_CONSTANT, "") if method.labelled else result.rate
        rows.append(
            (
                method.name,
                f"{result.lmbda:g}",
                result.rate,
                labels,
                cell(result, BPP_GAP, ""),
                *([with_constant] if constant else []),
                *(cell(result, name, "") for name in named),
            )
        )
    notes = notes_on([result for _, result in shown], figures)
    if constant:
        notes += (
            "The rate with a constant Y counts for the label map what the record's protocol says, as the paper does, "
            "and not what it cost.",
        )
    return Table("rates", "The methods at every rate.", columns, tuple(rows), notes)


def _logged(models: DatasetModels) -> bool:
    return paper.is_of_same_images(models.dataset)


def _logged_table(models: DatasetModels) -> Table:
    """The first stage beside the points that the first author's code logged."""
    columns = (
        Column("method", numeric=False),
        Column("λ", numeric=False),
        RATE,
        Column("rate, logged", "bit/pixel", False, 5),
        Column("MSE", "", False, 6),
        Column("MSE, logged", "", False, 6),
    )
    rows: list[tuple[Cell, ...]] = []
    for method in LOGGED:
        ours = {f"λ = {result.lmbda:g}": result for result in models.of(method)}
        for row in paper.stage_1_of(method.printed):
            result = ours.get(row.setting)
            absent = f"no record of {method.name} at {row.setting}"
            rate: Cell = Missing(absent) if result is None else result.rate
            mse = cell(result, MSE, absent)
            rows.append((method.name, row.setting.removeprefix("λ = "), rate, row.bpp or 0.0, mse, row.figures[MSE]))
    reference = paper.stage_1()
    notes = (f"Logged: {reference.source}.", *reference.notes, *_row_notes())
    return Table("stage1", "The first stage beside the first author's.", columns, tuple(rows), notes)


def _row_notes() -> list[str]:
    return [f"{note}." for note in dict.fromkeys(row.note for row in paper.stage_1().rows) if note]


def _draw(models: DatasetModels, figures: Sequence[Figure], stem: Path) -> list[Path]:
    results = [result for method in METHODS for result in models.of(method)]
    drawn = [figure for figure in figures if any(models.values(method, figure) for method in METHODS)]

    def panel(i: int, axes: Axes) -> list[Line2D]:
        figure, lines = drawn[i], []
        for style, method in enumerate(METHODS):
            if points := models.values(method, figure):
                lines.append(plot(axes, points, method.name, style))
            if figure.name == MSE and method in LOGGED and _logged(models):
                printed = [(row.bpp or 0.0, row.figures[MSE]) for row in paper.stage_1_of(method.printed)]
                label = f"{method.name}, logged"
                lines.append(plot(axes, printed, label, style, joined=False, measured=False))
        if figure.name == MIOU:
            lines += _ceiling(axes, results)
        label_axes(axes, RATE_TITLE, axis_title(figure))
        axes.set_xlim(left=0)
        return lines

    return write_panels(len(drawn), panel, stem)


def _ceiling(axes: Axes, results: Sequence[Result]) -> list[Line2D]:
    ceilings = [value for result in results if (value := result.value(MIOU_ORIGINAL)) is not None]
    if not ceilings:
        return []
    return [axes.axhline(max(ceilings), color="#7a7a7a", linestyle=(0, (4, 1.6)), linewidth=0.9, label="originals")]
