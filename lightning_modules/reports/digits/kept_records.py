"""Copies of records that are small enough to be kept beside a report, which can be made from them again."""

from __future__ import annotations

import json
from collections.abc import Sequence

from callbacks.record import to_json
from lightning_modules.reports.digits.results import Result
from lightning_modules.reports.folder import ReportFolder
from lightning_modules.reports.kept_places import FOLDER, kept_places

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
        ReportError: See `kept_places`.
    """
    places = kept_places(results)
    for result in results:
        record = json.loads(result.path.read_text(encoding="utf-8"))
        rows = sorted(record["images"], key=lambda row: row["name"])
        small = {**record, "images_measured": record.get("images_measured", len(rows)), "images": rows[:ROWS]}
        folder.write_text(f"{FOLDER}/{places[result.run_dir]}/results/{result.path.name}", to_json(small))
    for run_dir, place in places.items():
        for grid in sorted((run_dir / "grids").glob("*.png")):
            folder.write_bytes(f"{FOLDER}/{place}/grids/{grid.name}", grid.read_bytes())
