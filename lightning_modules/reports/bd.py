"""BD-rate and BD-metric of every codec of a dataset against one anchor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from lightning_modules.reports.delta import METHODS, BdValue, Method, Range, bd_metric, bd_rate
from lightning_modules.reports.errors import ReportError
from lightning_modules.reports.model import Curve, Figure, Kind

__all__ = ["METHODS", "BdRow", "BdTable", "BdValue", "Method", "Range", "bd_metric", "bd_rate", "bd_table"]


@dataclass(frozen=True)
class BdRow:
    """One codec against the anchor."""

    codec: str
    kind: Kind
    rate: Mapping[Method, BdValue]
    """BD-rate in %."""
    metric: Mapping[Method, BdValue]
    """BD-metric in the figure's unit."""


@dataclass(frozen=True)
class BdTable:
    """BD values of one figure on one dataset."""

    figure: Figure
    dataset: str
    anchor: str
    methods: tuple[Method, ...]
    common_range: bool
    rows: tuple[BdRow, ...]
    """All curves that have the figure, but the anchor."""


def bd_table(
    curves: Sequence[Curve],
    figure: Figure,
    anchor: str,
    methods: Sequence[Method] = METHODS,
    common_range: bool = False,
) -> BdTable:
    """BD values of all curves of a dataset against one of them.

    Args:
        curves: Curves of one dataset.
        figure: The figure.
        anchor: Name of the codec compared with.
        methods: Interpolations.
        common_range: Take all means over the range that all curves with a value have in common, instead of each
            pair's own: rates for BD-metrics (Xu et al., Conditional Perceptual Quality Preserving Image Compression,
            2023), and in the same way the figure's values for BD-rates.

    Raises:
        ReportError: The curves are of several datasets, or none is the anchor.
    """
    if len(datasets := sorted({curve.dataset for curve in curves})) > 1:
        raise ReportError(f"BD values compare curves of one dataset, not of {', '.join(datasets)}")
    base = next((curve for curve in curves if curve.codec == anchor), None)
    if base is None:
        there = ", ".join(curve.codec for curve in curves) or "none"
        raise ReportError(f"no curve is called {anchor!r}, so it cannot be the anchor; there are: {there}")
    tests = [c for c in curves if c is not base and any(figure.name in point.figures for point in c.points)]
    rates = {m: _column(bd_metric, base, tests, figure, m, "rates", common_range) for m in methods}
    qualities = {m: _column(bd_rate, base, tests, figure, m, "qualities", common_range) for m in methods}
    rows = [
        BdRow(
            codec=test.codec,
            kind=test.kind,
            rate={method: qualities[method][i] for method in methods},
            metric={method: rates[method][i] for method in methods},
        )
        for i, test in enumerate(tests)
    ]
    return BdTable(figure, base.dataset, anchor, tuple(methods), common_range, tuple(rows))


def _column(
    delta: Callable[[Curve, Curve, Figure, Method, Range | None], BdValue],
    base: Curve,
    tests: Sequence[Curve],
    figure: Figure,
    method: Method,
    axis: str,
    common_range: bool,
) -> list[BdValue]:
    values = [delta(base, test, figure, method, None) for test in tests]
    ranges: list[Range] = [getattr(value, axis) for value in values if value.value is not None]
    if not (common_range and ranges):
        return values
    # Every pair's range ends within the anchor's, so their intersection is that of all curves.
    common = max(low for low, _ in ranges), min(high for _, high in ranges)
    if common[0] >= common[1]:
        reason = f"the {len(ranges) + 1} curves have no common range of {axis}; compare them in pairs"
        return [value if value.value is None else replace(value, value=None, reason=reason) for value in values]
    return [
        value if value.value is None else delta(base, test, figure, method, common)
        for test, value in zip(tests, values, strict=True)
    ]
