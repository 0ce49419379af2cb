"""The result records that a project's runs hold."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from callbacks.names import RD_POINTS, RECORDS
from lightning_modules.dashboard.errors import DashboardError, first_line

_UNFIT = re.compile(r"[^A-Za-z0-9_.-]+")
UNGROUPED = "runs"
"""Folder of runs without group and sweep."""


class Fetched(NamedTuple):
    """What a project's runs have to show."""

    folders: list[Path]
    """Of result records, one for each group of runs."""
    logged: frozenset[str]
    """Names in the runs' summaries."""


def fetch_records(api: Any, entity: str, project: str, sweeps: Sequence[str], folder: Path) -> Fetched:
    """Download the records of the tests in a project.

    Where several runs of a group have tested the same codec at the same setting on the same data, the newest counts.

    Args:
        api: `wandb.Api`.
        entity: Team or user.
        project: The project.
        sweeps: Take the runs of these sweeps (by id) and groups alone.
        folder: Where the records go: `{group}/{run}/results/*.json`.

    Raises:
        DashboardError: There is no such project, or not for this account.
    """
    filters = {"$or": [{kind: sweep} for sweep in sweeps for kind in ("sweep", "group")]} if sweeps else {}
    folders: dict[Path, None] = {}
    logged: set[str] = set()
    taken: set[str] = set()
    try:
        runs = api.runs(f"{entity}/{project}", filters=filters, order="-created_at", include_sweeps=False, lazy=False)
        for run in runs:
            logged |= set(run.summary.keys())
            if RD_POINTS not in run.summary:
                continue
            group = _UNFIT.sub("_", run.group or run.sweep_name or UNGROUPED)
            for file in run.files(pattern=f"{RECORDS}/%"):
                if file.name.endswith(".json"):
                    path = folder / group / run.id / file.name
                    file.download(root=str(folder / group / run.id), replace=True)
                    if _is_first(path, group, taken):
                        folders[folder / group] = None
    except Exception as error:
        # W&B's client raises several kinds without a common parent, also for "no such project".
        raise DashboardError(
            f"{entity}/{project} cannot be read ({first_line(error)}): check --entity and --project, and that the "
            "account you are logged in with may see it"
        ) from error
    return Fetched(list(folders), frozenset(logged))


def _is_first(path: Path, group: str, taken: set[str]) -> bool:
    record = json.loads(path.read_text(encoding="utf-8"))
    name = repr((group, [record.get(key) for key in ("codec", "lambda", "setting", "dataset")]))
    if name in taken:
        path.unlink()
        return False
    taken.add(name)
    return True
