"""The tables of a report: points, BD values, costs, what is missing, and how everything was measured."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from callbacks.names import DECODE_MS, ENCODE_MS
from lightning_modules.reports.bd import METHODS, BdRow, BdTable, BdValue, Method, bd_table
from lightning_modules.reports.comparable import rules
from lightning_modules.reports.errors import ReportError
from lightning_modules.reports.figures import KNOWN, companion, digits_of, title_of
from lightning_modules.reports.model import Curve, Figure, Point
from lightning_modules.reports.table import Cell, Column, Missing, Table

__all__ = [
    "Cell",
    "Column",
    "Missing",
    "Table",
    "bd_tables",
    "cost_table",
    "not_available_table",
    "points_table",
    "protocols_table",
]

CODEC = Column("Codec", numeric=False)
DATASET = Column("Dataset", numeric=False)
RATE_UNIT = "bit/pixel"
LITTLE_OVERLAP = 0.5
"""Share of a common range in all that two curves cover, under which a note says how small it is."""


def points_table(curves: Sequence[Curve], figures: Sequence[Figure]) -> Table:
    """Every point with its rate and figures, one row each.

    Args:
        curves: The curves.
        figures: One column each, and one for what accompanies it (`companion`), where a point has it.
    """
    present = {name for curve in curves for point in curve.points for name in point.figures}
    beside = [(figure, companion(figure)) for figure in figures]
    figures = [f for pair in beside for f in pair if f is not None and (f is pair[0] or f.name in present)]
    columns = (
        *(CODEC, DATASET, Column("Setting", numeric=False), Column("Rate", RATE_UNIT, False, 4)),
        *(Column(f.title, f.unit, f.higher_is_better, digits_of(f)) for f in figures),
    )
    rows: list[tuple[Cell, ...]] = []
    for curve in curves:
        for point in curve.points:
            values = (_figure(point, figure.name) for figure in figures)
            rows.append((curve.codec, curve.dataset, point.label, point.bpp, *values))
    notes = tuple(f"{curve.codec} on {curve.dataset}: {note}" for curve in curves for note in curve.notes)
    return Table("points", "Every point: means over the images of its dataset.", columns, tuple(rows), notes)


def bd_tables(
    curves: Sequence[Curve],
    figures: Sequence[Figure],
    anchor: str,
    methods: Sequence[Method] = METHODS,
    common_range: bool = False,
) -> list[Table]:
    """BD-rates and BD-metrics against an anchor, one table per dataset and figure that can be compared.

    Datasets without the anchor have none, nor have figures without direction or that the anchor or all others lack.

    Args:
        curves: The curves, of any number of datasets.
        figures: The figures.
        anchor: Name of the codec compared with.
        methods: Interpolations, beside each other.
        common_range: See `bd_table`.

    Raises:
        ReportError: No curve is the anchor.
    """
    if all(curve.codec != anchor for curve in curves):
        there = ", ".join(dict.fromkeys(curve.codec for curve in curves)) or "none"
        raise ReportError(f"no curve is called {anchor!r}, so it cannot be the anchor; there are: {there}")
    tables = []
    for dataset in dict.fromkeys(curve.dataset for curve in curves if curve.codec == anchor):
        group = [curve for curve in curves if curve.dataset == dataset]
        base = next(curve for curve in group if curve.codec == anchor)
        for figure in figures:
            if figure.higher_is_better is None or not any(figure.name in p.figures for p in base.points):
                continue
            values = bd_table(group, figure, anchor, methods, common_range)
            if values.rows:
                tables.append(_bd_table(values))
    return tables


def cost_table(curves: Sequence[Curve]) -> Table:
    """Parameters, operations per pixel and times: a row per codec and, where it has parts, one per part.

    Points of a curve that differ in size or device have rows of their own. Published points are left out but for
    their times. What a record does not know is "n/a": classical codecs have no parameters.
    """
    columns = (
        *(CODEC, DATASET, Column("Settings", numeric=False), Column("Part", numeric=False)),
        Column("Parameters", "M", False, 3),
        Column("Operations", "kMACs/pixel", False, 3),
        Column("Encode", "ms", False, 1),
        Column("Decode", "ms", False, 1),
        Column("Device", numeric=False),
    )
    rows: list[tuple[Cell, ...]] = []
    for curve in curves:
        for points in _alike(curve):
            record = points[0].record or {}
            parameters = {part: count / 1e6 for part, count in (record.get("parameters") or {}).items()}
            kmacs = dict((record.get("kmacs_per_pixel") or {}).items())
            times = [_mean_time(points, name) for name in (ENCODE_MS, DECODE_MS)]
            if not (parameters or kmacs or any(isinstance(time, float) for time in times)):
                continue
            who = (curve.codec, curve.dataset, _labels(points, curve))
            device = str(record.get("device") or "not recorded")
            total = (_total(parameters, "parameters"), _total(kmacs, "operations"))
            rows.append((*who, "all", *total, *times, device))
            for part in dict.fromkeys([*parameters, *kmacs]):
                # A part without parameters, or that runs no counted operation, has none: that is known.
                size: Cell = parameters.get(part, 0.0) if parameters else Missing("not recorded")
                work: Cell = kmacs.get(part, 0.0) if kmacs else Missing("not recorded")
                rows.append((*who, part, size, work, "", "", ""))
    notes = ("Times are means over the images, and then over the settings of the row, on the device named.",)
    return Table("cost", "What coding costs.", columns, tuple(rows), notes if rows else ())


def not_available_table(curves: Sequence[Curve]) -> Table:
    """Figures without a mean, or measured on some of the images only, and why."""
    columns = tuple(Column(title, numeric=False) for title in ("Figure", "Codec", "Dataset", "Settings", "Reason"))
    rows: list[tuple[Cell, ...]] = []
    for curve in curves:
        groups: dict[tuple[str, str], list[Point]] = defaultdict(list)
        for point in curve.points:
            for name, reason in point.missing.items():
                groups[name, reason].append(point)
        for (name, reason), points in groups.items():
            rows.append((title_of(name), curve.codec, curve.dataset, _labels(points, curve), reason))
    rows.sort(key=lambda row: tuple(str(cell) for cell in row[:3]))
    return Table("not_available", "What could not be measured, and why.", columns, tuple(rows))


def protocols_table(curves: Sequence[Curve]) -> Table:
    """What exactly was computed: a row per figure, dataset and protocol, with the codecs that share it."""
    columns = tuple(Column(title, numeric=False) for title in ("Figure", "Dataset", "Codecs", "Protocol"))
    order = [figure.name for figure in KNOWN]
    groups: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    measured: dict[str, set[str]] = defaultdict(set)
    for curve in curves:
        for point in curve.points:
            for name, protocol in (point.record or {}).get("protocols", {}).items():
                groups[name, curve.dataset, _protocol(protocol)].append(curve.codec)
                measured[curve.dataset].add(curve.codec)

    def place(key: tuple[str, str, str]) -> tuple[int, str, str]:
        name, dataset, _ = key
        return (order.index(name) if name in order else len(order), name, dataset)

    rows: list[tuple[Cell, ...]] = []
    for name, dataset, text in sorted(groups, key=place):
        codecs = dict.fromkeys(groups[name, dataset, text])
        who = "all" if set(codecs) == measured[dataset] else ", ".join(codecs)
        rows.append((title_of(name), dataset, who, text))
    return Table("protocols", "What exactly was computed.", columns, tuple(rows))


def _figure(point: Point, name: str) -> Cell:
    if name in point.figures:
        return point.figures[name]
    return Missing(point.missing.get(name, "not measured"))


def _bd_table(values: BdTable) -> Table:
    figure, methods = values.figure, values.methods
    unit = figure.unit
    digits = digits_of(figure)
    columns = (
        CODEC,
        *(Column(f"BD-rate, {method}", "%", False, 2) for method in methods),
        *(Column(f"BD-{figure.title}, {method}", unit, figure.higher_is_better, digits) for method in methods),
        *(Column(f"Rate, {end}", RATE_UNIT, None, 4) for end in ("from", "to")),
        *(Column(f"{figure.title}, {end}", unit, None, digits) for end in ("from", "to")),
    )
    rows, notes = [], []
    for row in values.rows:
        cells = [_value(delta) for column in (row.rate, row.metric) for delta in column.values()]
        rates, qualities = _range(row.metric.values(), "rates"), _range(row.rate.values(), "qualities")
        rows.append((row.codec, *cells, *rates, *qualities))
        notes += _bd_notes(row)
    over = (
        "the range that all curves have in common"
        if values.common_range
        else "the range that each pair has in common"
    )
    caption = (
        f"{figure.title} on {values.dataset} against {values.anchor}: BD-rate over the stated values of "
        f"{figure.title}, BD-{figure.title} over the stated rates, {over}."
    )
    name = f"bd_{_slug(values.dataset)}_{_slug(figure.name)}"
    return Table(name, caption, columns, tuple(rows), tuple(notes))


def _value(delta: BdValue) -> Cell:
    return Missing(delta.reason) if delta.value is None else delta.value


def _range(deltas: Iterable[BdValue], axis: str) -> tuple[Cell, Cell]:
    """Of the deltas that there are; where the methods differ in it, a note gives each."""
    ranges = [getattr(delta, axis) for delta in deltas if delta.value is not None]
    if not ranges:
        return Missing("no BD value"), Missing("no BD value")
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def _bd_notes(row: BdRow) -> list[str]:
    reasons: dict[str, list[str]] = defaultdict(list)
    notes = []
    for what, axis, column in (("BD-rate", "qualities", row.rate), ("BD-metric", "rates", row.metric)):
        for method, delta in column.items():
            if delta.value is None:
                reasons[delta.reason].append(f"{what} ({method})")
        ranges = {method: getattr(delta, axis) for method, delta in column.items() if delta.value is not None}
        if len(set(ranges.values())) > 1:
            each = ", ".join(f"{method} {low:.4g} to {high:.4g}" for method, (low, high) in ranges.items())
            notes.append(f"{row.codec}, {what}: the methods do not have the same range: {each}.")
        shares = [delta.overlap for delta in column.values() if delta.overlap is not None]
        if shares and min(shares) < LITTLE_OVERLAP:
            notes.append(f"{row.codec}, {what}: over {min(shares):.0%} of what the two curves cover together.")
    return [f"{row.codec}, {', '.join(which)}: {reason}." for reason, which in reasons.items()] + notes


def _alike(curve: Curve) -> list[list[Point]]:
    """The points of a curve that cost the same but for time."""
    groups: dict[str, list[Point]] = defaultdict(list)
    for point in curve.points:
        record = point.record or {}
        key = repr([record.get(part) for part in ("parameters", "kmacs_per_pixel", "device")])
        groups[key].append(point)
    return list(groups.values())


def _mean_time(points: Sequence[Point], name: str) -> Cell:
    times = [point.figures[name] for point in points if name in point.figures]
    if len(times) < len(points):
        return Missing("not measured at every setting")
    return sum(times) / len(times)


def _total(parts: Mapping[str, float], what: str) -> Cell:
    return float(sum(parts.values())) if parts else Missing(f"{what} are not recorded")


def _labels(points: Sequence[Point], curve: Curve) -> str:
    if len(points) == len(curve.points) > 1:
        return f"all {len(points)}"
    return ", ".join(point.label for point in points)


def _protocol(protocol: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{key.replace('_', ' ')}: {value}"
        for key, value in rules(protocol).items()
        if key != "higher_is_better" and value != ""
    )


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")
