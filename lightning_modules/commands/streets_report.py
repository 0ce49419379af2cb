"""`streets_report`: records of the street-scenes experiments to the paper's Table 2 and figures, ours beside its."""

import argparse
from pathlib import Path

from lightning_modules.commands.errors import CommandError
from lightning_modules.reports.errors import ReportError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lightning_modules.cli streets_report",
        description="Make the reproduction report of the conditional perceptual codec on street scenes from result "
        "records: rates with the curves of Fig. 6, Table 2, the interpolation between the decoders and the pictures "
        "of Figs. 16-19 of Xu et al. (2023), ours beside the paper's, as a README.md with tables as CSV and LaTeX "
        "and figures as PNG and SVG. Records of other codecs are ignored.",
        epilog="example: streets_report runs/streets_camvid -o docs/results/streets --keep_records",
    )
    parser.add_argument(
        "results", nargs="+", type=Path, metavar="RESULTS", help="result records, or folders that hold them"
    )
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="DIR", help="folder of the report")
    parser.add_argument(
        "--keep_records",
        action="store_true",
        help="copy the records, and the reconstructions and label maps that are shown, to records/ of the report",
    )
    parser.add_argument("--force", action="store_true", help="write into a folder that holds other files too")
    return parser


def main(args: list[str]) -> None:
    """Run the verb.

    Raises:
        CommandError: There is no record of street scenes, records cannot be read or do not fit together, or the
            output folder holds something else.
    """
    options = _parser().parse_args(args)
    # Drawing and what it imports take seconds to load, which the other verbs need not wait for.
    from lightning_modules.reports.streets.make import make_streets_report

    try:
        make_streets_report(options.results, options.output, options.force, options.keep_records)
    except ReportError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{options.output}: cannot be written ({error})") from error
