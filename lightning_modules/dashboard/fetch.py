"""The result records that a project's runs hold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from callbacks.names import RD_POINTS, RECORDS
from lightning_modules.dashboard.errors import DashboardError, first_line


class Fetched(NamedTuple):
    """What a project's runs have to show."""

    folders: dict[Path, str]
    """Of result records -> the group of the runs that hold them, "" for runs without group and sweep."""
    logged: frozenset[str]
    """Names in the runs' summaries."""


def fetch_records(api: Any, entity: str, project: str, sweeps: Sequence[str], folder: Path) -> Fetched:
    """Download the records of the tests in a project.

    Where several runs of a group have tested the same codec at the same setting on the same images, the newest
    counts.

    Args:
        api: `wandb.Api`.
        entity: Team or user.
        project: The project.
        sweeps: Take the runs of these sweeps (by id) and groups alone.
        folder: Where the records go: `{number of group}/{run}/results/*.json`.

    Raises:
        DashboardError: There is no such project, or not for this account.
    """
    filters = {"$or": [{kind: sweep} for sweep in sweeps for kind in ("sweep", "group")]} if sweeps else {}
    folders: dict[str, Path] = {}
    logged: set[str] = set()
    taken: set[str] = set()
    try:
        runs = api.runs(f"{entity}/{project}", filters=filters, order="-created_at", include_sweeps=False, lazy=False)
        for run in runs:
            logged |= set(run.summary.keys())
            if RD_POINTS not in run.summary:
                continue
            group = run.group or run.sweep_name or ""
            place = folders.setdefault(group, folder / str(len(folders))) / run.id
            for file in run.files(pattern=f"{RECORDS}/%"):
                if file.name.endswith(".json"):
                    file.download(root=str(place), replace=True)
                    _keep_first(place / file.name, group, taken)
    except Exception as error:
        # W&B's client raises several kinds without a common parent, also for "no such project".
        raise DashboardError(
            f"{entity}/{project} cannot be read ({first_line(error)}): check --entity and --project, and that the "
            "account you are logged in with may see it"
        ) from error
    return Fetched({place: group for group, place in folders.items()}, frozenset(logged))


def _keep_first(path: Path, group: str, taken: set[str]) -> None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        images = sorted((image["name"], image["width"], image["height"]) for image in record["images"])
        name = repr((group, [record.get(key) for key in ("codec", "lambda", "setting", "dataset")], images))
    except (ValueError, LookupError, TypeError, AttributeError):
        return  # whoever reads the records says what is wrong with this one
    if name in taken:
        path.unlink()
    taken.add(name)
