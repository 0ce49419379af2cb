"""Bjøntegaard deltas of two curves, by the `bjontegaard` package, or the reason why there is none.

BD-metric is the mean vertical distance of two curves over the logarithm of the rate (G. Bjøntegaard, VCEG-M33,
2001), BD-rate the mean horizontal one, as a percentage. Method "cubic" is that paper's: one cubic polynomial, fitted
by least squares where there are more than four points. "pchip" interpolates piecewise and monotonically through every
point.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, Protocol

import bjontegaard
import numpy as np

from lightning_modules.reports.comparable import incomparable
from lightning_modules.reports.model import Curve, Figure

Method = Literal["cubic", "pchip"]
Range = tuple[float, float]

METHODS: tuple[Method, ...] = ("cubic", "pchip")
MIN_POINTS: dict[Method, int] = {"cubic": 4, "pchip": 3}
"""A cubic has four coefficients; through two points pchip is but a straight line."""


UNDETERMINED = "the points are too close together to determine a cubic"


class Interpolator(Protocol):
    """A curve of the package, over the logarithm of the rate to base 10 or over the figure."""

    def integrate(self, low: float, high: float) -> float:
        """Its integral."""


@dataclass(frozen=True)
class BdValue:
    """A Bjøntegaard delta, or why there is none."""

    value: float | None
    """BD-rate in %, or BD-metric in the figure's unit; test minus anchor."""
    reason: str
    """Why it is not available; "" where it is."""
    method: Method
    rates: Range | None
    """Rates in bit/pixel that both curves have; of a BD-metric, what the mean is taken over."""
    qualities: Range | None
    """The figure's values that both curves have; of a BD-rate, what the mean is taken over."""
    overlap: float | None = None
    """The common range as a share of all that the two curves cover together, on the axis of the mean."""


def bd_metric(
    anchor: Curve, test: Curve, figure: Figure, method: Method = "cubic", rates: Range | None = None
) -> BdValue:
    """Mean distance of a figure, test minus anchor, over the logarithm of the rate.

    Args:
        anchor: The curve compared with.
        test: The curve compared.
        figure: The figure; a lower-is-better one improves where the value is negative.
        method: Interpolation.
        rates: Lower and upper end in bit/pixel; must lie within both curves. Without, all that they have in common.

    Returns:
        The value, or the reason why there is none: figures that are not comparable, too few points, two points of
        one rate, no common rates, or rates that a curve does not reach.
    """
    sides = (_Series.of(anchor, figure), _Series.of(test, figure))
    reason = incomparable(anchor, test, figure) or _unfit(sides, method)
    common, qualities = _common([side.rates for side in sides]), _common([side.values for side in sides])
    reason = reason or _outside(sides, [side.rates for side in sides], common, rates, "rates", "bit/pixel")
    if reason:
        return BdValue(None, reason, method, rates or common, qualities)
    used = rates or common
    assert used is not None
    result = _run(bjontegaard.bd_psnr, sides, 1.0, method)
    if result is None:
        return BdValue(None, UNDETERMINED, method, used, qualities)
    value, f_anchor, f_test = result
    if rates is not None:  # the package has no argument for it, but it hands out its interpolators
        low, high = math.log10(rates[0]), math.log10(rates[1])
        value = (f_test.integrate(low, high) - f_anchor.integrate(low, high)) / (high - low)
    share = _share([np.log(side.rates) for side in sides], (math.log(used[0]), math.log(used[1])))
    return _checked(float(value), method, used, qualities, share)


def bd_rate(
    anchor: Curve, test: Curve, figure: Figure, method: Method = "cubic", qualities: Range | None = None
) -> BdValue:
    """Mean difference of the rate in % at the same value of a figure; negative where test needs fewer bits.

    Args:
        anchor: The curve compared with.
        test: The curve compared.
        figure: The figure; its values must rise with the rate (fall, where lower is better) on both curves.
        method: Interpolation.
        qualities: Lowest and highest value of the figure; must lie within both curves. Without, all that they have
            in common. Nothing is extrapolated.

    Returns:
        The value, or the reason why there is none: as for `bd_metric`, and a figure without direction, a curve that
        is not monotone, or no common values of the figure.
    """
    sides = (_Series.of(anchor, figure), _Series.of(test, figure))
    reason = incomparable(anchor, test, figure) or _unfit(sides, method) or _not_monotone(sides, figure)
    rates, common = _common([side.rates for side in sides]), _common([side.values for side in sides])
    reason = reason or _outside(sides, [side.values for side in sides], common, qualities, figure.title, figure.unit)
    if reason:
        return BdValue(None, reason, method, rates, qualities or common)
    used = qualities or common
    assert used is not None
    # The package wants quality that rises with the rate.
    sign = 1.0 if figure.higher_is_better else -1.0
    result = _run(bjontegaard.bd_rate, sides, sign, method)
    if result is None:
        return BdValue(None, UNDETERMINED, method, rates, used)
    value, f_anchor, f_test = result
    if qualities is not None:
        low, high = sorted(sign * quality for quality in qualities)
        with np.errstate(over="ignore"):
            mean = (f_test.integrate(low, high) - f_anchor.integrate(low, high)) / (high - low)
            value = (np.power(10.0, mean) - 1) * 100
    return _checked(float(value), method, rates, used, _share([side.values for side in sides], used))


@dataclass(frozen=True)
class _Series:
    """The points of a curve that have a figure, by rising rate."""

    codec: str
    rates: np.ndarray
    values: np.ndarray
    labels: tuple[str, ...]

    @classmethod
    def of(cls, curve: Curve, figure: Figure) -> _Series:
        points = sorted((p for p in curve.points if figure.name in p.figures), key=lambda p: p.bpp)
        rates = np.array([point.bpp for point in points], dtype=np.float64)
        values = np.array([point.figures[figure.name] for point in points], dtype=np.float64)
        return cls(curve.codec, rates, values, tuple(point.label for point in points))


def _unfit(sides: Sequence[_Series], method: Method) -> str | None:
    for side in sides:
        count, needed = len(side.rates), MIN_POINTS[method]
        if count < needed:
            return f"{side.codec} has {count} point{'s'[: count != 1]} with this figure; {method} needs {needed}"
        for i, (a, b) in enumerate(pairwise(side.rates)):
            if a == b:
                return f"{side.codec} has two points of {a:.6g} bit/pixel, {side.labels[i]} and {side.labels[i + 1]}"
    return None


def _not_monotone(sides: Sequence[_Series], figure: Figure) -> str | None:
    if figure.higher_is_better is None:
        return f"{figure.title} has no direction"
    sign = 1 if figure.higher_is_better else -1
    for side in sides:
        for i, (a, b) in enumerate(pairwise(sign * side.values)):
            if not a < b:
                return (
                    f"{side.codec} is not monotone: {figure.title} does not improve from {side.labels[i]} to "
                    f"{side.labels[i + 1]}, though the rate grows"
                )
    return None


def _common(columns: Sequence[np.ndarray]) -> Range | None:
    """The range that all have, or `None` where it is empty or one value."""
    if any(not len(column) for column in columns):
        return None
    low, high = max(column.min() for column in columns), min(column.max() for column in columns)
    return (float(low), float(high)) if low < high else None


def _outside(
    sides: Sequence[_Series],
    columns: Sequence[np.ndarray],
    common: Range | None,
    wanted: Range | None,
    what: str,
    unit: str,
) -> str | None:
    """Why the wanted range cannot be had without extrapolation, or `None`."""
    covered = [
        f"{side.codec} {column.min():.4g} to {column.max():.4g}" for side, column in zip(sides, columns, strict=True)
    ]
    ranges = f"({', '.join(covered)}{f' {unit}' if unit else ''})"
    if common is None:
        return f"no common {what} {ranges}"
    if wanted is not None and not (common[0] <= wanted[0] < wanted[1] <= common[1]):
        return f"{what} {wanted[0]:.4g} to {wanted[1]:.4g} are not within both curves {ranges}"
    return None


def _share(columns: Sequence[np.ndarray], used: Range) -> float:
    low, high = min(column.min() for column in columns), max(column.max() for column in columns)
    return float((used[1] - used[0]) / (high - low))


def _run(
    function: Callable[..., Any], sides: Sequence[_Series], sign: float, method: Method
) -> tuple[float, Interpolator, Interpolator] | None:
    """The package's value and interpolators; `None` where the points do not determine a cubic."""
    arguments = [column for side in sides for column in (side.rates, sign * side.values)]
    with warnings.catch_warnings(record=True) as caught, np.errstate(over="ignore"):
        warnings.simplefilter("always")
        result = function(*arguments, method, require_matching_points=False, interpolators=True, min_overlap=0)
    return None if any(issubclass(warning.category, np.RankWarning) for warning in caught) else result


def _checked(value: float, method: Method, rates: Range | None, qualities: Range | None, overlap: float) -> BdValue:
    if not math.isfinite(value):
        return BdValue(
            None, f"the {method} fit gives {value}; the points are too close together", method, rates, qualities
        )
    return BdValue(value, "", method, rates, qualities, overlap)
