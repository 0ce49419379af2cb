"""The records that a project's runs hold as points, under the names that the chart gives their curves."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from callbacks.rd_points import point_row
from lightning_modules.dashboard.vega import label
from lightning_modules.reports.comparable import sizes
from lightning_modules.reports.errors import ReportError
from lightning_modules.reports.figures import is_cost
from lightning_modules.reports.model import Point
from lightning_modules.reports.records import json_files, may_be_result, read_points

Images = frozenset[tuple[str, tuple[int, int]]]


def read_groups(folders: Mapping[Path, str]) -> tuple[list[Point], list[str]]:
    """Read fetched records; what is unfit costs its own point and no other.

    Of one curve's records those count that are of the most images: a quick test of two images among those of a whole
    data set is no point of their curve.

    Args:
        folders: `{folder}/{run}/results/*.json` -> the group of its runs, "" for none.

    Returns:
        The points, each under the name of its curve in the chart, and a line for each record that is not among them,
        by run and file.
    """
    notices: list[str] = []
    curves: dict[tuple[str, str], list[Point]] = defaultdict(list)
    for folder, group in folders.items():
        for file in json_files(folder):
            if not may_be_result(file):
                continue
            try:
                for point in read_points(file):
                    name = _label(point, group)
                    curves[name, point.dataset].append(replace(point, codec=name))
            except ReportError as error:
                # The folder is a temporary one: its name says nothing.
                notices.append(f"{_origin(file, folder)}: {str(error).removeprefix(str(file)).lstrip(': ')}")
    kept: list[Point] = []
    for (name, dataset), points in curves.items():
        counts = Counter(map(_images, points))
        usual = max(counts, key=lambda images: (len(images), counts[images]))
        for point in points:
            if _images(point) == usual:
                kept.append(point)
                continue
            (folder,) = (folder for folder in folders if Path(point.source).is_relative_to(folder))
            notices.append(
                f"{_origin(Path(point.source), folder)}: {name} at {point.label} was tested on {len(_images(point))} "
                f"images of {dataset}, not on the {len(usual)} that count for this curve"
            )
    return kept, notices


def result_of(point: Point) -> str:
    """Equal for records of the same result, such as one on this machine and the copy that a run holds of it."""
    assert point.record is not None
    record = point.record
    mean = {name: value for name, value in record["mean"].items() if not is_cost(name) or name == "bpp"}
    who = [record["codec"], record["dataset"], record["lambda"], record.get("setting"), record["weights"]]
    return repr([*who, sorted(mean.items()), sorted(_images(point))])


def _label(point: Point, group: str) -> str:
    if point.record is None:
        return label(point.codec, group)
    return label(str(point_row(point.record)["curve"]), group)


def _images(point: Point) -> Images:
    return frozenset(sizes(point).items())


def _origin(file: Path, folder: Path) -> str:
    run, *name = file.relative_to(folder).parts
    return f"run {run}, {'/'.join(name)}"
