"""Rate-distortion curves to explore with the pointer: one Plotly figure per kind of figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from lightning_modules.reports.model import Curve, Figure, Point
from lightning_modules.reports.style import (
    RATE_TITLE,
    CurveStyle,
    axis_title,
    drawn,
    drawn_points,
    value_text,
)

RATE_TICKS = tuple(digit * 10.0**power for power in range(-4, 3) for digit in (1, 2, 5))
"""Where a logarithmic rate axis is labelled (bpp)."""

PER_IMAGE = "per image"
"""`meta.role` of the traces of single images; those of means have "mean"."""

FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', Arial, sans-serif"

CONFIG: dict[str, Any] = {
    "displaylogo": False,
    "responsive": True,
    "showLink": False,
    "showSendToCloud": False,
    "showEditInChartStudio": False,
    "plotlyServerURL": "",
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
    "toImageButtonOptions": {"format": "svg"},
}
"""Plotly's configuration: no logo, no link, nothing that could leave the page."""

_DASHES = {"solid": "solid", "dashed": "dash", "none": "solid"}


def rate_figure(
    curves: Sequence[Curve], styles: Sequence[CurveStyle], figure: Figure, log_rate: bool = False
) -> go.Figure:
    """Rate against one kind of figure.

    Every curve that has the figure gives a trace of its means. Where its points know their images there is a second
    trace, hidden at first, with the points of each image joined by a thin line. Traces carry
    `meta = {"curve": title, "role": "mean" or "per image"}`, by which the page's script finds them, and the layout
    carries `meta.log_ticks`, the labels of the logarithmic axis.

    Args:
        curves: of one dataset.
        styles: of the curves, from `style_curves`.
        figure: what is drawn upwards.
        log_rate: start with a logarithmic rate axis.
    """
    traces: list[go.Scatter] = []
    rates: list[float] = []
    for curve, style in zip(curves, styles, strict=True):
        points = drawn_points(curve, figure)
        if points:
            singles = _image_trace(curve, style, figure)
            traces += [singles] if singles is not None else []
            traces.append(_mean_trace(curve, style, figure, points))
            rates += [rate for rate, _, _ in points]
    ticks = [tick for tick in RATE_TICKS if rates and min(rates) / 5 <= tick <= max(rates) * 5]
    drawing = go.Figure(data=traces, layout=_layout(figure, log_rate))
    drawing.layout.meta = {"log_ticks": ticks, "figure": figure.name}
    if log_rate:
        drawing.layout.xaxis.update(type="log", tickvals=ticks)
    return drawing


def _mean_trace(
    curve: Curve, style: CurveStyle, figure: Figure, points: Sequence[tuple[float, float, int]]
) -> go.Scatter:
    details = []
    for rate, _, i in points:
        point = curve.points[i]
        details.append([point.label, f"{rate:.4f}", value_text(figure, point.figures[figure.name]), _count(point)])
    return go.Scatter(
        x=[rate for rate, _, _ in points],
        y=[height for _, height, _ in points],
        customdata=details,
        name=style.title,
        meta={"curve": style.title, "role": "mean"},
        mode="markers" if style.line == "none" else "lines+markers",
        line={"color": style.colour, "width": 2, "dash": _DASHES[style.line]},
        marker={
            "symbol": style.plotly_marker if style.filled else f"{style.plotly_marker}-open",
            "size": 9,
            "color": style.colour,
            "line": {"width": 0 if style.filled else 1.6, "color": style.colour},
        },
        hovertemplate=(
            "<b>%{meta.curve}</b><br>%{customdata[0]}<br>%{customdata[1]} bpp<br>"
            f"{figure.title} %{{customdata[2]}}%{{customdata[3]}}<extra></extra>"
        ),
    )


def _image_trace(curve: Curve, style: CurveStyle, figure: Figure) -> go.Scatter | None:
    by_image: dict[str, list[tuple[float, float, list[str]]]] = {}
    for point in curve.points:
        for picture in point.pictures:
            if figure.name in picture.figures and picture.figures.get("bpp", 0) > 0:
                value, rate = picture.figures[figure.name], picture.figures["bpp"]
                if math.isfinite(height := drawn(figure, value)):
                    detail = [picture.name, point.label, f"{rate:.4f}", value_text(figure, value)]
                    by_image.setdefault(picture.name, []).append((rate, height, detail))
    if not by_image:
        return None
    x: list[float | None] = []
    y: list[float | None] = []
    details: list[list[str] | None] = []
    for name in sorted(by_image):
        for rate, height, detail in sorted(by_image[name], key=lambda row: row[0]):
            x.append(rate)
            y.append(height)
            details.append(detail)
        x.append(None)  # ends the image's line
        y.append(None)
        details.append(None)
    return go.Scatter(
        x=x[:-1],
        y=y[:-1],
        customdata=details[:-1],
        name=f"{style.title}, {PER_IMAGE}",
        meta={"curve": style.title, "role": PER_IMAGE},
        visible=False,
        showlegend=False,
        mode="lines+markers",
        opacity=0.45,
        line={"color": style.colour, "width": 0.7},
        marker={"symbol": style.plotly_marker, "size": 4, "color": style.colour},
        hovertemplate=(
            "<b>%{customdata[0]}</b><br>%{meta.curve}, %{customdata[1]}<br>%{customdata[2]} bpp<br>"
            f"{figure.title} %{{customdata[3]}}<extra></extra>"
        ),
    )


def _count(point: Point) -> str:
    return f"<br>mean of {len(point.pictures)} images" if len(point.pictures) > 1 else ""


def _layout(figure: Figure, log_rate: bool) -> dict[str, Any]:
    axis = {
        "showline": True,
        "linecolor": "#555",
        "linewidth": 1,
        "gridcolor": "#e4e4e4",
        "gridwidth": 1,
        "ticks": "outside",
        "ticklen": 4,
        "tickcolor": "#555",
        "zeroline": False,
        "automargin": True,
    }
    return {
        "template": "none",
        "font": {"family": FONT, "size": 13, "color": "#1c1c1c"},
        "xaxis": {
            **axis,
            "title": {"text": RATE_TITLE, "standoff": 8},
            **({} if log_rate else {"rangemode": "tozero"}),
        },
        "yaxis": {**axis, "title": {"text": axis_title(figure), "standoff": 8}},
        # Below, since buttons are above.
        "legend": {
            "orientation": "h",
            "xref": "container",
            "x": 0.02,
            "xanchor": "left",
            "yref": "container",
            "y": 0,
            "yanchor": "bottom",
            "font": {"size": 12},
        },
        "margin": {"l": 60, "r": 12, "t": 32, "b": 56},
        "hovermode": "closest",
        "hoverlabel": {"align": "left", "bgcolor": "white", "font": {"color": "#1c1c1c", "size": 12}},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
    }
