"""Copies of records that are kept beside a report, which can be made from them again."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from callbacks.record import to_json
from lightning_modules.reports.decoder_result import DecoderResult
from lightning_modules.reports.errors import ReportError
from lightning_modules.reports.folder import ReportFolder

FOLDER = "records"
"""Of the copies, in that of the report."""


def keep_records(
    results: Sequence[DecoderResult],
    folder: ReportFolder,
    kept: Callable[[dict[str, Any]], dict[str, Any]] = lambda record: record,
) -> dict[Path, str]:
    """Copy records to `records/{sweep}/{trial}/results/`.

    Args:
        results: What the report is made of.
        folder: Of the report.
        kept: What is kept of a record; all of it unless given.

    Returns:
        Run directory -> its place in the report's folder, `records/{sweep}/{trial}`.

    Raises:
        ReportError: Two runs have the same two last folders.
    """
    places = _places(results)
    for result in results:
        record = json.loads(result.path.read_text(encoding="utf-8"))
        folder.write_text(f"{places[result.run_dir]}/results/{result.path.name}", to_json(kept(record)))
    return places


def _places(results: Sequence[DecoderResult]) -> dict[Path, str]:
    runs: dict[str, Path] = {}
    for result in results:
        # The folder of all runs says nothing, and git is told to pass it over.
        place = "/".join(part for part in result.run_dir.resolve().parts[-2:] if part != "runs")
        if runs.setdefault(place, result.run_dir) != result.run_dir:
            raise ReportError(
                f"{runs[place]} and {result.run_dir} would both be kept as {place}: rename one of the folders"
            )
    return {run_dir: f"{FOLDER}/{place}" for place, run_dir in runs.items()}
