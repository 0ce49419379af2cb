"""`digits_report`: records of the digits experiments to the paper's tables and figures, ours beside the paper's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_modules.commands.reporting import run_reproduction

if TYPE_CHECKING:
    from lightning_modules.reports.digits.models import DatasetModels
    from lightning_modules.reports.digits.results import Result
    from lightning_modules.reports.reproduction import Reproduction


def main(args: list[str]) -> None:
    """Run the verb.

    Raises:
        CommandError: See `run_reproduction`.
    """
    run_reproduction(
        args,
        verb="digits_report",
        description="Make the reproduction report of the conditional perceptual codec on digits from result records: "
        "rates, Table 1, Table 3 with Fig. 5, Fig. 10 and the samples of Figs. 11-15 of Xu et al. (2023), ours "
        "beside the paper's, as a README.md with tables as CSV and figures as PNG and SVG. Records of other codecs "
        "are ignored.",
        example="digits_report runs/digits_rate runs/digits_beta -o docs/results/digits",
        kept="the records, with rows of 100 images each, and the sample grids",
        load=_load,
    )


def _load() -> Reproduction[Result, DatasetModels]:
    from lightning_modules.reports.digits.make import REPORT

    return REPORT
