"""Copies of records with the pictures of the strips, from which a report can be made again."""

from __future__ import annotations

import json

from callbacks.record import to_json
from lightning_modules.reports.folder import ReportFolder
from lightning_modules.reports.kept_places import FOLDER, kept_places
from lightning_modules.reports.streets.models import DatasetModels
from lightning_modules.reports.streets.results import Result
from lightning_modules.reports.streets.strips import files_shown


def keep(results: tuple[Result, ...], datasets: list[DatasetModels], folder: ReportFolder) -> None:
    """Copy records whole, and the reconstructions and label maps that strips show, to `records/{sweep}/{trial}/`.

    The originals stay where the records say, below $DATA_ROOT.

    Args:
        results: What the report is made of.
        datasets: The same, sorted.
        folder: Of the report.

    Raises:
        ReportError: See `kept_places`.
    """
    places = kept_places(results)
    for result in results:
        record = json.loads(result.path.read_text(encoding="utf-8"))
        folder.write_text(f"{FOLDER}/{places[result.run_dir]}/results/{result.path.name}", to_json(record))
    for run_dir, file in sorted({pair for models in datasets for pair in files_shown(models)}):
        # A record names its reconstructions from where it lies.
        inside = file.resolve().relative_to(run_dir.resolve()).as_posix()
        folder.write_bytes(f"{FOLDER}/{places[run_dir]}/{inside}", file.read_bytes())
