"""`dashboard`: a W&B workspace of rate-distortion curves, BD values, pictures and training, and a report to share."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from lightning_modules.commands.errors import CommandError
from lightning_modules.dashboard.errors import DashboardError
from lightning_modules.reports.errors import ReportError

STATE = Path(".dashboard.json")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lightning_modules.cli dashboard",
        description="Make or update a W&B workspace and a report from the result records of a project's runs: curves "
        "per data set and figure, BD values, reconstructions, training health, progress of a sweep. The same command "
        "again updates the same view and the same report.",
        epilog="example: dashboard --entity team --project taco --results docs/results/kodak_anchors",
    )
    parser.add_argument("--entity", required=True, metavar="NAME", help="W&B team or user")
    parser.add_argument("--project", required=True, metavar="NAME", help="W&B project, as in trainer.logger")
    parser.add_argument(
        "--sweep", nargs="+", default=[], metavar="ID", help="only the runs of these W&B sweeps, and of these groups"
    )
    parser.add_argument(
        "--results",
        nargs="+",
        type=Path,
        default=[],
        metavar="RESULTS",
        help="result records, or folders of them, on this machine, such as those of `anchors`: shown beside the runs",
    )
    parser.add_argument("--anchor", metavar="CODEC", help="what BD values are against (default: as in `report`)")
    parser.add_argument("--view", metavar="URL", help=f"view to update (default: the one in {STATE})")
    parser.add_argument(
        "--state",
        type=Path,
        default=STATE,
        metavar="FILE",
        help=f"where view and report are remembered; keep it with the code to share them (default: {STATE})",
    )
    parser.add_argument(
        "--print-json",
        action="store_true",
        help="print what would be sent, from --results alone; needs neither network nor account",
    )
    return parser


def main(args: list[str]) -> None:
    """Run the verb.

    Raises:
        CommandError: wandb-workspaces is not installed, nobody is logged in, there is no such project or view, or
            records do not fit together.
    """
    options = _parser().parse_args(args)
    try:
        import wandb_workspaces  # noqa: F401  what follows needs it
    except ImportError as error:
        raise CommandError(
            'dashboard needs a package that is not installed here: pip install "wandb-workspaces>=0.4.13"'
        ) from error
    try:
        _print(options, args) if options.print_json else _send(options, args)
    except (DashboardError, ReportError) as error:
        raise CommandError(str(error)) from error


def _print(options: argparse.Namespace, args: list[str]) -> None:
    from lightning_modules.dashboard.client import sent
    from lightning_modules.dashboard.content import read_content
    from lightning_modules.dashboard.page import report
    from lightning_modules.dashboard.panels import workspace
    from lightning_modules.dashboard.vega import chart_name, rd_chart

    content = read_content(options.results, anchor=options.anchor)
    chart = rd_chart(content.local)
    where = (content, options.entity, options.project, f"{options.entity}/{chart_name(chart)}", options.sweep)
    command = [argument for argument in args if argument != "--print-json"]
    what = sent(chart, workspace(*where), report(*where, command=["dashboard", *command]))
    print(json.dumps(what, indent=2, ensure_ascii=False))


def _send(options: argparse.Namespace, args: list[str]) -> None:
    from lightning_modules.dashboard.client import connect, put_chart, put_report, put_workspace
    from lightning_modules.dashboard.content import read_content
    from lightning_modules.dashboard.fetch import fetch_records
    from lightning_modules.dashboard.memory import Memory
    from lightning_modules.dashboard.page import report
    from lightning_modules.dashboard.panels import workspace
    from lightning_modules.dashboard.vega import rd_chart

    memory = Memory(options.state)
    name = f"{options.entity}/{options.project}" + "".join(f" {sweep}" for sweep in options.sweep)
    api = connect()
    with tempfile.TemporaryDirectory() as folder:
        fetched = fetch_records(api, options.entity, options.project, options.sweep, Path(folder))
        content = read_content(options.results, fetched.folders, fetched.logged, options.anchor)
        for notice in content.notices:
            print(f"Not shown: {notice}", file=sys.stderr)
        chart = put_chart(api, options.entity, rd_chart(content.local), memory, name)
        where = (content, options.entity, options.project, chart, options.sweep)
        print(f"workspace  {put_workspace(workspace(*where), memory, name, options.view)}")
        print(f"report     {put_report(report(*where, command=['dashboard', *args]), memory, name)}")
