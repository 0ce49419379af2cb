"""The panels of a workspace, section by section."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from wandb_workspaces import expr
from wandb_workspaces import workspaces as ws
from wandb_workspaces.reports import v2 as wr

from callbacks.names import (
    BPP,
    BPP_GAP,
    DECODE_MS,
    ENCODE_MS,
    GRID,
    IMAGES_PER_SECOND,
    PEAK_MEMORY,
    PSNR,
    RD_POINTS,
    RECONSTRUCTIONS,
    metric_key,
    train_key,
)
from lightning_modules.dashboard.content import Content
from lightning_modules.reports.markdown import table_markdown
from lightning_modules.reports.model import Figure

NAME = "Rate-distortion"
STEP = "trainer/global_step"
EPOCH = "epoch"
WALL = "RelativeTime(Wall)"
LOSS = "val/loss"
LEARNING_RATE = "lr/net"
COLUMNS = ("run:state", "run:jobType", "run:group", "config:model.lmbda.value", "config:model.codec.bits.value")
NOTHING_YET = "No result records yet: run `dashboard` again once something has been tested."
DIRECTION = {True: "higher is better", False: "lower is better", None: ""}


def workspace(content: Content, entity: str, project: str, chart: str, sweeps: Sequence[str] = ()) -> ws.Workspace:
    """The workspace, new and not yet sent.

    Args:
        content: What it shows.
        entity: Team or user.
        project: The project.
        chart: Id of the rate-distortion chart, "entity/name".
        sweeps: Show the runs of these sweeps (by id) and groups alone.
    """
    sections = [
        _section("Rate-distortion", rd_panels(content, chart) or [_note(NOTHING_YET)], columns=2, rows=2),
        _section("BD values", bd_panels(content), columns=1, rows=2),
        _section("Reconstructions", reconstruction_panels(content), columns=1, rows=2),
        _section("Training health", health_panels(content), columns=3, rows=3),
        _section("Sweep progress", progress_panels(), columns=2, rows=2),
    ]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=title_of(sweeps),
        sections=sections,
        settings=ws.WorkspaceSettings(x_axis=STEP, max_runs=100),
        runset_settings=ws.RunsetSettings(filters=run_filter(sweeps), pinned_columns=list(COLUMNS)),
    )


def title_of(sweeps: Sequence[str]) -> str:
    """Of workspace and report."""
    return f"{NAME}: {', '.join(sweeps)}" if sweeps else NAME


def run_filter(sweeps: Sequence[str]) -> Any:
    """Runs of some sweeps: those of W&B's agents have a sweep's id, those of the verb `sweep` and tests a group."""
    kinds = (expr.Metric("Sweep"), expr.Metric("Group"))
    return expr.Or(*(kind == sweep for sweep in sweeps for kind in kinds)) if sweeps else ""


def rd_panels(content: Content, chart: str) -> list[wr.CustomChart]:
    """A chart for each data set and figure."""
    return [
        wr.CustomChart(
            query={"id": None, "name": None, "summaryTable": {"tableKey": RD_POINTS}},
            chart_name=chart,
            chart_fields={"y": figure.name},
            chart_strings={
                "dataset": dataset,
                "title": f"{figure.title} on {dataset}",
                "y_title": _axis(figure),
            },
        )
        for dataset in content.datasets
        for figure in content.figures(dataset)
    ]


def bd_panels(content: Content) -> list[wr.MarkdownPanel]:
    """The BD tables, or why there are none."""
    tables = content.bd_tables()
    return [wr.MarkdownPanel(markdown=table_markdown(table)) for table in tables] or [
        _note("No BD values: they need two curves on one data set." if content.curves else NOTHING_YET)
    ]


def reconstruction_panels(content: Content) -> list[wr.MediaBrowser]:
    """Pictures: runs beside each other, image by image; and those of validation, step by step."""
    grids = [
        wr.MediaBrowser(
            title=f"{dataset}: runs beside each other",
            media_keys=[
                metric_key("test", series, kind)
                for series in content.series(dataset)
                for kind in (RECONSTRUCTIONS, GRID)
            ],
            mode="grid",
            grid_x_axis="run",
            grid_y_axis="index",
        )
        for dataset in content.datasets
    ]
    if keys := [*content.validated(RECONSTRUCTIONS), *content.validated(GRID)]:
        grids.append(
            wr.MediaBrowser(title="Validation, while training", media_keys=keys, mode="gallery", gallery_axis="step")
        )
    return grids


def health_panels(content: Content) -> list[Any]:
    """Whether training is sound, and what it costs."""
    lines = {
        "Loss": [train_key("loss"), LOSS],
        "Rate in bits per pixel": [train_key(BPP), *content.validated(BPP)],
        "PSNR in dB": [train_key(PSNR), *content.validated(PSNR)],
        "Loss of the quantiles": [train_key("aux_loss")],
        "Norm of the gradient, before clipping": [train_key("grad_norm")],
        "Learning rate": [LEARNING_RATE],
        "Images per second": [IMAGES_PER_SECOND],
        "Peak GPU memory in GiB": [PEAK_MEMORY],
        "Two decoders: error of g1 and g2": [train_key("mse"), train_key("mse_g2")],
        "Two decoders: critic": [train_key("wasserstein"), train_key("penalty"), train_key("g2_loss")],
    }
    gaps = [key for dataset in content.datasets for key in content.keys(dataset, BPP_GAP)]
    times = [
        key for dataset in content.datasets for name in (ENCODE_MS, DECODE_MS) for key in content.keys(dataset, name)
    ]
    bars = {"File minus likelihood, in bits per pixel": gaps, "Coding time per image, in ms": times}
    return [
        *(wr.LinePlot(title=title, x=STEP, y=list(names)) for title, names in lines.items()),
        *(wr.BarPlot(title=title, metrics=list(names)) for title, names in bars.items() if names),
    ]


def progress_panels() -> list[Any]:
    """How far the trials of a sweep are; their states stand in the list of runs."""
    return [
        wr.BarPlot(title="Epochs done, by run", metrics=[EPOCH], max_bars_to_show=100),
        wr.LinePlot(title="Loss of validation over time", x=WALL, y=[LOSS], max_runs_to_show=100),
        wr.WeavePanelSummaryTable(table_name=RD_POINTS),
    ]


def fix_ids(panels: Sequence[Any], section: str) -> None:
    """Give panels ids that follow from what they show.

    By itself the package draws them at random, and W&B, which keeps under a panel's id what people have changed about
    it, would forget that with every update.
    """
    for number, panel in enumerate(panels):
        strings = getattr(panel, "chart_strings", {})
        shown = strings.get("title") or getattr(panel, "title", None) or f"{type(panel).__name__} {number}"
        panel._id = short_id(section, shown)


def short_id(*parts: str) -> str:
    """Twelve characters that follow from the parts, as W&B's own ids have."""
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:12]


def _section(name: str, panels: Sequence[Any], columns: int, rows: int) -> ws.Section:
    fix_ids(panels, name)
    layout = ws.SectionLayoutSettings(columns=columns, rows=rows)
    return ws.Section(name=name, panels=list(panels), is_open=True, layout_settings=layout)


def _note(text: str) -> wr.MarkdownPanel:
    return wr.MarkdownPanel(markdown=text)


def _axis(figure: Figure) -> str:
    unit = f" in {figure.unit}" if figure.unit else ""
    direction = DIRECTION[figure.higher_is_better]
    return f"{figure.title}{unit}{f' ({direction})' if direction else ''}"
