"""The report: the same curves, tables and pictures with text around them, to be shared."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from wandb_workspaces.reports import v2 as wr

from lightning_modules.dashboard.content import Content
from lightning_modules.dashboard.panels import (
    NOTHING_YET,
    fix_ids,
    health_panels,
    rd_panels,
    reconstruction_panels,
    run_filter,
    short_id,
    title_of,
)
from lightning_modules.dashboard.tested_with import PATTERN, config_of
from lightning_modules.reports.markdown import table_markdown
from lightning_modules.reports.table import Table
from lightning_modules.reports.tables import points_table
from lightning_modules.run_directory import CONFIG

PROGRAM = ("python", "-m", "lightning_modules.cli")
WIDTH, HEIGHT = 24, 9
"""Of a row of panels, in units of W&B's grid."""

INTRODUCTION = (
    "Made by code from result records. Every rate is that of real files, header included, that were written, read "
    "back and decoded; figures are means over the images of a data set."
)
ABOUT_CURVES = (
    "Solid lines come from the runs of this project and follow them; dashed lines were on the machine of whoever "
    "made this page."
)
ABOUT_BD = (
    "Bjøntegaard deltas by piecewise cubic (pchip) interpolation over the range that each pair has in common. Curves "
    "whose images or protocols differ are not compared."
)
ABOUT_REPEATING = (
    "Every run keeps the configuration that it ran with. In the working folder, at the commit that the records name:"
)


def report(
    content: Content,
    entity: str,
    project: str,
    chart: str,
    sweeps: Sequence[str] = (),
    command: Sequence[str] = (),
) -> wr.Report:
    """The report, new and not yet sent.

    Args:
        content: What it shows.
        entity: Team or user.
        project: The project.
        chart: Id of the rate-distortion chart, "entity/name".
        sweeps: Show the runs of these sweeps (by id) and groups alone.
        command: The arguments that this page is made with, from the verb on.
    """
    title = title_of(sweeps)
    blocks = [
        wr.P(text=INTRODUCTION),
        wr.TableOfContents(),
        *(wr.P(text=f"Not shown: {notice.rstrip('.')}.") for notice in content.notices),
        wr.H2(text="Curves"),
        wr.P(text=ABOUT_CURVES),
        *_grid("Curves", rd_panels(content, chart), sweeps, columns=2),
        wr.H2(text="BD values"),
        wr.P(text=ABOUT_BD),
        *_tables([table_markdown(table) for table in content.bd_tables()]),
        wr.H2(text="Every point"),
        *_tables([table_markdown(_points(content, dataset)) for dataset in content.datasets]),
        wr.H2(text="Reconstructions"),
        *_grid("Reconstructions", reconstruction_panels(content), sweeps, columns=1),
        wr.H2(text="Training"),
        *_grid("Training", health_panels(content), sweeps, columns=3),
        wr.H2(text="How to repeat it"),
        wr.P(text=ABOUT_REPEATING),
        wr.CodeBlock(code="\n".join(commands(content, command))),
    ]
    return wr.Report(
        entity=entity, project=project, title=title, description=INTRODUCTION, blocks=blocks, width="fluid"
    )


def commands(content: Content, command: Sequence[str] = ()) -> list[str]:
    """Lines of a shell that train and test again what the records are of, and make this page again.

    A test's line names the config that the record was made with, and is a comment where that is not on this machine.
    """
    lines: dict[str, None] = {}  # in order, each once
    for record in (p.record for curve in content.curves for p in curve.points if p.record is not None):
        lines[f"# {_made_by(record)}"] = None
        folder = (record.get("config") or {}).get("run_dir")
        if folder is not None:
            lines[shlex.join([*PROGRAM, "fit", "-c", f"{folder}/{CONFIG}"])] = None
            lines[_test_again(record, folder)] = None
    return [*lines, *([shlex.join([*PROGRAM, *command])] if command else [])]


def _test_again(record: Mapping[str, Any], folder: str) -> str:
    config = config_of(record)
    if config is not None:
        return shlex.join([*PROGRAM, "test", "-c", config])
    return (
        f"# test on {record['dataset']}: {folder}/{PATTERN} with the record's config was not where this page was made"
    )


def _made_by(record: Mapping[str, Any]) -> str:
    git = record.get("git")
    if git is None:
        return f"{record['codec']}: the record knows no commit"
    return f"{record['codec']}: commit {git['commit']}{', with changes' if git['dirty'] else ''}"


def _points(content: Content, dataset: str) -> Table:
    curves = [curve for curve in content.curves if curve.dataset == dataset]
    return points_table(curves, content.figures(dataset))


def _tables(texts: Sequence[str]) -> list[Any]:
    return [wr.MarkdownBlock(text=text) for text in texts] or [wr.P(text=NOTHING_YET)]


def _grid(name: str, panels: Sequence[Any], sweeps: Sequence[str], columns: int) -> list[Any]:
    if not panels:
        return [wr.P(text=NOTHING_YET)]
    fix_ids(panels, f"report {name}")
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        width = WIDTH // columns
        panel.layout = wr.Layout(x=column * width, y=row * HEIGHT, w=width, h=HEIGHT)
    # Without entity and project a run set is of the report's own project, and needs no look-up to be built.
    runs = wr.Runset(name="Runs", filters=run_filter(sweeps))
    runs._id = short_id("runs", name)
    return [wr.PanelGrid(runsets=[runs], panels=list(panels))]
