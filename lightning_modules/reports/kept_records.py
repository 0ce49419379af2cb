"""Where copies of records are kept beside a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lightning_modules.reports.decoder_result import DecoderResult
from lightning_modules.reports.errors import ReportError

FOLDER = "records"
"""Of the copies, in that of the report."""


def kept_places(results: Sequence[DecoderResult]) -> dict[Path, str]:
    """Run directory -> its place in `FOLDER`, `{sweep}/{trial}`.

    Raises:
        ReportError: Two runs have the same two last folders.
    """
    runs: dict[str, Path] = {}
    for result in results:
        # The folder of all runs says nothing, and git is told to pass it over.
        place = "/".join(part for part in result.run_dir.resolve().parts[-2:] if part != "runs")
        if runs.setdefault(place, result.run_dir) != result.run_dir:
            raise ReportError(
                f"{runs[place]} and {result.run_dir} would both be kept as {place}: rename one of the folders"
            )
    return {run_dir: place for place, run_dir in runs.items()}
