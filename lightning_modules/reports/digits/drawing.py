"""Plots of the digits report in the house style, as PNG and SVG, the same bytes from the same records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, ScalarFormatter

from lightning_modules.files import write_atomically
from lightning_modules.reports.static_figures import FORMATS, PANEL, RC
from lightning_modules.reports.style import COLOURS, MARKERS

SUFFIXES = (".png", ".svg")
COLUMNS = 2
"""Panels beside each other."""


def write_panels(count: int, draw: Callable[[int, Axes], Sequence[Line2D]], stem: Path) -> list[Path]:
    """Write `count` panels under one legend.

    Args:
        count: How many.
        draw: Takes a panel's number and axes, draws, and returns lines with labels; each label stands once in the
            legend.
        stem: Path without suffix.

    Returns:
        The PNG and the SVG.
    """
    written = []
    with mpl.rc_context(RC):  # type: ignore[arg-type]
        columns = min(COLUMNS, count)
        rows = -(-count // columns)
        drawing = Drawing(figsize=(1.35 * PANEL[0] * columns, 1.25 * PANEL[1] * rows), layout="constrained")
        FigureCanvasAgg(drawing)
        handles: dict[str, Line2D] = {}
        for i, axes in enumerate(drawing.subplots(rows, columns, squeeze=False).flat):
            if i < count:
                for line in draw(i, axes):
                    handles.setdefault(str(line.get_label()), line)
            else:
                axes.set_axis_off()
        _legend_above(drawing, list(handles.values()))
        # Arranged once, not for every format.
        drawing.draw_without_rendering()
        drawing.set_layout_engine("none")
        for suffix in SUFFIXES:
            path = stem.with_name(stem.name + suffix)
            options = FORMATS[suffix]
            write_atomically(path, lambda draft, options=options: drawing.savefig(draft, **options))  # type: ignore[misc]
            written.append(path)
    return written


def plot(
    axes: Axes,
    points: Sequence[tuple[float, float]],
    label: str,
    style: int,
    joined: bool = True,
    measured: bool = True,
) -> Line2D:
    """Draw points; those that a paper prints have open markers.

    Args:
        axes: Where.
        points: x and y.
        label: For the legend.
        style: Place of its colour and marker in the palette.
        joined: Whether a line joins them.
        measured: Whether they are ours.
    """
    colour = COLOURS[style % len(COLOURS)]
    (line,) = axes.plot(
        [x for x, _ in points],
        [y for _, y in points],
        label=label,
        color=colour,
        linestyle="-" if joined else "none",
        marker=MARKERS[style % len(MARKERS)][1],
        markerfacecolor=colour if measured else "white",
        markeredgecolor="white" if measured else colour,
        markeredgewidth=0.4 if measured else 0.9,
        zorder=3 if measured else 2.5,
    )
    return line


def label_axes(axes: Axes, x: str, y: str, log_y: bool = False) -> None:
    """Titles and ticks."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    if log_y:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))


def _legend_above(drawing: Drawing, handles: Sequence[Line2D]) -> None:
    """A legend over the axes, in as few rows as its width allows."""
    for columns in range(len(handles), 0, -1):
        legend = drawing.legend(handles=handles, loc="outside upper center", ncols=columns)
        if columns == 1 or legend.get_window_extent().width <= drawing.bbox.width:
            drawing.set_figheight(drawing.get_figheight() + legend.get_window_extent().height / drawing.dpi)
            return
        legend.remove()
