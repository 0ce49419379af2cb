"""Copies of records with the pictures of the strips, from which a report can be made again."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_modules.reports.folder import ReportFolder
from lightning_modules.reports.kept_records import keep_records
from lightning_modules.reports.streets.models import DatasetModels
from lightning_modules.reports.streets.results import Result
from lightning_modules.reports.streets.strips import files_shown


def keep(results: Sequence[Result], datasets: Sequence[DatasetModels], folder: ReportFolder) -> None:
    """Copy records whole, and the reconstructions and label maps that strips show, to `records/{sweep}/{trial}/`.

    The originals stay where the records say, below $DATA_ROOT.

    Args:
        results: What the report is made of.
        datasets: The same, sorted.
        folder: Of the report.

    Raises:
        ReportError: See `keep_records`.
    """
    places = keep_records(results, folder)
    for run_dir, file in sorted({pair for models in datasets for pair in files_shown(models)}):
        # A record names its reconstructions from where it lies.
        inside = file.resolve().relative_to(run_dir.resolve()).as_posix()
        folder.write_bytes(f"{places[run_dir]}/{inside}", file.read_bytes())
