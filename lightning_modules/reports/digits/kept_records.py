"""Copies of records that are small enough to be kept beside a report, which can be made from them again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning_modules.reports.digits.results import Result
from lightning_modules.reports.folder import ReportFolder
from lightning_modules.reports.kept_records import keep_records

ROWS = 100
"""Images whose rows are kept: those of a sample grid."""


def keep(results: Sequence[Result], folder: ReportFolder) -> None:
    """Copy records with the rows of their first images, and sample grids, to `records/{sweep}/{trial}/`.

    Means and protocols are those of all images, whose number the copy tells as `images_measured`. A record of 10,000
    images becomes about a hundredth of its size.

    Args:
        results: What the report is made of.
        folder: Of the report.

    Raises:
        ReportError: See `keep_records`.
    """
    for run_dir, place in keep_records(results, folder, _with_few_rows).items():
        for grid in sorted((run_dir / "grids").glob("*.png")):
            folder.write_bytes(f"{place}/grids/{grid.name}", grid.read_bytes())


def _with_few_rows(record: dict[str, Any]) -> dict[str, Any]:
    rows = sorted(record["images"], key=lambda row: row["name"])
    return {**record, "images_measured": record.get("images_measured", len(rows)), "images": rows[:ROWS]}
