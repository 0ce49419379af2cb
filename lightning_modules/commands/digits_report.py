"""`digits_report`: records of the digits experiments to the paper's tables and figures, ours beside the paper's."""

import argparse
from pathlib import Path

from lightning_modules.commands.errors import CommandError
from lightning_modules.reports.errors import ReportError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lightning_modules.cli digits_report",
        description="Make the reproduction report of the conditional perceptual codec on digits from result records: "
        "rates, Table 1, Table 3 with Fig. 5, Fig. 10 and the samples of Figs. 11-15 of Xu et al. (2023), ours "
        "beside the paper's, as a README.md with tables as CSV and figures as PNG and SVG. Records of other codecs "
        "are ignored.",
        epilog="example: digits_report runs/digits_rate runs/digits_beta -o docs/results/digits",
    )
    parser.add_argument(
        "results", nargs="+", type=Path, metavar="RESULTS", help="result records, or folders that hold them"
    )
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="DIR", help="folder of the report")
    parser.add_argument(
        "--keep_records",
        action="store_true",
        help="copy the records, with rows of 100 images each, and the sample grids to records/ of the report",
    )
    parser.add_argument("--force", action="store_true", help="write into a folder that holds other files too")
    return parser


def main(args: list[str]) -> None:
    """Run the verb.

    Raises:
        CommandError: There is no digits record, records cannot be read or do not fit together, or the output folder
            holds something else.
    """
    options = _parser().parse_args(args)
    # Drawing and what it imports take seconds to load, which the other verbs need not wait for.
    from lightning_modules.reports.digits.make import make_digits_report

    try:
        make_digits_report(options.results, options.output, options.force, options.keep_records)
    except ReportError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{options.output}: cannot be written ({error})") from error
