"""`streets_report`: records of the street-scenes experiments to the paper's Table 2 and figures, ours beside its."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_modules.commands.reporting import run_reproduction

if TYPE_CHECKING:
    from lightning_modules.reports.reproduction import Reproduction
    from lightning_modules.reports.streets.models import DatasetModels
    from lightning_modules.reports.streets.results import Result


def main(args: list[str]) -> None:
    """Run the verb.

    Raises:
        CommandError: See `run_reproduction`.
    """
    run_reproduction(
        args,
        verb="streets_report",
        description="Make the reproduction report of the conditional perceptual codec on street scenes from result "
        "records: rates with the curves of Fig. 6, Table 2, the interpolation between the decoders and the pictures "
        "of Figs. 16-19 of Xu et al. (2023), ours beside the paper's, as a README.md with tables as CSV and LaTeX "
        "and figures as PNG and SVG. Records of other codecs are ignored.",
        example="streets_report runs/streets_camvid -o docs/results/streets --keep_records",
        kept="the records, and the reconstructions and label maps that are shown,",
        load=_load,
    )


def _load() -> Reproduction[Result, DatasetModels]:
    from lightning_modules.reports.streets.make import REPORT

    return REPORT
