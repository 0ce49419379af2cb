"""Sending a dashboard to W&B, the same view every time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import wandb
from wandb_workspaces import workspaces as ws
from wandb_workspaces.reports import v2 as wr

from lightning_modules.dashboard.errors import DashboardError, first_line
from lightning_modules.dashboard.memory import Memory
from lightning_modules.dashboard.vega import chart_name


def connect() -> Any:
    """W&B's API with the account of this machine.

    Raises:
        DashboardError: Nobody is logged in, or the server does not accept it.
    """
    try:
        return wandb.Api()
    except wandb.Error as error:
        raise DashboardError(
            f"not logged in to W&B ({first_line(error)}): run `wandb login` once, or set WANDB_API_KEY. "
            "--print-json needs no account"
        ) from error


def put_chart(api: Any, entity: str, chart: Mapping[str, Any], memory: Memory, name: str) -> str:
    """Make the rate-distortion chart a preset of the entity, if it is not one yet.

    Args:
        api: `wandb.Api`.
        entity: Who owns it.
        chart: In Vega-Lite; its content gives its name.
        memory: Remembers that it was made.
        name: Of the dashboard, in the memory.

    Returns:
        Its id, "entity/name".

    Raises:
        DashboardError: The server refuses.
    """
    place = memory.recall(name)
    chart_id = f"{entity}/{chart_name(chart)}"
    if place.chart == chart_id:
        return chart_id
    try:
        chart_id = api.create_custom_chart(
            entity=entity,
            name=chart_name(chart),
            display_name="Rate-distortion curves",
            spec_type="vega2",
            access="private",
            spec=json.dumps(chart, ensure_ascii=False),
        )
    except Exception as error:
        # A colleague has made it: the name says that it is the same one.
        if "already exists" not in str(error):
            raise DashboardError(
                f"{entity} cannot have the rate-distortion chart ({first_line(error)}): check --entity, and that you "
                "may write there"
            ) from error
    place.chart = chart_id
    memory.keep(name, place)
    return chart_id


def put_workspace(new: ws.Workspace, memory: Memory, name: str, view: str | None = None) -> str:
    """Save a workspace: over the view that is known, or else as a new one.

    Of a known view its sections are replaced, its name, filter and columns; sections under other names, which people
    have added, stay and come last, and so do the settings and colours of the view.

    Args:
        new: What it shall be.
        memory: Remembers the view.
        name: Of the dashboard, in the memory.
        view: URL of the view, in place of the one that is remembered.

    Returns:
        URL of the view.

    Raises:
        DashboardError: The view is not there, is of another project, or the server refuses.
    """
    place = memory.recall(name)
    url = view or place.view
    try:
        saved = (new if url is None else _over(ws.Workspace.from_url(url), new, url)).save()
    except DashboardError:
        raise
    except Exception as error:
        known = f" {url}" if url else ""
        remedy = f"give another with --view, or take its line from {memory.path}" if url else "check --entity"
        raise DashboardError(f"the view{known} cannot be saved ({first_line(error)}): {remedy}") from error
    place.view = saved.url
    memory.keep(name, place)
    return saved.url


def put_report(new: wr.Report, memory: Memory, name: str) -> str:
    """Save a report: over the one that is remembered, all of it, or else as a new one.

    Returns:
        Its URL.

    Raises:
        DashboardError: The server refuses.
    """
    place = memory.recall(name)
    new.id = place.report_id or ""
    try:
        saved = new.save()
    except Exception as error:
        remedy = f"take its lines from {memory.path} to make a new one" if place.report_id else "check --entity"
        raise DashboardError(f"the report cannot be saved ({first_line(error)}): {remedy}") from error
    place.report, place.report_id = saved.url, saved.id
    memory.keep(name, place)
    return saved.url


def sent(chart: Mapping[str, Any], workspace: ws.Workspace, report: wr.Report) -> dict[str, Any]:
    """What the server would get, as plain values: `spec` of `chart`, `workspace` and `report`, with names."""
    view, page = workspace._to_model(), report._to_model()
    return {
        "chart": {"name": chart_name(chart), "spec": dict(chart)},
        "workspace": {"title": view.display_name, "spec": _plain(view.spec)},
        "report": {"title": page.display_name, "description": page.description, "spec": _plain(page.spec)},
    }


def _over(old: ws.Workspace, new: ws.Workspace, url: str) -> ws.Workspace:
    if (old.entity, old.project) != (new.entity, new.project):
        raise DashboardError(
            f"{url} is a view of {old.entity}/{old.project}, not of {new.entity}/{new.project}: give one of the same "
            "project with --view"
        )
    before = {section.name: section for section in old.sections}
    for section in new.sections:
        if section.name in before:
            section._id = before.pop(section.name)._id
    old.name, old.sections = new.name, [*new.sections, *before.values()]
    old.runset_settings.filters = new.runset_settings.filters
    old.runset_settings.pinned_columns = new.runset_settings.pinned_columns
    return old


def _plain(spec: Any) -> Any:
    return json.loads(spec.model_dump_json(by_alias=True, exclude_none=True))
