"""Rate-distortion curves for papers: PNG, SVG and PDF, the same bytes from the same records."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from lightning_modules.files import write_atomically
from lightning_modules.reports.model import Curve, Figure
from lightning_modules.reports.style import RATE_TITLE, CurveStyle, axis_title, drawn_points

COLUMN = 3.45
"""Width of one column of a two-column paper, in inches."""
PANELS_PER_ROW = 3
PANEL = (2.35, 2.05)
"""Width and height of one panel among several, in inches."""
DPI = 300
MAX_IN_AXES = 6
"""A longer legend would hide the curves and goes above them."""

FORMATS: dict[str, dict[str, Any]] = {
    ".png": {"dpi": DPI, "metadata": {"Software": None}},
    ".svg": {"metadata": {"Date": None, "Creator": None}},
    ".pdf": {"metadata": {"CreationDate": None, "Creator": None, "Producer": None}},
}
"""What is written, and without what would differ from day to day."""

RC: dict[str, Any] = {
    # Ships with matplotlib: the same picture on every machine. In the SVG, text stays text.
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.8,
    "lines.markeredgewidth": 0.9,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.4,
    "legend.frameon": False,
    "legend.handlelength": 2.0,
    "svg.fonttype": "none",
    "svg.hashsalt": "rate-distortion",
    "pdf.fonttype": 42,
}

RATE_STEPS = (1, 2, 3, 5, 7)
"""Labelled digits of a logarithmic rate axis."""

_LINES = {"solid": "-", "dashed": (0, (4, 1.6)), "none": "none"}


def write_single(
    curves: Sequence[Curve], styles: Sequence[CurveStyle], figure: Figure, stem: Path, log_rate: bool = False
) -> list[Path]:
    """One kind of figure, one column wide; the paths that were written (`stem` and the suffixes of `FORMATS`)."""

    def draw() -> Drawing:
        drawing = blank(COLUMN, 2.6)
        axes = drawing.subplots()
        handles = _draw(axes, curves, styles, figure, log_rate)
        if len(handles) <= MAX_IN_AXES:
            axes.legend(handles=handles, loc=_free_corner(figure))  # type: ignore[call-overload]
        else:
            legend_above(drawing, handles)
        return drawing

    return write_drawing(draw, stem)


def write_panels(
    curves: Sequence[Curve],
    styles: Sequence[CurveStyle],
    figures: Sequence[Figure],
    stem: Path,
    log_rate: bool = False,
) -> list[Path]:
    """All kinds of figures side by side under one legend, up to both columns wide; the paths that were written.

    Raises:
        ValueError: no figures.
    """
    if not figures:
        raise ValueError("there are no figures to draw")

    def draw() -> Drawing:
        columns = min(PANELS_PER_ROW, len(figures))
        rows = math.ceil(len(figures) / columns)
        drawing = blank(PANEL[0] * columns, PANEL[1] * rows)
        grid = drawing.subplots(rows, columns, squeeze=False)
        handles: dict[str, Line2D] = {}
        for i, axes in enumerate(grid.flat):
            if i < len(figures):
                for handle in _draw(axes, curves, styles, figures[i], log_rate):
                    handles.setdefault(str(handle.get_label()), handle)
            else:
                axes.set_axis_off()
        legend_above(drawing, [handles[style.title] for style in styles if style.title in handles])
        return drawing

    return write_drawing(draw, stem)


def _draw(
    axes: Axes, curves: Sequence[Curve], styles: Sequence[CurveStyle], figure: Figure, log_rate: bool
) -> list[Line2D]:
    """Draw the curves that have the figure; their lines, for a legend."""
    handles = []
    rates: list[float] = []
    for curve, style in zip(curves, styles, strict=True):
        points = drawn_points(curve, figure)
        if points:
            (line,) = axes.plot(
                [rate for rate, _, _ in points],
                [height for _, height, _ in points],
                label=style.title,
                color=style.colour,
                linestyle=_LINES[style.line],
                marker=style.matplotlib_marker,
                markerfacecolor=style.colour if style.filled else "white",
                markeredgecolor="white" if style.filled else style.colour,
                markeredgewidth=0.4 if style.filled else 0.9,
                clip_on=False,
                zorder=2.5 if style.line == "dashed" else 3,
            )
            handles.append(line)
            rates += [rate for rate, _, _ in points]
    axes.set_xlabel(RATE_TITLE)
    axes.set_ylabel(axis_title(figure))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=(1, 2, 5, 10)))
    if log_rate and rates:
        axes.set_xscale("log")
        low, high = min(rates) / 1.15, max(rates) * 1.15
        axes.set_xlim(low, high)
        axes.xaxis.set_major_locator(FixedLocator(rate_ticks(low, high)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
    else:
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=(1, 2, 5, 10)))
    return handles


def rate_ticks(low: float, high: float) -> list[float]:
    """Labels of a logarithmic rate axis from `low` to `high` bpp: at most eight or so, that do not collide."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in (RATE_STEPS, (1, 2, 5), (1,)):
        ticks = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
        if len(ticks) <= 8:
            return ticks
    return ticks


def _free_corner(figure: Figure) -> str:
    """The corner that a curve leaves empty: more bits make a better picture."""
    return {True: "lower right", False: "upper right", None: "best"}[figure.higher_is_better]


def legend_above(drawing: Drawing, handles: Sequence[Line2D]) -> None:
    """A legend over the axes, in as few rows as its width allows."""
    for columns in range(len(handles), 0, -1):
        legend = drawing.legend(handles=handles, loc="outside upper center", ncols=columns)
        if columns == 1 or legend.get_window_extent().width <= drawing.bbox.width:
            drawing.set_figheight(drawing.get_figheight() + legend.get_window_extent().height / drawing.dpi)
            return
        legend.remove()


def blank(width: float, height: float) -> Drawing:
    """An empty drawing of a size in inches, which can measure text."""
    drawing = Drawing(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(drawing)
    return drawing


def write_drawing(draw: Callable[[], Drawing], stem: Path, suffixes: Sequence[str] | None = None) -> list[Path]:
    """Draw in the house style and write it in formats of `FORMATS`, the same bytes from the same drawing.

    Args:
        draw: Makes the drawing.
        stem: Path without suffix.
        suffixes: Which formats; None for all.
    """
    written = []
    with mpl.rc_context(RC):  # type: ignore[arg-type]
        drawing = draw()
        # Arranged once, not for every format.
        drawing.draw_without_rendering()
        drawing.set_layout_engine("none")
        for suffix in FORMATS if suffixes is None else suffixes:
            path, options = stem.with_name(stem.name + suffix), FORMATS[suffix]
            write_atomically(path, lambda draft, options=options: drawing.savefig(draft, **options))  # type: ignore[misc]
            written.append(path)
    return written
