"""Plots of reproduction reports in the house style, as PNG and SVG, the same bytes from the same records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, ScalarFormatter

from lightning_modules.reports.static_figures import PANEL, blank, legend_above, write_drawing
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

    def drawn() -> Drawing:
        columns = min(COLUMNS, count)
        rows = -(-count // columns)
        drawing = blank(1.35 * PANEL[0] * columns, 1.25 * PANEL[1] * rows)
        handles: dict[str, Line2D] = {}
        for i, axes in enumerate(drawing.subplots(rows, columns, squeeze=False).flat):
            if i < count:
                for line in draw(i, axes):
                    handles.setdefault(str(line.get_label()), line)
            else:
                axes.set_axis_off()
        legend_above(drawing, list(handles.values()))
        return drawing

    return write_drawing(drawn, stem, SUFFIXES)


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
