"""Fig. 10: FID against the entropy of the noise that g2 gets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from callbacks.names import FID
from lightning_modules.reports.decoder_result import cell
from lightning_modules.reports.digits import paper
from lightning_modules.reports.digits.measures import PRINTED
from lightning_modules.reports.digits.models import DatasetModels, Model
from lightning_modules.reports.digits.randomness import (
    PRINTED_ENTROPY,
    SOURCE_BITS,
    dimensions_needed,
    noise_entropy,
    randomness_needed,
)
from lightning_modules.reports.drawing import label_axes, plot, write_panels
from lightning_modules.reports.model import Figure
from lightning_modules.reports.section import Section, Shown
from lightning_modules.reports.style import COLOURS, axis_title
from lightning_modules.reports.table import Cell, Column, Missing, Table

PIXELS = 1024
PRINTED_RATES = (4, 32)
"""Rates R0 of B.4, in bits."""


def noise_section(models: DatasetModels, figures: Sequence[Figure]) -> Section:
    """The bound, the study beside the printed FID, and the figure."""
    fids, h = PRINTED.of_base(figures, FID), noise_entropy()
    tables = [_bound_table(sorted({*PRINTED_RATES, *models.noise}), h)]
    if models.noise:
        tables.append(_study_table(models, fids, h))
    tables.append(_printed_table(models, fids, h))
    drawn = [f for f in fids if any(_points(group, f, h) for group in models.noise.values())]
    shown = Shown(
        "randomness",
        "FID against the entropy of the noise; dashed: the bound (Fig. 10)",
        partial(_draw, models, drawn, h),
    )
    text = (
        f"A float32 number of N(0, 1) noise has {h:.3f} bits by the Monte Carlo estimate that the paper describes; "
        f"it prints {PRINTED_ENTROPY}. The axis is log₂ H(W), set to 0 where there is no noise; the paper does not "
        "name its base.",
        "H(W) is that of noise from a true random source. What a seeded generator draws has at most the entropy of "
        "its seed, however many dimensions it fills.",
    )
    remarks = () if models.noise else ("No records of models without side information that differ in noise_dim.",)
    return Section("Fig. 10: common randomness", text, tuple(tables), (shown,) if drawn else (), remarks)


def log_entropy(noise_dim: int, h: float) -> float:
    """log2 H(W) of so many noise dimensions of `h` bits; 0 for none, as the paper defines it."""
    return math.log2(noise_dim * h) if noise_dim else 0.0


def _bound_table(rates: Sequence[int], h: float) -> Table:
    columns = (
        Column("R0", "bits"),
        Column("H(X) - (R0 + 1)", "bits", digits=2),
        Column(f"dimensions of {h:.3f} bits"),
        Column(f"dimensions of {PRINTED_ENTROPY} bits"),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            rate,
            randomness_needed(SOURCE_BITS, rate),
            *(dimensions_needed(SOURCE_BITS, rate, each) for each in (h, PRINTED_ENTROPY)),
        )
        for rate in rates
    ]
    caption = f"Noise that perfect perceptual quality needs (Theorem 4), with H(X) = {SOURCE_BITS} bits."
    return Table("randomness_bound", caption, columns, tuple(rows))


def _study_table(models: DatasetModels, figures: Sequence[Figure], h: float) -> Table:
    columns = (
        Column("R0", "bits"),
        Column("noise dimensions"),
        Column("H(W)", "bits", digits=1),
        Column("log₂ H(W)", digits=2),
        Column("reaches the bound", numeric=False),
        *map(PRINTED.column, figures),
    )
    rows: list[tuple[Cell, ...]] = []
    for code_bits, group in models.noise.items():
        needed = dimensions_needed(SOURCE_BITS, code_bits, h)
        for model in group:
            k = _noise(model)
            values = (cell(model.series["g2"], figure.name, "") for figure in figures)
            rows.append((code_bits, k, k * h, log_entropy(k, h), "yes" if k >= needed else "no", *values))
    return Table("randomness", "FID of g2 by the noise it gets, without side information.", columns, tuple(rows))


def _printed_table(models: DatasetModels, figures: Sequence[Figure], h: float) -> Table:
    columns = (
        Column("the paper's", numeric=False),
        Column("FID, paper", "", False, 2),
        Column("noise dimensions, ours"),
        *map(PRINTED.column, figures),
    )
    rows: list[tuple[Cell, ...]] = []
    for row in paper.randomness().rows:
        code_bits = round(PIXELS * (row.bpp or 0))
        group = models.noise.get(code_bits, ())
        needed = dimensions_needed(SOURCE_BITS, code_bits, h)
        enough = not row.setting.startswith(("insufficient", "no noise"))
        match = next((m for m in group if (_noise(m) >= needed if enough else _noise(m) == 0)), None)
        what = f"of at least {needed}" if enough else "of 0"
        absent = f"no record with {code_bits} code bits and a noise_dim {what}"
        k: Cell = Missing(absent) if match is None else _noise(match)
        values = (cell(None if match is None else match.series["g2"], figure.name, absent) for figure in figures)
        rows.append((row.setting, row.figures[FID], k, *values))
    notes = (
        "How much insufficient noise is, the paper does not print: ours beside it has none. Ours beside sufficient "
        "noise has the least that reaches the bound.",
    )
    return Table("randomness_paper", "The FID that B.4 prints.", columns, tuple(rows), notes)


def _noise(model: Model) -> int:
    return model.first.noise_dim or 0


def _points(group: Sequence[Model], figure: Figure, h: float) -> list[tuple[float, float]]:
    pairs = [(log_entropy(_noise(model), h), model.series["g2"].value(figure.name)) for model in group]
    return [(x, y) for x, y in pairs if y is not None and y > 0]


def _draw(models: DatasetModels, figures: Sequence[Figure], h: float, stem: Path) -> list[Path]:
    def panel(i: int, axes: Axes) -> list[Line2D]:
        lines = []
        for style, (code_bits, group) in enumerate(models.noise.items()):
            if points := _points(group, figures[i], h):
                lines.append(plot(axes, points, f"R0 = {code_bits} bits", style))
            bound = math.log2(max(1.0, randomness_needed(SOURCE_BITS, code_bits)))
            axes.axvline(bound, color=COLOURS[style], linestyle=(0, (4, 1.6)), linewidth=0.8, zorder=2)
        label_axes(axes, "log₂ H(W), H(W) in bits", axis_title(figures[i]), log_y=True)
        return lines

    return write_panels(len(figures), panel, stem)
