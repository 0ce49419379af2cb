"""The rate-distortion chart of a W&B workspace, in Vega-Lite."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from callbacks.names import BPP
from callbacks.rd_points import Cell

SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
LABEL = "label"
"""Column that the chart makes: the curve, with the group of its runs where they have one."""


def label(curve: str, group: str) -> str:
    """The name of a curve, as the chart itself makes it of its columns."""
    return f"{curve} · {group}" if group else curve


def rd_chart(local: Sequence[Mapping[str, Cell]] = ()) -> dict[str, Any]:
    """One figure over the rate on one data set: the points of each curve, joined by rising rate.

    The chart is a preset for many panels. A panel says with `field_settings` which column of the table `rd_points`
    is its figure (`y`), and with `string_settings` its `dataset`, `title` and `y_title`; W&B puts these in for
    `${field:y}` and `${string:...}`, joins the tables of all runs to the data `wandb`, and gives each row the `name`
    of its run. A point without the figure (null) is left out, and its neighbours are joined.

    Args:
        local: Points that W&B's tables lack, such as those of classical codecs: drawn dashed, with hollow marks.
    """
    shown = [
        {"filter": "datum.dataset === '${string:dataset}'"},
        {"filter": "isValid(datum['${field:y}'])"},
        {"calculate": "datum.group ? datum.curve + ' · ' + datum.group : datum.curve", "as": LABEL},
    ]
    chart: dict[str, Any] = {
        "$schema": SCHEMA,
        "description": "Figure over rate; one line per codec, decoder and group of runs.",
        "title": "${string:title}",
        "data": {"name": "wandb"},
        "transform": shown,
        "encoding": _encoding(),
        "layer": _layers({}, {"filled": True}),
    }
    if local:
        own = {"data": {"values": [dict(row) for row in local]}, "transform": shown}
        chart["layer"] += [{**own, **layer} for layer in _layers({"strokeDash": [6, 4]}, {"filled": False})]
    return chart


def chart_name(chart: Mapping[str, Any]) -> str:
    """Name of a preset: its content decides, so that a name never stands for two charts."""
    text = json.dumps(chart, sort_keys=True, ensure_ascii=False)
    return f"rd-curve-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def _encoding() -> dict[str, Any]:
    return {
        "x": {"field": BPP, "type": "quantitative", "title": "rate in bits per pixel", "scale": {"zero": False}},
        "y": {
            "field": "${field:y}",
            "type": "quantitative",
            "title": "${string:y_title}",
            "scale": {"zero": False},
        },
        "color": {"field": LABEL, "type": "nominal", "title": None},
    }


def _layers(line: Mapping[str, Any], point: Mapping[str, Any]) -> list[dict[str, Any]]:
    columns = (("curve", "nominal"), ("setting", "nominal"), (BPP, "quantitative"), ("${field:y}", "quantitative"))
    tooltip = [{"field": name, "type": kind} for name, kind in (*columns, ("name", "nominal"))]
    return [
        {"mark": {"type": "line", **line}, "encoding": {"order": {"field": BPP, "type": "quantitative"}}},
        {"mark": {"type": "point", "size": 50, **point}, "encoding": {"tooltip": tooltip}},
    ]
