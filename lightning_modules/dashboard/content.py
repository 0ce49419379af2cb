"""What a dashboard shows: the curves of result records, and the names under which their figures are logged."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from callbacks.names import BPP, Stage, metric_key
from callbacks.rd_points import Cell, point_row
from callbacks.record import series_name
from lightning_modules.dashboard.groups import read_groups, result_of
from lightning_modules.reports.curves import build_curves, figures_of
from lightning_modules.reports.errors import ReportError
from lightning_modules.reports.model import Curve, Figure, Point
from lightning_modules.reports.records import find_records, read_points
from lightning_modules.reports.tables import Table, bd_tables
from lightning_modules.reports.writer import default_anchor


@dataclass(frozen=True)
class Content:
    """Result records, read and compared, and what the project's runs have logged."""

    curves: tuple[Curve, ...] = ()
    local: tuple[Mapping[str, Cell], ...] = ()
    """Points of records that lie on this machine alone: W&B's tables do not have them, so charts carry them."""
    logged: frozenset[str] = frozenset()
    """Names in the summaries of the project's runs."""
    anchor: str | None = None
    """What BD values are against; None chooses for each data set."""
    notices: tuple[str, ...] = ()
    """Which of the runs' records are not shown, and why."""

    @property
    def datasets(self) -> tuple[str, ...]:
        """Data sets that something was tested on."""
        return tuple(dict.fromkeys(curve.dataset for curve in self.curves))

    def figures(self, dataset: str) -> list[Figure]:
        """Figures of quality that something has on a data set."""
        return figures_of(curve for curve in self.curves if curve.dataset == dataset)

    def series(self, dataset: str) -> tuple[str, ...]:
        """Names of a data set in logged keys: its own, or one for each series of it."""
        records = [p.record for c in self.curves if c.dataset == dataset for p in c.points if p.record is not None]
        names = dict.fromkeys(series_name(record) for record in records)
        return tuple(dataset if name is None else f"{dataset}-{name}" for name in names)

    def keys(self, dataset: str, figure: str, stage: Stage = "test") -> list[str]:
        """Logged names of a figure on a data set, of all its series."""
        return [metric_key(stage, series, figure) for series in self.series(dataset)]

    def validated(self, figure: str) -> list[str]:
        """Logged names of a figure of validation, on whatever the project's runs hold out."""
        parts = ((name, name.split("/")) for name in sorted(self.logged))
        return [name for name, part in parts if len(part) == 3 and (part[0], part[2]) == ("val", figure)]

    def bd_tables(self) -> list[Table]:
        """BD-rates and BD-metrics (piecewise cubic) of each data set with two curves or more."""
        tables = []
        for dataset in self.datasets:
            group = [curve for curve in self.curves if curve.dataset == dataset]
            anchor = self.anchor if any(c.codec == self.anchor for c in group) else default_anchor(group)
            if anchor is not None:
                tables += bd_tables(group, figures_of(group), anchor, ("pchip",))
        return tables


def read_content(
    local: Sequence[Path],
    fetched: Mapping[Path, str] | None = None,
    logged: Collection[str] = (),
    anchor: str | None = None,
) -> Content:
    """Read result records.

    Args:
        local: Records, or folders of them, on this machine.
        fetched: Folders of records that the project's runs hold -> the group of these runs, whose curves are their
            own, as in the chart. A local record of the same result is not counted again.
        logged: Names in the runs' summaries.
        anchor: What BD values are against, under its name in the curves.

    Raises:
        ReportError: Records on this machine that cannot be read or do not fit together, or no curve is the anchor.
    """
    shared, notices = read_groups(fetched or {})
    own = _own_points(local, shared)
    curves = tuple(build_curves({"W&B": shared, **own}))
    if anchor is not None and all(curve.codec != anchor for curve in curves):
        there = ", ".join(dict.fromkeys(curve.codec for curve in curves)) or "no results"
        raise ReportError(f"--anchor {anchor}: no such codec in these results; there are {there}")
    sources = {point.source for group in own.values() for point in group}
    rows = tuple(_row(curve, point) for curve in curves for point in curve.points if point.source in sources)
    return Content(curves, rows, frozenset(logged), anchor, tuple(notices))


def _own_points(paths: Sequence[Path], shared: Sequence[Point]) -> dict[str, list[Point]]:
    """Argument -> points found there that the runs do not hold, none under the name of a curve of theirs."""
    known = {result_of(point) for point in shared if point.record is not None}
    names = {point.codec for point in shared}
    files: dict[Path, tuple[Path, Path]] = {}
    for path in paths:
        for file in find_records([path]):
            files.setdefault(file.resolve(), (path, file))
    points: dict[str, list[Point]] = {}
    for path, file in files.values():
        for point in read_points(file):
            if point.record is not None:
                if result_of(point) in known:
                    continue
                if names & {point.codec, point_row(point.record)["curve"]}:
                    point = replace(point, codec=f"{point.codec} (local)")
            points.setdefault(str(path), []).append(point)
    return points


def _row(curve: Curve, point: Point) -> dict[str, Cell]:
    if point.record is not None:
        return {**point_row(point.record), "curve": curve.codec}
    place: dict[str, Cell] = {"curve": curve.codec, "dataset": curve.dataset, "setting": point.label}
    return {**place, **point.figures, BPP: point.bpp}
